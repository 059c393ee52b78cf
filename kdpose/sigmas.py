"""OKS sigmas from repeated labels: ``kdpose sigmas annotations=[A,B] out=S.yaml``."""

from pathlib import Path

from omegaconf import DictConfig

from kdpose.cli import console, entry_point
from kdpose.runtime.files import check_file


@entry_point("sigmas")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    paths = [cfg.annotations] if isinstance(cfg.annotations, str) else list(cfg.annotations)
    if len(paths) < 2:
        raise ValueError("annotations must be two files or more: [A.json,B.json]")
    for path in paths:
        check_file(path, "annotations")
    from kdpose.data.annotations import load_persons
    from kdpose.evaluation.sigmas import estimate_sigmas, sigma_table, with_estimates
    from kdpose.skeletons.files import named_skeleton, write_skeleton

    skeleton = named_skeleton(cfg.skeleton or paths[0])
    labels = [load_persons(path, skeleton, "annotations") for path in paths]
    sigmas, count = estimate_sigmas(labels, len(skeleton))
    estimated = with_estimates(skeleton, sigmas, count)
    console.print(sigma_table(estimated, count))
    out = Path(cfg.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_skeleton(out, estimated)
    console.print(f"written to {out.absolute()}", soft_wrap=True)


if __name__ == "__main__":
    main()
