"""The state of an interrupted training, looked over before Lightning takes it up."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from torch import Tensor

from kdpose.checkpoints.tensors import read_checkpoint

# what Lightning indexes without asking
_NEEDED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "global_step")
_ASKED_FOR = "resume"


def check_resumable(path: str | Path) -> dict[str, Any]:
    """Refuse a file that no training of kdpose wrote, or that names files to be deleted.

    Lightning deletes the checkpoints that its callbacks' state lists once there are better ones:
    such a name must lie below the run's folder, so it may not climb out of it or be a URL.

    Args:
        path: what ``resume`` names; tensors and plain values alone are read.

    Returns:
        Its content.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is refused, in one line.
    """
    where = f"{Path(path).absolute()} (from {_ASKED_FOR})"
    content = read_checkpoint(path, _ASKED_FOR)
    lacking = [key for key in _NEEDED if key not in content]
    if lacking:
        raise ValueError(
            f"{where} holds no {lacking[0]}, so no training can go on from it: take the last.ckpt "
            "of a run"
        )
    for text in _strings(content.get("callbacks", {})):
        if "://" in text or ".." in PurePath(text).parts:
            raise ValueError(
                f"{where} names a file outside its run's folder in the state of a callback"
            )
    return content


def _strings(values: Any) -> Iterator[str]:
    """Every string in nested containers, keys too; what refers to itself is read once."""
    todo, seen = [values], set()
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            yield value
        elif not isinstance(value, Tensor) and id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, Mapping):
                todo += [*value.keys(), *value.values()]
            elif isinstance(value, list | tuple | set | frozenset):
                todo += list(value)
