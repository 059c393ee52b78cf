"""Collate runs into one report: ``kdpose report runs=runs/lspet_ablation``."""

from omegaconf import DictConfig

from kdpose.cli import entry_point


@entry_point("report")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    from kdpose.reports.ablation.report import write_report

    write_report(cfg)


if __name__ == "__main__":
    main()
