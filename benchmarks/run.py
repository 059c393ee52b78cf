"""Run one benchmark as configured, and write its figures."""

import json
import tempfile
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from benchmarks.page import page
from benchmarks.profile import profile
from kdpose.evaluation.timing import Clock, measure, report, table


def run(cfg: DictConfig, command: str) -> Table:
    """Measure ``what``, write ``out`` and the page beside it.

    Args:
        cfg: ``conf/benchmark.yaml``'s keys.
        command: that started it, for the page.

    Returns:
        The figures, for a terminal.
    """
    torch.set_num_threads(cfg.threads)
    what = cfg.what
    if "campaign" in what:
        found: Table = instantiate(
            what.campaign, out=cfg.out, scratch=cfg.scratch, command=command, _convert_="all"
        )
        return found
    clock: Clock = what.clock
    if cfg.clock:
        clock = cfg.clock
    elif clock == "cpu" and torch.cuda.is_available():
        clock = "wall"  # a process that waits for a GPU uses no time of its own
    with tempfile.TemporaryDirectory(dir=cfg.scratch, prefix="kdpose-benchmark-") as scratch:
        cases = instantiate(what.cases, _partial_=True, _convert_="all")(scratch=Path(scratch))
        rows = measure(cases, cfg.repeats, clock, what.unit)
        about = OmegaConf.to_container(what.cases, resolve=True)
        figures = report(what.name, rows, clock, repeats=cfg.repeats, cases=about)
        if cfg.profile:
            profile(cases, Path(cfg.profile), what.name)
    if cfg.out:
        out = Path(cfg.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures, indent=2))
        text = page(what.title, rows, figures, command, what.get("note"))
        out.with_suffix(".md").write_text(text)
    return table(what.title, rows)
