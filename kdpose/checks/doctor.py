"""Examine annotated images and say what was found."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig
from rich import box
from rich.progress import track
from rich.table import Table
from rich.text import Text

from kdpose.checks.files import ImageFact
from kdpose.checks.findings import SEVERITIES, Finding, exit_code
from kdpose.checks.inspect import Inspection, inspect, places
from kdpose.checks.skeletons import checkpoint_joints
from kdpose.cli import console
from kdpose.data.taught import StoredTeacher, answered, describe
from kdpose.runtime.annotation_file import AnnotationFile, check_lists
from kdpose.runtime.categories import of_people
from kdpose.runtime.json_text import read_json
from kdpose.skeletons.files import named_skeleton
from kdpose.skeletons.skeleton import Skeleton

_COLORS = {"note": "dim", "warning": "yellow", "error": "red", "unusable": "bold red"}
_COLUMNS = 8  # of the contact sheet
Where = dict[str, dict[str, Any]]


def chosen(cfg: DictConfig) -> Where:
    """Annotations and images by split; a single file's split has no name.

    Raises:
        ValueError: neither a file nor a data set is given, or both.
    """
    if bool(cfg.annotations) == bool(cfg.dataset):
        raise ValueError("give annotations=A.json images=DIR, or dataset=NAME")
    if cfg.annotations:
        return {"": {"annotations": cfg.annotations, "images": cfg.images}}
    where = places(cfg.dataset)
    first = next(iter(where.values()))["annotations"]
    if cfg.dataset.prepare is not None and not Path(first).is_file():
        instantiate(cfg.dataset.prepare)()
    return where


def _skeleton(cfg: DictConfig) -> Skeleton:
    if cfg.skeleton:
        return named_skeleton(cfg.skeleton)
    own = None if cfg.annotations else cfg.dataset.skeleton
    file = cfg.annotations if own is None else str(own.get("path"))
    if cfg.category is None or not file.endswith(".json"):
        skeleton: Skeleton = (
            named_skeleton(file) if own is None else instantiate(own, _convert_="all")
        )
        return skeleton
    where = f"{Path(file).absolute()} (from annotations)"
    content = check_lists(read_json(file, "annotations"), where)
    content, _ = of_people(content, cfg.category, where)
    return named_skeleton(AnnotationFile(Path(file), content))


def examine(cfg: DictConfig) -> Inspection:
    """Check what the configuration names; a skeleton that cannot be read is a finding as well."""
    where = chosen(cfg)
    opened = None if cfg.open == "all" else int(cfg.open)
    try:
        skeleton = _skeleton(cfg)
    except Exception as error:
        reason = error.__cause__ or error  # Hydra wraps what it instantiates
        if not isinstance(reason, ValueError | OSError):
            raise
        return Inspection([Finding("skeleton", "unusable", 1, str(reason))], {}, {})
    found = inspect(where, skeleton, open_images=opened, category=cfg.category, progress=_progress)
    if cfg.ckpt:
        from kdpose.checkpoints.load import load_net  # torch takes seconds, most checks need none

        known = load_net(cfg.ckpt).net.skeleton
        found.findings.extend(checkpoint_joints(known, str(cfg.ckpt), skeleton))
        found.findings.sort(key=lambda f: -SEVERITIES.index(f.severity))
    if cfg.sheet and found.splits:
        from kdpose.checks.sheet import choose, write_sheet

        folders = {name: paths["images"] for name, paths in where.items()}
        tiles = choose(found.findings, found.splits, _COLUMNS)
        shown = write_sheet(Path(cfg.sheet), tiles, found.splits, folders, _COLUMNS)
        console.print(_about_sheet(Path(cfg.sheet), shown), soft_wrap=True, highlight=False)
    return found


def counts(cfg: DictConfig, found: Inspection) -> list[str]:
    """Who knows each joint, labels or the stored answers of ``teacher=poses``, for each set.

    Empty for one set of labels without a teacher.

    Raises:
        FileNotFoundError: the answers are not there.
        ValueError: they are of other persons, or not one file for each set, or ``teacher`` is a
            network.
    """
    if cfg.teacher is not None and get_object(cfg.teacher._target_) is not StoredTeacher:
        raise ValueError("kdpose doctor counts stored answers: set teacher=poses teacher.file=FILE")
    sets = [split for name, split in found.splits.items() if name != "val"]
    if cfg.teacher is None and len(sets) < 2:
        return []
    skeleton = _skeleton(cfg)
    answers, taught = [], None
    if cfg.teacher is not None:
        teacher: StoredTeacher = instantiate(cfg.teacher, _convert_="all")
        answers, taught = teacher.files, teacher.skeleton
    files = [str(split.path) for split in sets]
    persons = answered(files, skeleton, answers, taught, boxes_alone=True)
    return [f"{s.path}: {describe(p, skeleton)}" for s, p in zip(sets, persons, strict=True)]


def _about_sheet(path: Path, shown: int) -> str:
    if not shown:
        return "no contact sheet: not one image of a labelled person could be read (from images)"
    return (
        f"{shown} persons on {path.absolute()}: their left orange, right blue; rings are hidden "
        "joints (v = 1)"
    )


def _progress(facts: Iterable[ImageFact], total: int) -> Iterable[ImageFact]:
    return track(facts, "opening images", total=total, console=console, transient=True)


def table(findings: Iterable[Finding]) -> Table:
    """The findings, each with its first examples."""
    shown = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("severity", "kind"):
        shown.add_column(name, no_wrap=True)
    shown.add_column("count", justify="right", no_wrap=True)
    shown.add_column("what, and the first examples", overflow="fold")
    for f in findings:
        examples = [Text(str(example), "dim") for example in f.examples[:2]]
        shown.add_row(
            Text(f.severity, _COLORS[f.severity]),
            Text.assemble(f"{f.kind}\n", (f.split, "dim")),
            str(f.count),
            Text("\n").join([Text(f.message), *examples]),
        )
    return shown


def summary(found: Inspection) -> str:
    """What was looked at, and how it is, in one line."""
    looked = [
        f"{name + ': ' if name else ''}{len(split.images)} images ({found.opened[name]} opened), "
        f"{int(split.labelled.sum())} labelled persons"
        for name, split in found.splits.items()
    ]
    counts = [
        f"{n} {word}"
        for word in reversed(SEVERITIES)
        if (n := sum(f.severity == word for f in found.findings))
    ]
    verdict = ("clean", "errors", "unusable")[exit_code(found.findings)]
    return f"{'; '.join([*looked, verdict])} ({', '.join(counts) or 'nothing found'})"


def report(found: Inspection) -> dict[str, Any]:
    """All that was found, as plain values."""
    return {
        "exit_code": exit_code(found.findings),
        "splits": {
            name: {
                "annotations": str(split.path.absolute()),
                "images": len(split.images),
                "opened": found.opened[name],
                "persons": len(split.persons),
                "labelled": int(split.labelled.sum()),
            }
            for name, split in found.splits.items()
        },
        "findings": [finding.to_dict() for finding in found.findings],
    }
