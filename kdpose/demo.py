"""A local web page that shows the poses of a network: ``kdpose demo``."""

from omegaconf import DictConfig

from kdpose.cli import entry_point
from kdpose.runtime.files import check_checkpoint


@entry_point("demo")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    if cfg.ckpt:
        check_checkpoint(cfg.ckpt, "ckpt")
    from kdpose.inference.demo_page import serve

    serve(cfg)


if __name__ == "__main__":
    main()
