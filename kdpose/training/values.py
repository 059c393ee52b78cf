"""Values of a configuration that cannot work, found before anything starts.

Types are those that the classes and functions behind each ``_target_`` declare; pydantic compares.
"""

import inspect
import typing
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import PurePath
from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdpose.runtime.kinds import check_kind, shown

_NEEDED = (
    "dataset", "data", "codec", "backbone", "head", "loss", "module", "optimizer", "schedule",
    "trainer", "callbacks",
)  # fmt: skip
_PARTS = ("codec", "head", "refiner")  # what they are built from is theirs alone
_Count = Annotated[int, Ge(1)]
# what no class declares: keys of the run itself, and ranges
_DECLARED: dict[str, Any] = {
    "run_dir": str,
    "seed": Annotated[int, Ge(0), Lt(2**32)],
    "resume": bool | str | None,
    "doctor": bool,
    "debug": bool,
    "stage1_ckpt": str | None,
    "start": str | None,
    "category": str | int | None,
    "trainer.max_epochs": _Count,
    "trainer.check_val_every_n_epoch": _Count,
    "trainer.accumulate_grad_batches": _Count,
    "data.batch_size": _Count,
    "data.num_workers": Annotated[int, Ge(0)],
    "optimizer.lr": Annotated[float, Gt(0)],
}


def check_run(cfg: DictConfig) -> None:
    """Check the keys of a run itself, without importing what they configure; ``name`` becomes text.

    Raises:
        ValueError: naming key, value and what is expected.
    """
    for group in _NEEDED:
        if cfg.get(group) is None:
            raise ValueError(
                f"{group} is null: a training needs {group}=OPTION; --help lists the options"
            )
    name = cfg.get("name")
    if name is None or not str(name).strip("/") or not _is_inside(str(name)):
        raise ValueError(
            f"name={shown(name)} is refused: it names a folder below runs, so expected is text "
            "without '..' and without '/' at its start"
        )
    cfg.name = str(name)
    if cfg.resume is True:
        raise ValueError("resume=true is refused: take resume=auto, or resume=PATH")
    for key, kind in _DECLARED.items():
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if node is not None and name in node:
            check_kind(key, _plain(node.get(name)), kind)
    if not any(part.get("filename") == "best" for part in cfg.callbacks.values() if part):
        raise ValueError(
            "callbacks.best is missing: the training would end without best.ckpt, which is scored"
        )


def check_values(cfg: DictConfig) -> None:
    """Check every value against the type that its ``_target_`` declares for it.

    Raises:
        ValueError: naming key, value and what is expected, or the key that is not known.
    """
    check_run(cfg)
    for key, node in _nodes(_plain(cfg)):
        if key in _PARTS:
            _check_names(key, node)
        for name, kind in _declared(node["_target_"]).items():
            if name in node and not _holds_targets(node[name]):
                check_kind(f"{key}.{name}", node[name], kind)


def _check_names(key: str, node: dict[str, Any]) -> None:
    """Refuse what a part of the network does not take, such as what a recipe sets for another."""
    try:
        known = inspect.signature(get_object(node["_target_"])).parameters
    except Exception:  # whatever importing raises; building it says so better
        return
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values()):
        return
    for name in node:
        if name not in known and not name.startswith("_"):
            raise ValueError(
                f"{key}.{name} is refused: {node['_target_']} takes {', '.join(known)}; "
                f"'~{key}.{name}' takes away what a recipe sets for another {key}"
            )


def _is_inside(name: str) -> bool:
    path = PurePath(name)
    return not path.is_absolute() and ".." not in path.parts


def _plain(value: Any) -> Any:
    if not OmegaConf.is_config(value):
        return value
    try:
        return OmegaConf.to_container(value, resolve=True)
    except OmegaConfBaseException as error:
        raise ValueError(str(error).splitlines()[0]) from None


def _nodes(node: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node that says what it builds, with its key."""
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield key, node
        for name, part in node.items():
            yield from _nodes(part, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for part in node:
            yield from _nodes(part, key)


def _holds_targets(value: Any) -> bool:
    return value == "???" or any(True for _ in _nodes(value))


@cache
def _declared(target: str) -> dict[str, Any]:
    """The types of a class's or function's parameters; none where they cannot be told."""
    try:
        built = get_object(target)
    except Exception:  # whatever importing raises; building it says so better
        return {}
    hints: dict[str, Any] = {}
    for part in reversed(built.__mro__) if inspect.isclass(built) else (built,):
        function: Any = vars(part).get("__init__") if inspect.isclass(part) else part
        with suppress(Exception):  # names that only a type checker knows
            hints |= typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    if options := getattr(built, "options_kind", None):  # what its ``**options`` are
        hints |= typing.get_type_hints(options)
    return {name: kind for name, kind in hints.items() if name != "return"}
