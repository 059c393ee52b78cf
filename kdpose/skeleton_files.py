"""Skeletons by name or file: a YAML of their own, or the category of an annotation file."""

from pathlib import Path
from typing import Any

import yaml

from kdpose.keypoints import COCO, CROWDPOSE, Skeleton, default_sigmas

_KEYS = ("name", "joints", "limbs", "sigmas", "sigma_source", "upper_body", "flip_pairs")


def named_skeleton(name: str | Path) -> Skeleton:
    """``coco``, ``crowdpose``, or what a file says, see :func:`read_skeleton`."""
    known = {skeleton.name: skeleton for skeleton in (COCO, CROWDPOSE)}
    if name in known:
        return known[str(name)]
    read = read_skeleton(name)
    return next((skeleton for skeleton in known.values() if skeleton.joints == read.joints), read)


def read_skeleton(path: str | Path) -> Skeleton:
    """Read a skeleton's own YAML, or the category of a COCO-format JSON.

    The YAML has ``joints``, a list of names, and may have ``name``; ``limbs`` and ``flip_pairs``,
    lists of pairs of names; ``sigmas``, a list or numbers by name; ``sigma_source``; and
    ``upper_body``, names. Flip pairs follow from names with left and right, head size from the
    number of joints, and sigmas that nobody gave from :func:`kdpose.keypoints.default_sigmas`.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: a key or a joint is unknown, or the parts do not fit one another.
    """
    path = Path(path)
    if path.suffix not in (".yaml", ".yml"):
        return Skeleton.from_json(path)
    if not path.is_file():
        raise FileNotFoundError(f"no skeleton at {path.absolute()}")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path.absolute()} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or not isinstance(values.get("joints"), list):
        raise ValueError(f"{path.absolute()} is no skeleton: it needs 'joints', a list of names")
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
    """A skeleton whose parts are told by joint names."""
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


def _indices(joints: tuple[str, ...], names: Any, key: str) -> tuple[int, ...]:  # noqa: ANN401
    """Where the named joints are."""
    for name in names:
        if str(name) not in joints:
            raise ValueError(f"{key} name no joint by '{name}'")
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
