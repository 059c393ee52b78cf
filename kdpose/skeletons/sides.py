"""Left and right in the names of joints, in any usual spelling."""

import re
from collections.abc import Sequence
from typing import NamedTuple

_SPELLINGS = {
    "left": ("left", "l", "lt", "lft", "左", "gauche", "links", "izquierda", "izquierdo"),
    "right": ("right", "r", "rt", "rgt", "右", "droite", "rechts", "derecha", "derecho"),
}
_SIDES = {spelling: side for side, all_of in _SPELLINGS.items() for spelling in all_of}
_OTHER = {"left": "right", "right": "left"}
_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NUMBERED = re.compile(rf"(\d*)({'|'.join(sorted(_SIDES, key=len, reverse=True))})(\d*)")
_BODY = "eye|ear|shoulder|elbow|wrist|hip|knee|ankle|hand|foot|heel|toe|paw|leg|arm|wing|tip"
_PREFIXED = re.compile(rf"(left|right)({_BODY})|(左|右)(\w+)")
_SUFFIXED = re.compile(rf"({_BODY})(left|right)|(\w+)(左|右)")
_LETTERED = re.compile(r"(l|r)(eye|shoulder|elbow|wrist|hip|knee|ankle)")  # rear is no right ear


class NamedSides(NamedTuple):
    """What names say of sides.

    Attributes:
        pairs: (left, right) joint indices whose names differ by the side alone.
        single: indices of joints whose name has a side and whose partner is missing.
    """

    pairs: tuple[tuple[int, int], ...]
    single: tuple[int, ...]


def words(name: str) -> list[str]:
    """The words of a name in lower case: ``LShoulder``, ``l-shoulder`` are ``l``, ``shoulder``."""
    return [word for word in re.split(r"[\W_]+", _CASE.sub(" ", name).lower()) if word]


def joint_key(name: str) -> str:
    """The name of a joint that skeletons share: its side comes first, in full.

    ``L-Ankle``, ``l_ankle``, ``leftankle``, ``AnkleLeft`` and ``ankle left`` are all
    ``left_ankle``; there are no other synonyms.
    """
    found, rest = _parsed(name)
    return "_".join([*found, *rest])


def side(name: str) -> str | None:
    """``left``, ``right``, or None for a joint on the midline."""
    found, _ = _parsed(name)
    return found[0] if found else None


def named_sides(joints: Sequence[str]) -> NamedSides:
    """The pairs that the names of joints make, and the joints that lack their partner."""
    place = {joint_key(joint): k for k, joint in enumerate(joints)}
    partner: dict[int, int] = {}
    for k, joint in enumerate(joints):
        found, rest = _parsed(joint)
        other = place.get("_".join([*(_OTHER[s] for s in found), *rest])) if found else None
        if other is not None and other != k:
            partner[k] = other
    partner |= _by_letter(joints, [k for k in range(len(joints)) if k not in partner])
    left = {k for k, joint in enumerate(joints) if _leads(joint, joints, partner.get(k))}
    pairs = tuple((k, other) for k, other in partner.items() if k in left)
    single = (k for k, joint in enumerate(joints) if k not in partner and _tells(joint))
    return NamedSides(tuple(sorted(pairs)), tuple(single))


def _parsed(name: str) -> tuple[list[str], list[str]]:
    """The sides in a name, in full, and its other words."""
    found, rest = [], []
    for word in words(name):
        spelt, remainder = _split(word)
        if spelt:
            found.append(spelt)
        if remainder:
            rest.append(remainder)
    return found, rest


def _split(word: str) -> tuple[str | None, str]:
    """The side in a word, and what else it says."""
    if match := _NUMBERED.fullmatch(word):
        before, spelt, after = match.groups()
        return _SIDES[spelt], before + after
    if match := _PREFIXED.fullmatch(word) or _LETTERED.fullmatch(word):
        spelt, rest = (part for part in match.groups() if part)
        return _SIDES[spelt], rest
    if match := _SUFFIXED.fullmatch(word):
        rest, spelt = (part for part in match.groups() if part)
        return _SIDES[spelt], rest
    return None, word


def _by_letter(joints: Sequence[str], left_over: Sequence[int]) -> dict[int, int]:
    """Partners among joints whose names differ by a side within a word: ``earl`` and ``earr``."""
    near: dict[int, list[int]] = {k: [] for k in left_over}
    for a in left_over:
        for b in left_over:
            if a != b and _side_against(joints[a], joints[b]) is not None:
                near[a].append(b)
    return {a: b for a, (b, *more) in ((a, n) for a, n in near.items() if n)
            if not more and near[b] == [a]}  # fmt: skip


def _side_against(a: str, b: str) -> str | None:
    """The side of the first name, if the other one differs by it alone.

    That is ``left`` for ``right`` anywhere, or an l for an r at an end of a word.
    """
    one, other = "_".join(words(a)), "_".join(words(b))
    for here, there in _OTHER.items():
        if here in one and one.replace(here, there, 1) == other:
            return here
    off = [n for n, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1]
    if len(one) != len(other) or len(off) != 1 or {one[off[0]], other[off[0]]} != {"l", "r"}:
        return None
    edges = f"_{one}_"[off[0]], f"_{one}_"[off[0] + 2]
    return _SIDES[one[off[0]]] if any(not edge.isalpha() for edge in edges) else None


def _leads(joint: str, joints: Sequence[str], partner: int | None) -> bool:
    """Whether a joint is the left one of its pair."""
    if partner is None:
        return False
    return (side(joint) or _side_against(joint, joints[partner])) == "left"


def _tells(joint: str) -> bool:
    """Whether a name surely has a side: not as ``L4``, which may be a vertebra."""
    return any(_split(word)[0] and not re.search(r"\d", word) for word in words(joint))
