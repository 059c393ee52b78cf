"""Run a benchmark: ``kdpose benchmark what=feed dataset=lspet out=feed.json``."""

import sys
from importlib.util import find_spec

from omegaconf import DictConfig

from kdpose.cli import console, entry_point


@entry_point("benchmark")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    if find_spec("benchmarks") is None:
        raise ValueError(
            "kdpose benchmark needs the folder `benchmarks`: run it in a clone of kdpose"
        )
    from benchmarks.run import run

    table = run(cfg, " ".join(["kdpose benchmark", *sys.argv[1:]]))
    console.print(table)
    if cfg.out:
        console.print(f"written to {cfg.out} and, as a page, to a .md beside it", soft_wrap=True)


if __name__ == "__main__":
    main()
