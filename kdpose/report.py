"""Collect runs into one report: ``kdpose report runs=runs/lspet_ablation``."""

from omegaconf import DictConfig

from kdpose.cli import entry_point
from kdpose.runtime.files import check_folder


@entry_point("report")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    for folder in [cfg.runs] if isinstance(cfg.runs, str) else cfg.runs:
        check_folder(folder, "runs")
    from kdpose.reports.ablation.report import write_report

    write_report(cfg)


if __name__ == "__main__":
    main()
