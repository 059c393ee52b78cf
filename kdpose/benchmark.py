"""Measure: ``python -m kdpose.benchmark what=feed dataset=lspet out=feed.json``."""

import json
import sys
import tempfile
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from benchmarks.frame import Clock, measure, report, table
from benchmarks.page import page
from benchmarks.profile import profile
from kdpose.cli import console, entry_point


@entry_point("benchmark")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    torch.set_num_threads(cfg.threads)
    what = cfg.what
    clock: Clock = what.clock
    if cfg.clock:
        clock = cfg.clock
    elif torch.cuda.is_available():
        clock = "wall"  # a process that waits for a GPU uses no time of its own
    with tempfile.TemporaryDirectory(dir=cfg.scratch, prefix="kdpose-benchmark-") as scratch:
        cases = instantiate(what.cases, _partial_=True, _convert_="all")(scratch=Path(scratch))
        rows = measure(cases, cfg.repeats, clock, what.unit)
        about = OmegaConf.to_container(what.cases, resolve=True)
        figures = report(what.name, rows, clock, repeats=cfg.repeats, cases=about)
        if cfg.profile:
            profile(cases, Path(cfg.profile), what.name)
    console.print(table(what.title, rows))
    if cfg.out:
        out = Path(cfg.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures, indent=2))
        command = " ".join(["python -m kdpose.benchmark", *sys.argv[1:]])
        text = page(what.title, rows, figures, command, what.get("note"))
        out.with_suffix(".md").write_text(text)
        console.print(f"written to {out.absolute()} and, to read, {out.with_suffix('.md').name}")


if __name__ == "__main__":
    main()
