"""Export a network to other runtimes: ``kdpose export ckpt=C format=onnx out=DIR``."""

from omegaconf import DictConfig

from kdpose.cli import console, entry_point
from kdpose.runtime.files import check_checkpoint


@entry_point("export")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    if cfg.ckpt:
        check_checkpoint(cfg.ckpt, "ckpt")
    from kdpose.deploy.export import check_request, export, missing_packages

    check_request(cfg.format, cfg.precision)
    missing = missing_packages()
    if missing:
        raise ValueError(missing)
    report = export(cfg)
    if not report["passed"]:
        raise ValueError(f"{report['path']} is rejected: {report['fault']}")
    console.print(f"written to {report['path']}, runner.py beside it", soft_wrap=True)


if __name__ == "__main__":
    main()
