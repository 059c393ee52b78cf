"""Count a network's parameters and multiply-adds: ``kdpose complexity ckpt=C``."""

import json
from pathlib import Path

from omegaconf import DictConfig

from kdpose.cli import console, entry_point
from kdpose.runtime.files import check_checkpoint


@entry_point("complexity")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    if cfg.ckpt:
        check_checkpoint(cfg.ckpt, "ckpt")
    from kdpose.checkpoints.load import load_net
    from kdpose.evaluation.cost import build, complexity, complexity_table, paper_complexity
    from kdpose.runtime.provenance import code_version

    net = load_net(cfg.ckpt).net if cfg.ckpt else build(cfg)
    name = str(cfg.ckpt or cfg.name)
    ours, paper = complexity(net), paper_complexity(net)
    width, height = net.codec.input_size
    title = f"{name}: {len(net.skeleton)} joints, {height}x{width} (h x w)"
    console.print(title, soft_wrap=True, highlight=False)
    console.print(complexity_table(ours, paper))
    if cfg.out:
        record = {
            "name": name,
            "joints": len(net.skeleton),
            "input_size": [width, height],
            **ours,
            "paper_params": paper["params"],
            "paper_gmacs": paper["gmacs"],
            **code_version(),
        }
        out = Path(cfg.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=2))
        console.print(f"written to {out.absolute()}", soft_wrap=True)


if __name__ == "__main__":
    main()
