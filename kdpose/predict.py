"""Find poses in images and videos: ``kdpose predict ckpt=C source=photo.jpg``."""

from omegaconf import DictConfig

from kdpose.cli import entry_point


@entry_point("predict")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    from kdpose.inference.predict import predict

    predict(cfg)


if __name__ == "__main__":
    main()
