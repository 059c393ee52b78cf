"""Write a checkpoint for release, with a model card: ``kdpose publish ckpt=C``."""

from pathlib import Path

from omegaconf import DictConfig

from kdpose.cli import console, entry_point
from kdpose.runtime.files import check_checkpoint


@entry_point("publish")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    check_checkpoint(cfg.ckpt, "ckpt")
    from kdpose.deploy.publish import publish

    console.print(publish(cfg), markup=False, soft_wrap=True)
    console.print(f"written to {Path(cfg.out).absolute()}", soft_wrap=True)


if __name__ == "__main__":
    main()
