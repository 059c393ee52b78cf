"""Plain values of a description, checked before anything is built of them."""

import math
import re
from collections.abc import Mapping
from typing import Any

import timm

_DEPTH, _NODES, _LETTERS = 12, 50_000, 4096  # of a whole description, and of one string
_LARGEST, _SIDE = 100_000, 4096  # of any number, and of input pixels along one side
_SKELETON = frozenset(
    ("name", "joints", "limbs", "sigmas", "upper_body", "flip_pairs", "sigma_source")
)
# arguments of timm that fetch or read files, or change what is built
_TIMM_OWN = frozenset(
    ("checkpoint_path", "cache_dir", "features_only", "out_indices", "scriptable", "exportable")
)


def check_plain(value: Any) -> None:
    """Refuse all but dicts with string keys, lists, strings, finite numbers, booleans and None.

    Raises:
        ValueError: naming the kind of thing and the key that it lies under.
    """
    todo: list[tuple[Any, str, int]] = [(value, "", 0)]
    seen = 0
    while todo:
        node, key, depth = todo.pop()
        seen += 1
        if depth > _DEPTH or seen > _NODES:
            raise ValueError("its description is nested too deep or too long")
        if type(node) is dict:
            strange = [name for name in node if type(name) is not str]
            if strange:
                raise ValueError(f"{key or 'its description'} has a key that is not a string")
            todo += [(child, f"{key}.{name}".strip("."), depth + 1) for name, child in node.items()]
        elif type(node) is list:
            todo += [(child, key, depth + 1) for child in node]
        else:
            _check_leaf(node, key)


def _check_leaf(value: Any, key: str) -> None:
    if type(value) not in (str, int, float, bool, type(None)):
        raise ValueError(
            f"{short(key)} is a {type(value).__name__}, and a description holds dicts, lists, "
            "strings, numbers, booleans and None"
        )
    if isinstance(value, str) and len(value) > _LETTERS:
        raise ValueError(f"{short(key)} is a string of {len(value)} letters")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{short(key)} is {value}, no finite number")


def check_values(values: Mapping[str, Any], kind: str, key: str) -> None:
    """Refuse values that no such part has."""
    if kind == "skeleton":
        _check_skeleton(values.get("values"), key)
        return
    if kind == "backbone":
        _check_model(values, key)
    for name, value in values.items():
        if isinstance(value, dict) and name != "model_args":
            raise ValueError(f"{key}.{name} is a dict where a value belongs")
        _check_sizes(value, f"{key}.{name}", _SIDE if name == "input_size" else _LARGEST)


def _check_sizes(value: Any, key: str, largest: int) -> None:
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list):
        for child in children:
            _check_sizes(child, key, largest)
    elif isinstance(value, int | float) and abs(value) > largest:
        raise ValueError(f"{short(key)} is {value}, beyond {largest}")


def _check_model(values: Mapping[str, Any], key: str) -> None:
    """A name in timm's own registry and arguments that only shape the network."""
    name = values.get("name", "")
    if "name" in values and not (_is_word(name, dots=True) and timm.is_model(name)):
        raise ValueError(f"{key}.name is '{short(name)}', no network that timm itself builds")
    arguments = values.get("model_args") or {}
    if not isinstance(arguments, dict):
        raise ValueError(f"{key}.model_args must be a dict")
    for argument, value in arguments.items():
        if argument in _TIMM_OWN or argument.startswith("pretrained") or not _is_word(argument):
            raise ValueError(f"{key}.model_args may not set '{short(argument)}'")
        _check_argument(value, f"{key}.model_args.{argument}")


def _check_argument(value: Any, key: str) -> None:
    """Numbers, words and lists of them."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, list):
            _check_argument(one, key)
        elif isinstance(one, dict) or (isinstance(one, str) and not _is_word(one)):
            raise ValueError(f"{key} must be a number, a plain word or a list of them")


def _is_word(value: Any, dots: bool = False) -> bool:
    pattern = r"[a-z0-9_]+(?:\.[a-z0-9_]+)?" if dots else r"[a-z][a-z0-9_]*"
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _check_skeleton(values: Any, key: str) -> None:
    """What :meth:`Skeleton.to_dict` writes; names may hold any letters, and mean nothing."""
    if not isinstance(values, dict):
        raise ValueError(f"{key}.values must be a dict")
    unknown = sorted(values.keys() - _SKELETON)
    lacking = sorted(_SKELETON - {"flip_pairs", "sigma_source"} - values.keys())
    if unknown or lacking:
        what = f"the unknown key '{short(unknown[0])}'" if unknown else f"no '{lacking[0]}'"
        raise ValueError(f"{key}.values has {what}")
    count = len(values["joints"]) if isinstance(values["joints"], list) else 0
    shaped = {
        "joints": count > 0 and _all(values["joints"], str),
        "sigmas": _all(values["sigmas"], int, float),
        "upper_body": _indices(values["upper_body"], count),
        "limbs": _pairs(values["limbs"]) and all(_indices(x, count) for x in values["limbs"]),
        "name": isinstance(values["name"], str),
        "flip_pairs": values.get("flip_pairs") is None
        or (_pairs(values["flip_pairs"]) and all(_all(x, str) for x in values["flip_pairs"])),
        "sigma_source": isinstance(values.get("sigma_source", ""), str),
    }
    wrong = [name for name, right in shaped.items() if not right]
    if wrong:
        raise ValueError(f"{key}.values.{wrong[0]} is not what a skeleton has there")


def _all(values: Any, *kinds: type) -> bool:
    return isinstance(values, list) and all(type(value) in kinds for value in values)


def _pairs(values: Any) -> bool:
    return _all(values, list) and all(len(value) == 2 for value in values)


def _indices(values: Any, count: int) -> bool:
    return _all(values, int) and all(0 <= value < count for value in values)


def short(text: str) -> str:
    """At most 80 printable letters of what a stranger wrote."""
    line = "".join(letter if letter.isprintable() else "?" for letter in str(text))
    return line if len(line) <= 80 else f"{line[:77]}..."
