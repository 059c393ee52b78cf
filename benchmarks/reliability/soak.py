"""Predict over and over in one process, and look at its memory."""

import contextlib
import importlib
import io
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.reliability.commands import forget_hydra
from benchmarks.reliability.records import Records
from benchmarks.reliability.targets import prepare, targets, words

_WARM = 0.2  # share of the rounds after which memory should no longer grow
_GROWTH = 30.0  # megabytes by which it may
_PAUSE = 0.5  # seconds between two looks at the process


def soak(records: Records, folder: Path, minutes: float) -> None:
    """Run ``kdpose predict`` in one process for some minutes; a longer soak replaces a shorter.

    Args:
        records: of the campaign.
        folder: for the data.
        minutes: of the soak.
    """
    before = records.part("soak").get("predict", {}).get("minutes", 0.0)
    if not minutes or before >= minutes:
        return
    prepare(folder)
    here = folder / "soak"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir(parents=True)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _predict(folder, here, minutes)
    _, status = os.waitpid(pid, 0)
    curve = [json.loads(line) for line in (here / "curve.jsonl").read_text().splitlines()]
    records.add("soak", "predict", _judged(minutes, os.waitstatus_to_exitcode(status), curve))


def _judged(minutes: float, code: int, curve: list[list[float]]) -> dict[str, Any]:
    """The record: rounds, growth, and the curve in at most 200 points of minutes and MB."""
    warm = curve[int(len(curve) * _WARM) :]
    tenth = max(1, len(warm) // 10)
    growth = sum(y for _, y in warm[-tenth:]) / tenth - sum(y for _, y in warm[:tenth]) / tenth
    fault = f"status {code}" if code else ""
    if growth > _GROWTH:
        fault = fault or f"memory grew by {growth:.0f} MB"
    return {
        "fault": fault,
        "minutes": minutes,
        "rounds": len(curve),
        "growth_megabytes": round(growth, 1),
        "peak_megabytes": round(max(y for _, y in curve), 1),
        "curve": curve[:: max(1, len(curve) // 200)],
    }


def _predict(folder: Path, here: Path, minutes: float) -> None:
    """Be the process; does not return."""
    code = 1
    forget_hydra()
    try:
        target, me, begun = targets(folder)["predict"], psutil.Process(), time.monotonic()
        sys.argv = ["kdpose.predict", *words(target, here / "out")]
        with (here / "curve.jsonl").open("w") as curve:
            while (passed := (time.monotonic() - begun) / 60) < minutes:
                shutil.rmtree(here / "out", ignore_errors=True)
                with contextlib.redirect_stdout(io.StringIO()):
                    importlib.import_module("kdpose.predict").main()
                curve.write(f"{json.dumps([round(passed, 3), me.memory_info().rss / 2**20])}\n")
                curve.flush()
                time.sleep(_PAUSE)
        code = 0
    finally:
        os._exit(code)
