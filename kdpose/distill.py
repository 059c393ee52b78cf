"""From data and a teacher to a student ready for deployment: ``kdpose distill student=lcnet_075``.

Exits with status 1 if an exported file fails its gate, after everything else is done.
"""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kdpose.cli import entry_point
from kdpose.runtime.files import check_checkpoint


@entry_point("distill")
def main(cfg: DictConfig) -> float | None:
    """Entry point; returns the AP of the refined student."""
    if any(word.startswith("teacher.ckpt=") for word in HydraConfig.get().overrides.task):
        check_checkpoint(cfg.teacher.ckpt, "teacher.ckpt")
    from kdpose.reports.student.distill import distill

    return distill(cfg)


if __name__ == "__main__":
    main()
