"""Skeletons by name or file: a YAML file, or the category of an annotation file."""

import json
from pathlib import Path
from typing import Any

import yaml

from kdpose.runtime.annotation_file import AnnotationFile, Annotations
from kdpose.skeletons.known import COCO, CROWDPOSE, default_sigmas
from kdpose.skeletons.skeleton import Skeleton

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
    lists of pairs of names; ``sigmas``, a list or numbers by name; ``sigma_source``; and
    ``upper_body``, names. Flip pairs follow from names with left and right, head size from the
    number of joints, and missing sigmas from :func:`kdpose.skeletons.known.default_sigmas`.

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
    joints = tuple(str(joint) for joint in values["joints"])
    sigmas, flip = values.get("sigmas"), values.get("flip_pairs")
    if isinstance(sigmas, dict):
        indices = _indices(joints, list(sigmas), "sigmas")
        lacking = [joint for k, joint in enumerate(joints) if k not in indices]
        if lacking:
            raise ValueError(f"sigmas must name every joint, '{lacking[0]}' is missing")
        sigmas = [sigmas[joint] for joint in joints]
    limbs = [_indices(joints, limb, "limbs") for limb in values.get("limbs") or ()]
    return Skeleton(
        name=str(values["name"]),
        joints=joints,
        limbs=tuple((a, b) for a, b in limbs),
        sigmas=tuple(map(float, sigmas)) if sigmas else default_sigmas(joints),
        upper_body=_indices(joints, values.get("upper_body") or (), "upper_body"),
        flip_pairs=None if flip is None else tuple((str(a), str(b)) for a, b in flip),
        sigma_source=str(values.get("sigma_source", "given")) if sigmas else "default",
    )


def _indices(joints: tuple[str, ...], names: Any, key: str) -> tuple[int, ...]:
    """Indices of the named joints."""
    for name in names:
        if str(name) not in joints:
            raise ValueError(f"{key}: no joint is called '{name}'")
    return tuple(joints.index(str(name)) for name in names)


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


def category_skeleton(category: dict[str, Any], name: str = "custom") -> Skeleton:
    """Read a skeleton from a COCO category.

    If a limb points at no joint (as in CrowdPose's own file), all limbs are ignored.

    Raises:
        ValueError: the category names no keypoints.
    """
    joints = tuple(str(joint) for joint in category.get("keypoints") or ())
    if not joints:
        raise ValueError(f"category '{category.get('name')}' names no keypoints")
    for known in (COCO, CROWDPOSE):
        if joints == known.joints:
            return Skeleton(name, joints, known.limbs, known.sigmas, known.upper_body)
    pairs = [(int(a) - 1, int(b) - 1) for a, b in category.get("skeleton") or ()]
    limbs = tuple(p for p in pairs if min(p) >= 0 and max(p) < len(joints))
    limbs = limbs if len(limbs) == len(pairs) else ()
    sigmas = tuple(float(s) for s in category.get("sigmas") or ())
    flip = category.get("flip_pairs")
    return Skeleton(
        name,
        joints,
        limbs,
        sigmas or default_sigmas(joints),
        flip_pairs=None if flip is None else tuple((str(a), str(b)) for a, b in flip),
        sigma_source=str(category.get("sigma_source", "given")) if sigmas else "default",
    )


def annotated_skeleton(annotations: Annotations, name: str = "custom") -> Skeleton:
    """Read the skeleton of an annotation file's first category that has keypoints.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: no category names keypoints.
    """
    if isinstance(annotations, AnnotationFile):
        path, categories = annotations.path, annotations.content.get("categories") or []
    else:
        path, categories = Path(annotations), _categories(Path(annotations))
    for category in categories:
        if category.get("keypoints"):
            return category_skeleton(category, name)
    raise ValueError(f"{path.absolute()}: none of its {len(categories)} categories has keypoints")


def _categories(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"no annotations at {path.absolute()} to read a skeleton from: set dataset.root="
            "FOLDER, dataset.train.annotations=FILE.json or dataset.skeleton.path=FILE.yaml"
        )
    try:
        return json.loads(path.read_bytes()).get("categories") or []
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path.absolute()} is not a COCO-keypoints JSON: {error}") from None
