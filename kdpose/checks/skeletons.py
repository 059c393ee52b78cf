"""Compare the configured skeleton with those of files and checkpoints."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdpose.checks.findings import Example, Finding, Severity, first
from kdpose.runtime.categories import category_joints as joint_names
from kdpose.skeletons import files as skeleton_files
from kdpose.skeletons.files import annotated_skeleton
from kdpose.skeletons.shared import SkeletonBridge
from kdpose.skeletons.sides import joint_key, side
from kdpose.skeletons.skeleton import Skeleton


def own_facts(skeleton: Skeleton) -> Iterator[Finding]:
    """Missing parts of the skeleton itself."""
    if skeleton.sigma_source == "default":
        shown = first(
            Example(f"{joint} {sigma:g}")
            for joint, sigma in zip(skeleton.joints, skeleton.sigmas, strict=True)
        )
        message = (
            f"no OKS sigmas given for skeleton '{skeleton.name}': using COCO's by joint name, else "
            "0.079; AP is also shown at half and double the sigmas (kdpose.sigmas estimates them)"
        )
        yield Finding("default_sigmas", "warning", len(skeleton), message, shown)
    if not skeleton.limbs:
        message = (
            f"skeleton '{skeleton.name}' has no limbs: Eq. 3 and the refiner's graph have no edges"
        )
        yield Finding("no_limbs", "warning", 1, message)
    yield from _side_facts(skeleton)
    if not skeleton.sides:
        message = f"skeleton '{skeleton.name}' has no left and right: flips exchange no joints"
        yield Finding("no_flip_pairs", "note", 1, message)


def _side_facts(skeleton: Skeleton) -> Iterator[Finding]:
    """Joints whose names have a side and that a flip does not exchange."""
    remedy = "a skeleton's YAML (skeleton=FILE.yaml, in training dataset.skeleton.path=FILE.yaml)"
    pairs, single = skeleton.named_sides
    if skeleton.flip_pairs is None and single:
        names = [skeleton.joints[k] for k in single]
        both = len({side(name) for name in names}) > 1
        message = (
            "joints have a side in their name and no partner on the other one, so a flip leaves "
            f"them where they are: correct the names, or write flip_pairs into {remedy}"
        )
        severity: Severity = "error" if both else "warning"  # a left and a right one: misspelt
        yield Finding("one_sided", severity, len(names), message, first(map(Example, names)))
    unpaired = [(a, b) for a, b in pairs if skeleton.flip_order[a] != b]
    if unpaired:
        message = (
            "pairs of joints have names that differ by the side alone and are no flip_pairs: a "
            f"flip would teach both sides as one. Add them to flip_pairs, or leave flip_pairs out; "
            f"{remedy} replaces the file's"
        )
        shown = (Example(f"{skeleton.joints[a]}, {skeleton.joints[b]}") for a, b in unpaired)
        yield Finding("unpaired_sides", "error", len(unpaired), message, first(shown))


def category_limbs(data: Mapping[str, Any]) -> Iterator[Finding]:
    """What had to be done to a category's list of limbs."""
    for category in data.get("categories") or ():
        if joint_names(category):
            try:
                note = skeleton_files.category_limbs(category).note
            except ValueError:  # the skeleton's reader says it
                continue
            if note:
                message = f"category '{category.get('name')}': {note}"
                yield Finding("limbs", "warning", 1, message)


def own_skeleton(path: Path, name: str, skeleton: Skeleton) -> Skeleton:
    """The skeleton of a split: of several training sets, each may have its own joints."""
    if not name.startswith("train."):
        return skeleton
    try:
        own = annotated_skeleton(path)
    except (OSError, ValueError):  # boxes alone, or a file that other checks refuse
        return skeleton
    return skeleton if own.joints == skeleton.joints else own


def shared_joints(own: Skeleton, skeleton: Skeleton) -> Iterator[Finding]:
    """What a training set of other joints labels of the student's."""
    if own.joints == skeleton.joints:
        return
    try:
        lacking = SkeletonBridge.between(skeleton, own).untaught
    except ValueError as error:
        yield Finding("shared_joints", "unusable", 1, str(error))
        return
    message = (
        f"of the {len(skeleton)} joints of skeleton '{skeleton.name}' are not labelled in this "
        "set, which has other joints: a teacher says them, or they are not learned here"
    )
    shown = first(Example(skeleton.joints[k]) for k in lacking)
    yield Finding("shared_joints", "note", len(lacking), message, shown)


def category_joints(data: Mapping[str, Any], skeleton: Skeleton) -> Iterator[Finding]:
    """Joints whose names differ between the file's categories and the skeleton."""
    categories = [c for c in data.get("categories") or () if joint_names(c)]
    if not categories:
        message = "no category of the file names its joints: their order cannot be checked"
        yield Finding("unnamed_joints", "warning", 1, message)
    wanted = [joint_key(joint) for joint in skeleton.joints]
    for category in categories:
        found = [joint_key(str(joint)) for joint in category["keypoints"]]
        if len(found) == len(wanted):
            pairs = enumerate(zip(wanted, found, strict=True))
            off = [Example(f"joint {k} is {b}, not {a}") for k, (a, b) in pairs if a != b]
        else:
            off = [Example(f"{len(found)} joints, not {len(wanted)}")]
        if off:
            message = (
                f"joints of category '{category.get('name')}' differ from those of skeleton "
                f"'{skeleton.name}', or their order does"
            )
            moved = any(a != b and b in wanted for a, b in zip(wanted, found, strict=False))
            severity: Severity = "error" if moved else "warning"  # or else the names alone differ
            severity = severity if len(found) == len(wanted) else "unusable"
            yield Finding("skeleton_mismatch", severity, len(off), message, first(off))


def checkpoint_joints(known: Skeleton, ckpt: str, skeleton: Skeleton) -> Iterator[Finding]:
    """A checkpoint's joints: evaluation needs the same joints, a teacher shared ones."""
    if sorted(map(joint_key, known.joints)) == sorted(map(joint_key, skeleton.joints)):
        return
    keys = {joint_key(joint) for joint in known.joints}
    shared = [joint for joint in skeleton.joints if joint_key(joint) in keys]
    message = (
        f"{ckpt} has skeleton '{known.name}' of {len(known)} joints, the data '{skeleton.name}' of "
        f"{len(skeleton)}: it can teach, and is evaluated on, the {len(shared)} joints of the same "
        "name alone"
    )
    missing = first(
        Example(f"the checkpoint has no {joint}")
        for joint in skeleton.joints
        if joint not in shared
    )
    severity: Any = "error" if shared else "unusable"
    yield Finding("checkpoint_mismatch", severity, len(skeleton) - len(shared), message, missing)
