"""Measure: ``python -m kdpose.benchmark what=feed dataset=lspet out=feed.json``."""

import json
import tempfile
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from kdpose.benchmarks.frame import measure, report, table
from kdpose.cli import console, entry_point


@entry_point("benchmark")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    torch.set_num_threads(cfg.threads)
    what = cfg.what
    with tempfile.TemporaryDirectory(dir=cfg.scratch, prefix="kdpose-benchmark-") as scratch:
        cases = instantiate(what.cases, _partial_=True, _convert_="all")(scratch=Path(scratch))
        rows = measure(cases, cfg.repeats, what.clock, what.unit)
    console.print(table(what.title, rows))
    if cfg.out:
        about = OmegaConf.to_container(what.cases, resolve=True)
        out = Path(cfg.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        figures = report(what.name, rows, what.clock, repeats=cfg.repeats, cases=about)
        out.write_text(json.dumps(figures, indent=2))
        console.print(f"written to {out.absolute()}")


if __name__ == "__main__":
    main()
