"""All checks of a data set: a short version, or with every image opened."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from kdpose.checks import boxes, files, persons, sides, skeletons
from kdpose.checks.findings import SEVERITIES, Finding
from kdpose.checks.split import Split, make_split
from kdpose.runtime.annotation_file import check_lists
from kdpose.runtime.categories import of_people
from kdpose.runtime.json_text import read_json
from kdpose.skeletons.skeleton import Skeleton

Progress = Callable[[Iterable[files.ImageFact], int], Iterable[files.ImageFact]]


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was checked and what was found.

    Attributes:
        findings: the most severe first.
        splits: by name; those that could be read.
        opened: the number of images opened in each split.
    """

    findings: list[Finding]
    splits: dict[str, Split]
    opened: dict[str, int]


def inspect(
    where: Mapping[str, Mapping[str, str]],
    skeleton: Skeleton,
    *,
    open_images: int | None = None,
    look_for_all: bool = True,
    category: str | int | None = None,
    progress: Progress = lambda facts, _: facts,
) -> Inspection:
    """Check a data set.

    Args:
        where: ``annotations`` and ``images`` by split; the name is empty for a single file, and
            ``images`` is None if images are not to be checked.
        skeleton: of the configuration.
        open_images: images to open in each split, evenly spread; None opens all.
        look_for_all: False ignores missing files: for the short run before training, whose
            loader checks them anyway.
        category: the name or id of the only one to check.
        progress: see :func:`kdpose.checks.files.open_images`.
    """
    findings = list(skeletons.own_facts(skeleton))
    splits: dict[str, Split] = {}
    facts: dict[str, list[files.ImageFact]] = {}
    for name, paths in where.items():
        path = Path(paths["annotations"])
        own = skeletons.own_skeleton(path, name, skeleton)
        folder = Path(paths["images"]) if paths["images"] else None
        found, split = check_annotations(path, own, name, category, folder)
        found += skeletons.shared_joints(own, skeleton)
        if split is not None:
            opened = _facts(split, paths["images"], open_images, progress)
            seen = [f for f in opened if look_for_all or f.fault != "missing_image"]
            splits[name], facts[name] = split, seen
            found += _image_findings(split, seen, paths["images"])
        findings += [replace(finding, split=name) for finding in found]
    for name in (n for n in splits if n.startswith("train") and "val" in splits):
        findings += _leakage((name, "val"), where, splits, facts)
    findings.sort(key=lambda f: -SEVERITIES.index(f.severity))
    return Inspection(findings, splits, {name: len(facts[name]) for name in splits})


def places(dataset: DictConfig) -> dict[str, dict[str, Any]]:
    """``annotations`` and ``images`` of a data set's splits, several training sets by number."""
    train = dataset.train
    several = isinstance(train, ListConfig)
    named = {f"train.{n}": part for n, part in enumerate(train)} if several else {"train": train}
    return {name: dict(part) for name, part in {**named, "val": dataset.val}.items()}


def check_annotations(
    path: Path,
    skeleton: Skeleton,
    name: str = "",
    category: str | int | None = None,
    folder: Path | None = None,
) -> tuple[list[Finding], Split | None]:
    """Findings from an annotation file alone, and its tables if it can be read.

    Args:
        path: of the file.
        skeleton: of its joints.
        name: of the split.
        category: the name or id of the only category whose annotations are persons.
        folder: of the image files, for sizes that the file lacks.
    """
    key = f"dataset.{name}.annotations" if name else "annotations"
    where = f"{path.absolute()} (from {key})"
    try:
        data = check_lists(read_json(path, key), where)
        if data.get("images") is None or data.get("annotations") is None:
            raise ValueError(f"{where} is not a COCO file: it needs images and annotations")
    except (OSError, ValueError) as error:
        return [Finding("annotations", "unusable", 1, str(error))], None
    try:
        data, left_out = of_people(data, category, where)
    except ValueError as error:
        return [Finding("annotations", "unusable", 1, str(error))], None
    split, found = make_split(data, path, skeleton, name, folder)
    if left_out:
        found.append(Finding("other_categories", "warning", 1, left_out))
    return [*found, *_annotation_findings(split, skeleton)], split


def _annotation_findings(split: Split, skeleton: Skeleton) -> Iterator[Finding]:
    if not split.boxes_alone:
        yield from skeletons.category_joints(split.data, skeleton)
        yield from skeletons.category_limbs(split.data)
    for check in (
        persons.unlabelled,
        persons.unknown_images,
        persons.duplicate_ids,
        persons.duplicate_persons,
        persons.flags,
        persons.joint_counts,
        persons.areas,
        boxes.without_area,
        boxes.outside,
        boxes.swapped_sizes,
        boxes.fractions,
        boxes.stray_joints,
    ):
        yield from check(split)
    for check_with in (persons.unused_joints, sides.crossed_limbs, sides.viewers_sides):
        yield from check_with(split, skeleton)


def _facts(
    split: Split, folder: str | None, limit: int | None, progress: Progress
) -> list[files.ImageFact]:
    names = list(dict.fromkeys(str(image["file_name"]) for image in split.images))
    if folder is None:
        return []
    if limit is not None and limit < len(names):
        names = [names[i * len(names) // limit] for i in range(limit)]
    swapped = boxes.swapped_images(split)
    sizes = {}
    for row, image in enumerate(split.images):
        width, height = round(image["width"]), round(image["height"])
        sizes[image["file_name"]] = (height, width) if row in swapped else (width, height)
    return files.open_images(Path(folder), names, progress, sizes)


def _image_findings(
    split: Split, facts: Sequence[files.ImageFact], folder: str | None
) -> Iterator[Finding]:
    if folder is not None:
        yield from files.faults(facts, Path(folder))
    known = {example.image for f in boxes.swapped_sizes(split) for example in f.examples}
    for finding in files.sizes(split, facts):
        if finding.kind != "swapped_size" or not known:  # reported already
            yield finding
    yield from files.copies(facts)


def _leakage(
    names: tuple[str, str],
    where: Mapping[str, Mapping[str, str]],
    splits: Mapping[str, Split],
    facts: Mapping[str, Sequence[files.ImageFact]],
) -> Iterator[Finding]:
    """By content if all images were opened, else by path."""
    if all(len(facts[name]) == len(splits[name].images) for name in names):
        yield from files.leaked_contents(*(facts[name] for name in names))
        return
    paths = [
        [
            Path(where[name]["images"]).absolute() / str(image["file_name"])
            for image in splits[name].images
        ]
        for name in names
        if where[name]["images"] is not None
    ]
    if len(paths) == 2:
        yield from files.leaked_paths(*paths)
