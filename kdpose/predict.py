"""Find poses in images and videos: ``kdpose predict ckpt=C source=photo.jpg``."""

from omegaconf import DictConfig

from kdpose.cli import entry_point
from kdpose.runtime.files import check_checkpoint, check_source


@entry_point("predict")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    if cfg.ckpt:
        check_checkpoint(cfg.ckpt, "ckpt")
    check_source(str(cfg.source))
    from kdpose.inference.predict import predict

    predict(cfg)


if __name__ == "__main__":
    main()
