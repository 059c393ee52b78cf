"""Values of a configuration against the kinds that are declared for them; pydantic compares."""

import json
import math
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le
from omegaconf import DictConfig, OmegaConf
from pydantic import ConfigDict, TypeAdapter, ValidationError

_PLAIN = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "tuple": "a list",
    "dictionary": "keys with values",
}
_COUNT = Annotated[int, Ge(1)]
_ANY_COUNT = Annotated[int, Ge(0)]
_TEXT = (
    "ckpt", "predictions", "annotations", "images", "skeleton", "out", "submission", "json",
    "sheet", "protocol", "from", "label", "shards",
)  # fmt: skip
_KINDS: dict[str, Any] = {
    **dict.fromkeys(_TEXT, str | None),
    "source": str,  # also a camera's number
    "category": str | int | None,
    "boxes": str | list[str],
    "device": str | _ANY_COUNT,
    "batch_size": _COUNT,
    "num_workers": _ANY_COUNT,
    "threshold": float | None,
    "boxes_overlap": float,
    "split": str,
    "encoding": str,
    "quality": Annotated[int, Ge(1), Le(100)],
    "size": tuple[_COUNT, _COUNT],
    "workers": _ANY_COUNT,
    "shard_mb": Annotated[float, Gt(0)],
    "shard": _COUNT | None,
    "open": str | _ANY_COUNT,
    **dict.fromkeys(("flip", "draw", "crops", "compare", "reduce", "debug"), bool),
}


def check_command(cfg: DictConfig) -> None:
    """Check the keys that commands share; a path that is a number becomes text.

    Raises:
        ValueError: naming key, value and what is expected.
    """
    for key, kind in _KINDS.items():
        if key not in cfg or OmegaConf.is_missing(cfg, key):
            continue
        value = cfg[key]
        if key in (*_TEXT, "source") and type(value) in (int, float):
            cfg[key] = value = str(value)
        check_kind(
            key, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value, kind
        )


def check_kind(key: str, value: Any, kind: Any) -> None:
    """Compare a value with a kind; one that pydantic does not know is not compared.

    Args:
        key: of the value, for the message.
        value: plain.
        kind: a type, optionally with ranges.

    Raises:
        ValueError: naming key, value and what is expected.
    """
    try:
        adapter = _adapter(kind)
    except TypeError:  # not hashable
        return
    if adapter is None:
        return
    try:
        # as JSON, where a list may stand for a tuple and a whole number for a float
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        wanted = dict.fromkeys(_words(detail) for detail in error.errors())
        raise ValueError(
            f"{key}={shown(value)} is refused: expected {' or '.join(wanted)}"
        ) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key}={value} is refused: expected a number")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
    except Exception:  # a type that pydantic has no schema for
        return None


def shown(value: Any) -> str:
    """A value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value).replace("NaN", "nan")


def _words(detail: Mapping[str, Any]) -> str:
    """What pydantic expected, in few words."""
    if detail["type"] == "missing":
        return "more values"
    text = str(detail["msg"]).removeprefix("Input should be ").removeprefix("a valid ")
    return _PLAIN.get(text, text)
