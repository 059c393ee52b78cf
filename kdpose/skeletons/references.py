"""Limbs and flip pairs as files give them: joints by name, or by number from 0 or from 1."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kdpose.skeletons.sides import joint_key, named_sides, side

_STALE = 0.1  # of the limbs point at no joint: more, and the list belongs to other joints
Pair = tuple[int, int]


class Limbs(NamedTuple):
    """The limbs of a file.

    Attributes:
        pairs: joint indices.
        lost: entries that join no two joints, as the file has them.
        note: what was done to the list, for a message; empty where nothing was.
    """

    pairs: tuple[Pair, ...]
    lost: tuple[Any, ...] = ()
    note: str = ""


def read_limbs(given: Any, joints: Sequence[str], mirrored: Sequence[int] | None = None) -> Limbs:
    """Read a list of limbs.

    COCO counts joints from 1. A list is counted from 0 where that leaves fewer limbs without
    joints, or where it makes the limbs of both sides alike and counting from 1 does not.

    Args:
        given: pairs of numbers or names; None is no limbs.
        joints: K names.
        mirrored: the joints' order after a flip; None: as their names tell.
    """
    entries = list(given) if isinstance(given, list | tuple) else []
    order = list(mirrored) if mirrored is not None else _order(joints)
    read = {base: [_pair(entry, joints, base) for entry in entries] for base in (1, 0)}
    base = min(read, key=lambda b: (read[b].count(None), not _even(read[b], order), -b))
    lost = tuple(e for e, pair in zip(entries, read[base], strict=True) if pair is None)
    pairs = list({frozenset(pair): pair for pair in read[base] if pair is not None}.values())
    if len(lost) > max(1, _STALE * len(entries)):
        note = f"{len(lost)} of {len(entries)} limbs join no two joints, so all are left out"
        return Limbs((), lost, note)
    notes = [f"{len(lost)} of {len(entries)} limbs join no two joints and are left out"] * bool(
        lost
    ) + ["limbs are counted from 0"] * (read[0] != read[1] and base == 0)
    return Limbs(tuple(pairs), lost, "; ".join(notes))


def read_flip_pairs(given: Any, joints: Sequence[str]) -> tuple[tuple[str, str], ...] | None:
    """Read flip pairs, the left joint first where its name tells.

    Args:
        given: pairs of names or of numbers, which count from 0, or from 1 where only that fits
            them or the names; or YOLO's ``flip_idx``, each joint's partner; None is None.
        joints: K names.

    Raises:
        ValueError: a pair names no joint, or the list is neither.
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        given = list(given.items())
    if not isinstance(given, list | tuple):
        raise ValueError(f"flip_pairs must be a list of pairs of joints, got {given}")
    if given and all(_number(entry) is not None for entry in given):
        pairs = _from_order([_number(entry) or 0 for entry in given], len(joints))
    else:
        pairs = _from_pairs(given, joints)
    distinct = {frozenset(pair): pair for pair in pairs if pair[0] != pair[1]}.values()
    turned = [(b, a) if side(joints[a]) == "right" else (a, b) for a, b in distinct]
    return tuple((joints[a], joints[b]) for a, b in turned)


def _from_order(order: list[int], count: int) -> list[Pair]:
    """The pairs of a list of partners."""
    if sorted(order) == list(range(1, count + 1)):
        order = [k - 1 for k in order]
    if sorted(order) != list(range(count)) or any(order[order[k]] != k for k in range(count)):
        raise ValueError(
            f"flip_idx must list the partner of each of {count} joints, counted from 0, and undo "
            f"itself, got {order}"
        )
    return [(a, b) for a, b in enumerate(order) if a < b]


def _from_pairs(given: Sequence[Any], joints: Sequence[str]) -> list[Pair]:
    read = {base: [_pair(e, joints, base, same=True) for e in given] for base in (0, 1)}
    known = {frozenset(pair) for pair in named_sides(joints).pairs}

    def fits(base: int) -> tuple[int, int]:
        found = [pair for pair in read[base] if pair is not None]
        return len(given) - len(found), -sum(frozenset(pair) in known for pair in found)

    pairs = read[min(read, key=fits)]
    for entry, pair in zip(given, pairs, strict=True):
        if pair is None:
            raise ValueError(f"flip_pairs: no joint is called '{_unknown(entry, joints)}'")
    return [pair for pair in pairs if pair is not None]


def _pair(entry: Any, joints: Sequence[str], base: int, same: bool = False) -> Pair | None:
    """Two joints' indices, or None where an entry does not name two."""
    if not isinstance(entry, list | tuple) or len(entry) != 2:
        return None
    a, b = (joint_index(one, joints, base) for one in entry)
    return None if a is None or b is None or (a == b and not same) else (a, b)


def joint_index(reference: Any, joints: Sequence[str], base: int = 0) -> int | None:
    """The index of a joint that is given by its name, in any spelling, or by its number."""
    name = str(reference).strip()
    if name in joints:
        return joints.index(name)
    number = _number(reference)
    if number is not None:
        return number - base if 0 <= number - base < len(joints) else None
    keys = [joint_key(joint) for joint in joints]
    return keys.index(joint_key(name)) if joint_key(name) in keys else None


def _number(value: Any) -> int | None:
    """A whole number, also one that is written as text or as a float."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else None


def _unknown(entry: Any, joints: Sequence[str]) -> Any:
    """What of an entry names no joint."""
    parts = entry if isinstance(entry, list | tuple) and len(entry) == 2 else [entry]
    return next((one for one in parts if joint_index(one, joints) is None), entry)


def _order(joints: Sequence[str]) -> list[int]:
    order = list(range(len(joints)))
    for left, right in named_sides(joints).pairs:
        order[left], order[right] = right, left
    return order


def _even(pairs: Sequence[Pair | None], order: Sequence[int]) -> bool:
    """Whether limbs are the same after a flip, on a body that has two sides."""
    limbs = {frozenset(pair) for pair in pairs if pair is not None}
    flipped = {frozenset(order[k] for k in limb) for limb in limbs}
    return bool(limbs) and list(order) != sorted(order) and flipped == limbs
