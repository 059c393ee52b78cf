"""What the refiner gains over stage 1, and what it costs."""

from collections.abc import Mapping
from typing import Any

from kdpose.metrics.matches import average_precision, draw_images, interval, resampled_ap
from kdpose.metrics.matching import Matches, match_persons
from kdpose.metrics.people import read_detections
from kdpose.reports.ablation.collect import Run
from kdpose.reports.ablation.measure import Split

_RESAMPLES = 1000
Speed = Mapping[str, Any]


def compare(stage1: Run, refined: Run, split: Split, speed: Speed | None) -> dict[str, Any] | None:
    """Stage 2 against stage 1 on the same validation images.

    Args:
        stage1: the student.
        refined: the same with its refiner.
        split: that both were scored on.
        speed: of ``speed.json``; None if not measured.

    Returns:
        ``gain`` in AP, ``low`` and ``high``, 95 % of resampled images; ``times``, how long a person
        takes relative to stage 1 (None if not measured); and whether it ``pays``: the gain is above
        0 in that interval. None where AP is not defined.
    """
    ours, theirs = (_matches(run, split) for run in (refined, stage1))
    ap = [average_precision(matches) for matches in (ours, theirs)]
    if ap[0] is None or ap[1] is None:
        return None
    draws = draw_images(len(ours.persons), _RESAMPLES)
    low, high = interval(resampled_ap(ours, draws) - resampled_ap(theirs, draws))
    paces = {row["name"]: row["ms"] for row in (speed or {"rows": []})["rows"]}
    names = [f"{name}, PyTorch, batch 1" for name in ("student", "stage 1")]
    known = all(name in paces for name in names)
    times = paces[names[0]] / paces[names[1]] if known else None
    gain = ap[0] - ap[1]
    return {"gain": gain, "low": low, "high": high, "times": times, "pays": low > 0}


def _matches(run: Run, split: Split) -> Matches:
    sigmas = split.skeleton.sigmas
    found = read_detections(run.results, split.images, split.path, len(sigmas))
    return match_persons(split.truth, found, split.image_ids, sigmas)[0]


def in_words(found: Mapping[str, Any]) -> str:
    """The comparison as a sentence or two."""
    gain, low, high = (f"{100 * found[key]:+.1f}" for key in ("gain", "low", "high"))
    times = (
        "" if found["times"] is None else f"takes {found['times']:.2f} times stage 1's time and "
    )
    text = (
        f"The refinement {times}changes AP by {gain} (95 % of resampled images: {low} to {high})."
    )
    if found["pays"]:
        return text
    return f"{text} It costs more than it is sure to gain: use stage 1, whose files are beside."
