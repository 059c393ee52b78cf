"""The jobs of a sweep: each records its result in a file; a table and a figure show all jobs.

Files are used because jobs may run in other processes or on other machines.
"""

import json
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from kdpose.cli import console
from kdpose.display.tables import as_markdown, write_csv
from kdpose.runtime.locks import locked
from kdpose.runtime.signals import Stopped, pass_on
from kdpose.runtime.whole import write_json

_PATIENCE = 30  # seconds that jobs may take for their checkpoints


class SweepJobs(Callback):
    """Pass the swept keys to the jobs, wherever they run."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remove what all jobs share from their names (``hydra.job.override_dirname``)."""
        given = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        shared = {o.key_or_group for o in given if not o.is_sweep_override()}
        quoted = ",".join(f"'{key}'" for key in sorted(shared))
        key = "hydra.job.config.override_dirname.exclude_keys"
        config.hydra.overrides.hydra.append(f"{key}=[{quoted}]")
        if str(config.hydra.launcher._target_).endswith(".JoblibLauncher"):
            pass_on(partial(stop_jobs, Path(config.hydra.sweep.dir) / "jobs"))


def stop_jobs(folder: Path, number: int) -> None:
    """Send a signal to the running jobs of this process, and wait for their checkpoints.

    Joblib would end them at once.

    Args:
        folder: of the records.
        number: of the signal.
    """
    for process in _running(folder):
        process.send_signal(number)
    until = time.monotonic() + _PATIENCE
    while _running(folder) and time.monotonic() < until:
        time.sleep(0.1)


def _running(folder: Path) -> list[Any]:
    """The processes of the jobs that run below this process, as their records have it."""
    import psutil  # here, because every command line knows this file

    records = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    busy = {record.get("process") for record in records if record["state"] == "running"}
    return [child for child in psutil.Process().children() if child.pid in busy]


@contextmanager
def recorded(
    sweep: Path, name: str, overrides: Sequence[str], log: Path
) -> Iterator[dict[str, Any]]:
    """Record how the job of this block ends, and update the sweep's table.

    Args:
        sweep: the sweep's folder; gets ``jobs/NAME.json``, ``jobs.csv``, ``jobs.md``, ``jobs.png``.
        name: of the job.
        overrides: of the job; the table shows those that differ between jobs.
        log: of the job; named if the job fails.

    Yields:
        The record, for the block to add ``AP`` to.
    """
    record: dict[str, Any] = {"job": name, "state": "running", "overrides": list(overrides)}
    record |= {"AP": None, "log": str(log.absolute()), "process": os.getpid()}
    begun, earlier = time.monotonic(), _seconds_before(sweep, name)
    _write(sweep, record)
    try:
        yield record
        record["state"] = "done"
    except Stopped:
        record["state"] = "stopped"
        raise
    except BaseException as error:
        record |= {"state": "failed", "error": f"{type(error).__name__}: {error}"}
        record["traceback"] = keep_traceback(log)
        where = (sweep / "jobs" / f"{name}.json").absolute()
        print(f"job {name} failed: {where}, log {record['log']}", file=sys.stderr)
        raise
    finally:
        record["seconds"] = round(earlier + time.monotonic() - begun, 1)
        _write(sweep, record)
        with locked(sweep / "jobs" / "table.lock"):
            write_table(sweep)


def keep_traceback(log: Path) -> str:
    """Append the traceback of the current exception to a log, and return the exception."""
    text = traceback.format_exc()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(text)
    return text


def _seconds_before(sweep: Path, name: str) -> float:
    """The seconds of earlier attempts of a job; killed attempts are not counted."""
    path = sweep / "jobs" / f"{name}.json"
    return float(json.loads(path.read_text()).get("seconds", 0)) if path.is_file() else 0.0


def _write(sweep: Path, record: dict[str, Any]) -> None:
    path = sweep / "jobs" / f"{record['job']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record, indent=2)  # another job may be reading


def write_table(sweep: Path) -> None:
    """Write ``jobs.csv``, ``jobs.md`` and ``jobs.png`` from the records of the jobs so far.

    Args:
        sweep: its folder. A killed job stays ``running``.
    """
    jobs = [json.loads(path.read_text()) for path in sorted((sweep / "jobs").glob("*.json"))]
    shared = set.intersection(*(set(job["overrides"]) for job in jobs))
    rows = [
        {
            **dict(o.lstrip("+").split("=", 1) for o in job["overrides"] if o not in shared),
            "state": job["state"],
            "AP": job["AP"],
            "seconds": job.get("seconds"),
            "error": job.get("error"),
        }
        for job in jobs
    ]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    write_csv(sweep / "jobs.csv", rows)
    lines = [keys, *([_cell(row.get(key), key) for key in keys] for row in rows)]
    (sweep / "jobs.md").write_text(as_markdown(lines, left=len(keys)) + "\n")
    _draw(jobs, sweep / "jobs.png")
    counts = ", ".join(f"{n} {state}" for state, n in Counter(row["state"] for row in rows).items())
    console.print(f"jobs: {counts}; table and figure in {sweep.absolute()}", soft_wrap=True)


def _cell(value: Any, key: str) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f}" if key == "AP" else str(value).replace("|", "/").splitlines()[0]


def _draw(jobs: Sequence[dict[str, Any]], path: Path) -> None:
    """AP of each job; jobs without one are shown with their status."""
    from matplotlib.figure import Figure  # slow to import, and every command line knows this file

    figure = Figure(figsize=(7, 1 + 0.32 * len(jobs)), layout="constrained")
    axes = figure.add_subplot()
    for place, job in enumerate(jobs):
        if job["AP"] is not None:
            axes.plot(100 * job["AP"], place, "o", color="#1982c4")
    axes.set_yticks(
        range(len(jobs)),
        [job["job"] if job["AP"] is not None else f"{job['job']} ({job['state']})" for job in jobs],
    )
    axes.set_ylim(len(jobs) - 0.5, -0.5)
    axes.set_xlabel("AP, percent")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=130)
