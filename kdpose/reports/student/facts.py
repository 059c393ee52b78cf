"""Read the folder of a distillation: every number of the page comes from its files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kdpose.checkpoints.guest_net import LoadedGuest
from kdpose.checkpoints.load import load_net
from kdpose.display.tables import METRICS, caption, table_cells, table_header
from kdpose.reports.ablation.collect import Run
from kdpose.reports.ablation.measure import read_split
from kdpose.reports.ablation.tables import Cells, lineage_table, percent
from kdpose.reports.student.curves import Curve, in_words, line_chart
from kdpose.reports.student.poses import file_as_address, pictures
from kdpose.reports.student.refinement import compare
from kdpose.reports.student.refinement import in_words as in_sentence
from kdpose.training.given_teacher import open_models

NAMES = {"teacher": "teacher", "baseline": "student alone", "stage1": "stage 1"}
NAMES |= {"stage2": "stage 2, refined"}
_SHORT = {"baseline": "alone", "stage1": "stage 1", "stage2": "refined"}  # under pictures
_PERSONS = 6  # that are shown
Rows = dict[str, dict[str, Any]]


def read_json(path: Path) -> Any:
    """The content of a file; None if missing, which the page then states."""
    return json.loads(path.read_text()) if path.is_file() else None


def stage_runs(rows: Rows) -> list[Run]:
    """The runs of the rows' checkpoints; a teacher that the user brings has none."""
    runs = []
    for label, row in rows.items():
        folder = Path(row.get("ckpt", "")).parent
        if "training" in row and (folder / "config.yaml").is_file():
            config = OmegaConf.load(folder / "config.yaml")
            assert isinstance(config, DictConfig)
            runs.append(Run(folder, label, config, row))
    return runs


def weigh(rows: Rows, speed: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Gain and cost of the refinement, see :func:`compare`."""
    runs = {run.name: run for run in stage_runs(rows)}
    skeleton = load_net(rows["stage2"]["ckpt"]).net.skeleton
    split = read_split(runs["stage2"], skeleton)
    return compare(runs["stage1"], runs["stage2"], split, speed)


def results(rows: Rows) -> dict[str, Any]:
    """The table of models and its measurement conditions."""
    shown = [name for name in METRICS if any(name in row for row in rows.values())]
    cells = [["model", *table_header(shown)]]
    cells += [[NAMES[label], *table_cells(row, shown)] for label, row in rows.items()]
    return {"cells": cells, "caption": caption(list(rows.values())[-1])}


def headline(rows: Rows, teacher_check: Mapping[str, Any] | None) -> dict[str, Any]:
    """AP of the student beside that of teacher and baseline, in percent, and the differences."""
    student = rows["stage2"]["AP"]
    others = {name: rows.get(name, {}).get("AP") for name in ("teacher", "baseline")}
    shared = None
    if others["teacher"] is None and teacher_check is not None:
        shared = percent(teacher_check["AP"])  # of another skeleton: only shared joints
    return {
        "student": percent(student),
        "shared": shared,
        **{
            name: None
            if ap is None or student is None
            else {"ap": percent(ap), "gain": percent(student - ap, sign=True)}
            for name, ap in others.items()
        },
    }


def training(runs: list[Run]) -> list[dict[str, Any]]:
    """Curves of each stage: its loss terms, its AP, and gamma if terms decay."""
    stages = []
    for run in runs:
        log = run.log()
        losses = {k.removeprefix("train/loss_"): v for k, v in log.items() if "/loss_" in k}
        ap = {e: 100 * value for e, value in log.get("val/AP", {}).items()}
        charts = [
            _chart(run.name, "losses", dict(sorted(losses.items())), "weighted loss"),
            _chart(run.name, "ap", {"AP": ap} if ap else {}, "validation AP, %"),
        ]
        if "train/gamma" in log:
            gamma = {"gamma": log["train/gamma"]}
            charts.append(_chart(run.name, "gamma", gamma, "γ(t), Eq. 4"))
        about = run.metrics["training"]
        stages.append({"name": NAMES[run.name], "charts": charts, **about})
    return stages


def _chart(stage: str, name: str, curves: Mapping[str, Curve], ylabel: str) -> dict[str, str]:
    if not curves:
        return {"label": ylabel, "svg": "", "words": ""}
    svg = line_chart(curves, ylabel, f"{stage}-{name}")
    return {"label": ylabel, "svg": svg, "words": in_words(curves)}


def files(exports: Mapping[str, Any] | None, speed: Mapping[str, Any] | None) -> list[Any]:
    """The exported files, each with its gate and its speed, absolute and against the teacher."""
    if exports is None:
        return []
    return [
        {
            **report,
            "speed": alone(report["file"], speed),
            "megabytes": report["bytes"] / 1e6,
            "cells": group_cells(report),
        }
        for report in exports["files"]
    ]


def alone(network: str, speed: Mapping[str, Any] | None) -> Any:
    """A network's speed at batch 1; None if not measured."""
    rows = (speed or {"rows": []})["rows"]
    return next((row for row in rows if row["name"] == f"{network}, batch 1"), None)


def group_cells(report: Mapping[str, Any]) -> Cells:
    """The cost of each layer group in int8, header first; [] for a file in floats."""
    costs = report.get("train_cost_by_group") or {}
    lines = [["layer group", "AP lost", "a joint moves by, px", "kept in"]]
    for group, cost in costs.items():
        kept = "float32" if group in report["float_groups"] else "int8"
        lost = "-" if cost["ap"] is None else f"{cost['ap']:.2f}"
        lines.append([group, lost, f"{cost['px']:.3f}", kept])
    return lines if costs else []


def speed_cells(speed: Mapping[str, Any] | None) -> Cells:
    """Milliseconds per person and the ratio to the teacher, header first; [] if not measured."""
    lines = [["network", "ms a person", "persons a second", "times the teacher", "lowest–highest"]]
    for row in (speed or {"rows": []})["rows"]:
        ratio = ["1" if row["name"].startswith("teacher") else "n/a", ""]
        if row["ratio"] is not None:
            spread = f"{row['ratio_min']:.2f}–{row['ratio_max']:.2f}"
            ratio = [f"{row['ratio']:.2f}", spread]
        lines.append([row["name"], f"{row['ms']:.2f}", f"{row['median']:.0f}", *ratio])
    return lines if len(lines) > 1 else []


def read(run_dir: Path, teacher: LoadedGuest | None = None) -> dict[str, Any]:
    """The content of the page by part; parts with missing files are None or empty.

    Args:
        run_dir: of the distillation.
        teacher: a network of another project, to show its poses.
    """
    rows: Rows = read_json(run_dir / "table.json")
    runs = stage_runs(rows)
    exports, speed = (read_json(run_dir / f"{name}.json") for name in ("exports", "speed"))
    check = read_json(Path(rows["stage1"]["ckpt"]).parent / "teacher.json")
    found = read_json(run_dir / "refinement.json")
    shown = pictures(open_models(rows, teacher), _PERSONS)
    return {
        "about": read_json(run_dir / "distill.json"),
        "headline": headline(rows, check),
        "results": results(rows),
        "checkpoint": rows["stage2"]["ckpt"],
        "stages": training(runs),
        "pictures": [{_SHORT.get(k, k): v for k, v in row.items()} for row in shown],
        "doctor": read_json(run_dir / "doctor.json"),
        "sheet": file_as_address(run_dir / "doctor.jpg"),
        "teacher": check,
        "files": files(exports, speed),
        "plain_files": (exports or {}).get("stage1", []),
        "refinement": in_sentence(found) if found else None,
        "left_out": exports["left_out"] if exports else None,
        "student_speed": alone("student, PyTorch", speed),
        "speed": speed,
        "speed_cells": speed_cells(speed),
        "lineage": lineage_table(runs),
    }
