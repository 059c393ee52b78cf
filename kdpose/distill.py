"""Your data and any teacher to a student to deploy: ``kdpose distill student=lcnet_075``.

Ends with status 1 where an exported file does not pass its gate, after everything else is done.
"""

from omegaconf import DictConfig

from kdpose.cli import entry_point


@entry_point("distill")
def main(cfg: DictConfig) -> float | None:
    """Entry point; returns the AP of the refined student."""
    from kdpose.reports.student.distill import distill

    return distill(cfg)


if __name__ == "__main__":
    main()
