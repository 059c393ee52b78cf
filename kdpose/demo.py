"""A local web page that shows what a network sees: ``kdpose demo``."""

from omegaconf import DictConfig

from kdpose.cli import entry_point


@entry_point("demo")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    from kdpose.inference.demo_page import serve

    serve(cfg)


if __name__ == "__main__":
    main()
