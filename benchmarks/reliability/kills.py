"""Kill commands, repeat them, and compare with a run that nobody disturbed."""

import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.reliability.commands import Running, run
from benchmarks.reliability.records import Records
from benchmarks.reliability.strikes import choose, noted, struck
from benchmarks.reliability.targets import Target, outcome, prepare, targets, words

SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "INT": signal.SIGINT}
_STATUS = {"KILL": -9, "TERM": 143, "INT": 130}
_UNFINISHED = (".part",)


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody disturbed: its result, its seconds, the moments at which it writes."""

    result: dict[str, Any]
    seconds: float
    moments: list[str]


def kill_all(records: Records, folder: Path, count: int, seed: int, names: list[str]) -> None:
    """Kill the targets in turn until there are ``count`` records of it.

    Args:
        records: of the campaign; what is in them is not done again.
        folder: for the data and the runs.
        count: of kills.
        seed: of the moments.
        names: of the targets.
    """
    if count:
        prepare(folder)
    known = targets(folder)
    whole: dict[str, Undisturbed] = {}
    for number in range(count):
        name = names[number % len(names)]
        key = f"{number:03d} {name}"
        if records.has("kills", key):
            continue
        if name not in whole:
            whole[name] = _undisturbed(known[name], folder, name)
        rng = random.Random(f"{seed} {key}")
        out = folder / "killed" / key.replace(" ", "_")
        shutil.rmtree(out, ignore_errors=True)
        record = _kill(known[name], name, whole[name], out, rng)
        records.add("kills", key, record)
        if not record["fault"]:
            shutil.rmtree(out)


def _undisturbed(target: Target, folder: Path, name: str) -> Undisturbed:
    """Run a target once, and note its moments."""
    out = folder / "whole" / name.replace(" ", "_")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    note = folder / "whole" / f"{name}.moments"
    note.unlink(missing_ok=True)
    done = run(target.command, words(target, out), folder / "logs", noted(out, note))
    if done.code:
        raise RuntimeError(f"{name} failed undisturbed: {done.said}")
    return Undisturbed(outcome(out, name), done.seconds, note.read_text().splitlines())


def _kill(
    target: Target, name: str, whole: Undisturbed, out: Path, rng: random.Random
) -> dict[str, Any]:
    """Kill a command once, or at times twice, and repeat it to its end."""
    out.mkdir(parents=True)
    told, again = [], False
    for _ in range(1 + (rng.random() < 0.2)):
        told.append(_strike(target, whole, out, rng, again))
        again = True
    begun = time.monotonic()
    last = run(target.command, words(target, out, again=True), out / "logs", limit=180)
    fault = _fault(told, not target.finished(last), whole.result, outcome(out, name))
    return {
        "target": name,
        "kills": told,
        "fault": fault,
        "said": last.last_line if fault else "",
        "seconds": round(time.monotonic() - begun, 1),
        "left": sorted(str(p.relative_to(out)) for p in out.rglob("*") if _UNFINISHED[0] in p.name),
    }


def _strike(
    target: Target, whole: Undisturbed, out: Path, rng: random.Random, again: bool
) -> dict[str, Any]:
    """Start the command and send it one signal."""
    by = rng.choice(list(SIGNALS))
    given = words(target, out, again)
    if rng.random() < 0.5:
        at = choose(whole.moments, rng)
        delay = rng.choice([0.0, rng.uniform(0.0, 0.01)])
        hook = struck(out, at, SIGNALS[by], delay)
        done = run(target.command, given, out / "logs", hook, limit=180)
        moment = whole.moments[at]
    else:
        started = Running(target.command, given, out / "logs")
        after = rng.uniform(0.02, 0.98) * whole.seconds
        time.sleep(after)
        started.send(SIGNALS[by])
        done = started.wait(limit=180)
        moment = f"{after:.2f} s"
    ended = "finished" if target.finished(done) else "other"
    status = "as told" if done.code == _STATUS[by] else ended
    said = "" if status != "other" and not done.traceback else done.said[-600:]
    facts = {"by": by, "at": moment, "status": status, "code": done.code, "said": said}
    return facts | {"traceback": done.traceback, "late": done.late}


def _fault(
    told: list[dict[str, Any]],
    failed: bool,
    expected: dict[str, Any],
    found: dict[str, Any],
) -> str:
    """What went wrong, or nothing."""
    if failed:
        return "lost: the repeated command failed"
    if set(expected) - set(found):
        return f"lost: {sorted(set(expected) - set(found))[0]}"
    wrong = [key for key in expected if expected[key] != found[key]]
    if wrong:
        return f"different: {wrong[0]}"
    for kill in told:
        if kill["late"]:
            return f"hung after {kill['by']}"
        if kill["traceback"]:
            return f"traceback after {kill['by']}"
        if kill["status"] == "other":
            return f"status {kill['code']} after {kill['by']}"
    return ""
