"""What a part's trainings came to, from their run folders."""

import json
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.gpu.busy import Samples
from benchmarks.gpu.pace import epochs

_KEPT = ("AP", "AP50", "AP75", "params", "gmacs")


def trainings(folder: Path, samples: Samples) -> list[dict[str, Any]]:
    """The figures of all trainings below a folder, finished or not.

    Args:
        folder: of the part's runs.
        samples: of the device's busy share.

    Returns:
        For each ``run``, its name; ``finished``; ``epochs`` and ``seconds`` that it took so far;
        ``rate``, the median over epochs, persons a second; ``busy`` and ``busy_mean``, over its
        epochs; and when it is finished its AP.
    """
    found = []
    for config in sorted(folder.rglob("config.yaml")):
        run = config.parent
        if (run / "train.log").is_file():
            found.append(_training(run, str(run.relative_to(folder)), samples))
    return found


def _training(run: Path, name: str, samples: Samples) -> dict[str, Any]:
    rows = epochs(run)
    rates = [persons / max(ended - begun, 1e-9) for begun, ended, persons in rows]
    busy = [share for when, share in samples if any(b < when <= e for b, e, _ in rows)]
    figures: dict[str, Any] = {
        "run": name,
        "finished": (run / "metrics.json").is_file(),
        "epochs": len((run / "pace.csv").read_text().splitlines()) if rows else 0,
        "rate": median(rates) if rates else None,
        "busy": median(busy) if busy else None,
        "busy_mean": mean(busy) if busy else None,
    }
    if figures["finished"]:
        metrics = json.loads((run / "metrics.json").read_bytes())
        figures |= {key: metrics.get(key) for key in _KEPT}
        figures |= {key: metrics["training"][key] for key in ("epochs", "seconds", "device")}
    return figures
