"""Score a checkpoint, or any COCO results: ``kdpose evaluate ckpt=C``."""

from pathlib import Path

from omegaconf import DictConfig

from kdpose.cli import console, entry_point
from kdpose.runtime.files import check_checkpoint, check_file
from kdpose.runtime.whole import write_json


@entry_point("evaluate")
def main(cfg: DictConfig) -> float | None:
    """Entry point."""
    if cfg.ckpt:
        check_checkpoint(cfg.ckpt, "ckpt")
    for key in ("annotations", "predictions"):
        if cfg[key]:
            check_file(cfg[key], key)
    from kdpose.display.tables import caption, metrics_table
    from kdpose.evaluation.command import evaluate

    metrics = evaluate(cfg)
    name = metrics.pop("model")
    rows = {f"{name}, {k}": row for k, row in metrics.get("sources", {}).items()}
    console.print(metrics_table(caption(metrics), rows or {name: metrics}))
    if cfg.out:
        out = Path(cfg.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, metrics, indent=2)
        console.print(f"written to {out.absolute()}", soft_wrap=True)
    return metrics["AP"]


if __name__ == "__main__":
    main()
