"""Skeletons by name or file: a YAML file, or the category of an annotation file."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from kdpose.runtime.annotation_file import AnnotationFile, Annotations, check_lists
from kdpose.runtime.categories import category_joints
from kdpose.runtime.json_text import parse_json
from kdpose.skeletons.known import COCO, CROWDPOSE, default_sigmas
from kdpose.skeletons.references import Limbs, joint_index, read_flip_pairs, read_limbs
from kdpose.skeletons.sides import joint_key
from kdpose.skeletons.skeleton import Skeleton

_log = logging.getLogger(__name__)
_KEYS = ("name", "joints", "limbs", "sigmas", "sigma_source", "upper_body", "flip_pairs")


def named_skeleton(name: Annotations) -> Skeleton:
    """``coco``, ``crowdpose``, or the skeleton in a file, see :func:`read_skeleton`."""
    known = {skeleton.name: skeleton for skeleton in (COCO, CROWDPOSE)}
    if isinstance(name, AnnotationFile):
        read = annotated_skeleton(name)
    elif name in known:
        return known[str(name)]
    else:
        read = read_skeleton(name)
    return next((skeleton for skeleton in known.values() if skeleton.joints == read.joints), read)


def read_skeleton(path: str | Path) -> Skeleton:
    """Read a skeleton from a YAML file, or from the category of a COCO-format JSON.

    The YAML has ``joints``, a list of names, and may have ``name``; ``limbs`` and ``flip_pairs``,
    lists of pairs of names or of numbers from 0; ``sigmas``, a list or numbers by name;
    ``sigma_source``; and ``upper_body``, names. Flip pairs follow from names that differ by a
    side alone, and missing sigmas from :func:`kdpose.skeletons.known.default_sigmas`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a key or a joint is unknown, or the parts are inconsistent.
    """
    path = Path(path)
    if path.suffix not in (".yaml", ".yml"):
        return annotated_skeleton(path)
    if not path.is_file():
        raise FileNotFoundError(f"no skeleton at {path.absolute()}")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path.absolute()} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or not isinstance(values.get("joints"), list):
        raise ValueError(f"{path.absolute()} is not a skeleton: it needs 'joints', a list of names")
    unknown = [str(key) for key in values if key not in _KEYS]
    if unknown:
        raise ValueError(
            f"{path.absolute()} has unknown keys {', '.join(unknown)}; known are {', '.join(_KEYS)}"
        )
    try:
        return _skeleton({"name": path.stem, **values})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.absolute()}: {error}") from None


def _skeleton(values: dict[str, Any]) -> Skeleton:
    """Build a skeleton whose parts refer to joints by name."""
    joints = tuple(str(joint).strip() for joint in values["joints"])
    sigmas = values.get("sigmas")
    if isinstance(sigmas, dict):
        indices = _indices(joints, list(sigmas), "sigmas")
        lacking = [joint for k, joint in enumerate(joints) if k not in indices]
        if lacking:
            raise ValueError(f"sigmas must name every joint, '{lacking[0]}' is missing")
        by_joint = dict(zip(indices, sigmas.values(), strict=True))
        sigmas = [by_joint[k] for k in range(len(joints))]
    limbs = read_limbs(values.get("limbs"), joints)
    for limb in limbs.lost:
        _indices(joints, limb if isinstance(limb, list) else [limb], "limbs")
        raise ValueError(f"limbs: {limb} must be two joints")
    return Skeleton(
        name=str(values["name"]),
        joints=joints,
        limbs=limbs.pairs,
        sigmas=tuple(map(float, sigmas)) if sigmas else default_sigmas(joints),
        upper_body=_indices(joints, values.get("upper_body") or (), "upper_body"),
        flip_pairs=read_flip_pairs(values.get("flip_pairs"), joints),
        sigma_source=str(values.get("sigma_source", "given")) if sigmas else "default",
    )


def _indices(joints: tuple[str, ...], names: Any, key: str) -> tuple[int, ...]:
    """Indices of the named joints."""
    found = [(name, joint_index(name, joints)) for name in names]
    for name, index in found:
        if index is None:
            raise ValueError(f"{key}: no joint is called '{name}'")
    return tuple(index for _, index in found if index is not None)


def write_skeleton(path: str | Path, skeleton: Skeleton) -> None:
    """Write a skeleton as the YAML that :func:`read_skeleton` reads."""
    names = skeleton.joints
    values: dict[str, Any] = {
        "name": skeleton.name,
        "joints": list(names),
        "limbs": [[names[a], names[b]] for a, b in skeleton.limbs],
        "sigmas": {joint: round(s, 4) for joint, s in zip(names, skeleton.sigmas, strict=True)},
        "sigma_source": skeleton.sigma_source,
        "upper_body": [names[k] for k in skeleton.upper_body],
    }
    if skeleton.flip_pairs is not None:
        values["flip_pairs"] = [list(pair) for pair in skeleton.flip_pairs]
    Path(path).write_text(yaml.safe_dump(values, sort_keys=False, default_flow_style=None))


def category_limbs(category: dict[str, Any]) -> Limbs:
    """The limbs of a COCO category, see :func:`read_limbs`; COCO's own by joint name."""
    joints = category_joints(category)
    known = _known(joints)
    if known is not None:
        return Limbs(known.limbs)
    pairs = _category_pairs(category, joints)
    mirrored = None
    if pairs is not None:
        partner = dict(pairs) | {b: a for a, b in pairs}
        mirrored = [joints.index(partner.get(joint, joint)) for joint in joints]
    return read_limbs(category.get("skeleton"), joints, mirrored)


def category_skeleton(category: dict[str, Any], name: str = "custom") -> Skeleton:
    """Read a skeleton from a COCO category.

    Limbs that join no two joints are left out, and all are if there are many (as in CrowdPose's
    own file).

    Raises:
        ValueError: the category names no keypoints.
    """
    joints = category_joints(category)
    if not joints:
        raise ValueError(f"category '{category.get('name')}' names no keypoints")
    limbs = category_limbs(category)
    known = _known(joints)
    if known is not None:
        return Skeleton(name, joints, known.limbs, known.sigmas, known.upper_body)
    sigmas = tuple(float(s) for s in category.get("sigmas") or ())
    return Skeleton(
        name,
        joints,
        limbs.pairs,
        sigmas or default_sigmas(joints),
        flip_pairs=_category_pairs(category, joints),
        sigma_source=str(category.get("sigma_source", "given")) if sigmas else "default",
    )


def _category_pairs(
    category: dict[str, Any], joints: tuple[str, ...]
) -> tuple[tuple[str, str], ...] | None:
    """The flip pairs of a COCO category; an empty list is as good as none, and names tell."""
    return read_flip_pairs(category.get("flip_pairs") or category.get("flip_idx") or None, joints)


def _known(joints: tuple[str, ...]) -> Skeleton | None:
    """COCO's or CrowdPose's skeleton, if these are its joints in its order, in any spelling."""
    keys = [joint_key(joint) for joint in joints]
    known = (COCO, CROWDPOSE)
    return next((s for s in known if keys == [joint_key(joint) for joint in s.joints]), None)


def annotated_skeleton(annotations: Annotations, name: str = "custom") -> Skeleton:
    """Read the skeleton of an annotation file's first category that has keypoints.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: no category names keypoints, or the category's parts do not fit.
    """
    if isinstance(annotations, AnnotationFile):
        path, categories = annotations.path, annotations.content.get("categories") or []
    else:
        path, categories = Path(annotations), _categories(Path(annotations))
    for one in categories:
        if category_joints(one):
            where = f"{path.absolute()}: category '{one.get('name')}'"
            try:
                skeleton = category_skeleton(one, name)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{where}: {error}; correct it, or set skeleton=FILE.yaml "
                    "(in training dataset.skeleton.path=FILE.yaml)"
                ) from None
            if note := category_limbs(one).note:
                _say_once(f"{where}: {note}")
            return skeleton
    raise ValueError(
        f"{path.absolute()}: none of its {len(categories)} categories names its keypoints: write "
        "their names into a YAML, 'joints: [...]', and set skeleton=FILE.yaml (in training "
        "dataset.skeleton.path=FILE.yaml)"
    )


@cache
def _say_once(message: str) -> None:
    """Warn, however often a process reads the file."""
    _log.warning("%s", message)


def _categories(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"no annotations at {path.absolute()} to read a skeleton from: set dataset.root="
            "FOLDER, dataset.train.annotations=FILE.json or dataset.skeleton.path=FILE.yaml"
        )
    where = str(path.absolute())
    return check_lists(parse_json(path.read_bytes(), where), where).get("categories") or []
