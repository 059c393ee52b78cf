"""Files of weights: reading them safely, and fitting what they hold to a module.

A file is read as tensors and plain values only (``torch.load(weights_only=True)``), whoever wrote
it, so that it cannot run code.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kdpose.checkpoints.intact import damage

FLOOR = 0.99  # share of a module's tensors that a file must have
_log = logging.getLogger(__name__)

_STARTS = {
    b"<": "a web page, so the download went wrong",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself by `git lfs pull`",
    b"\x89HDF": "an HDF5 file, of Keras",
}
_HOLDERS = ("state_dict", "model_state_dict", "model")  # where projects keep the tensors
_WRAPPERS = re.compile(r"^(?:(?:module|model|net|student)\.)+")
# the AP that HRNet's and SimCC's training stores beside the tensors is a NumPy scalar
_SCALAR = np.float64(0).__reduce__()[0]
_HARMLESS: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float64DType,
]


def read_checkpoint(path: str | Path, key: str = "ckpt") -> dict[str, Any]:
    """Read a file of tensors and plain values, torch's or safetensors'.

    Args:
        path: of the file.
        key: config key that the path came from, for the error.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is something else, with what it starts with, or it needs foreign code.
    """
    path = Path(path)
    where = f"{path.absolute()} (from {key})"
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {where}")
    wrong = damage(path)
    if wrong:
        raise ValueError(f"{where} is {wrong}; {_remedy(path)}")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (Exception, SafetensorError) as error:  # torch raises many kinds; none names the file
        raise ValueError(f"{where} is {_reason(path, error)}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{where} holds a {type(content).__name__} where a checkpoint is a dict")
    return content


def tensors(content: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The weights of a checkpoint by their names, freed from what training wrapped around both.

    Unwraps ``state_dict`` or ``model``; strips ``module.`` (DataParallel), ``_orig_mod.``
    (``torch.compile``), ``net.``, ``student.`` and ``model.``.

    Args:
        content: of the file.
        where: names it in the error.

    Raises:
        ValueError: there is no tensor in it.
    """
    for holder in _HOLDERS:
        if isinstance(content.get(holder), Mapping):
            return tensors(content[holder], where)
    found = {
        _WRAPPERS.sub("", name.replace("_orig_mod.", "")): value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if not found:
        raise ValueError(f"{where} holds no tensor, only {sorted(map(str, content))[:5]}")
    return found


def share(module: nn.Module, weights: Mapping[str, Tensor]) -> tuple[int, list[str]]:
    """How many of the module's tensors the weights have, and the names of those they lack.

    A tensor counts where name and shape agree. Batch norms' step counters are left out: some
    files have none, and no output depends on them.
    """
    own = {n: v.shape for n, v in module.state_dict().items() if not _is_counter(n)}
    missing = [n for n, shape in own.items() if n not in weights or weights[n].shape != shape]
    return len(own) - len(missing), missing


def fit(module: nn.Module, weights: Mapping[str, Tensor], what: str, key: str, where: str) -> None:
    """Copy the weights into the module and log the share that matched.

    Args:
        module: takes every tensor whose name and shape agree.
        weights: by the module's own names.
        what: what the file looks like, for the log and the error.
        key: config key that the file came from.
        where: names the file.

    Raises:
        ValueError: less than ``FLOOR`` of the module's tensors are in the file.
    """
    count, missing = share(module, weights)
    check_share(count, missing, what, where)
    _copy(module, weights)
    announce(key, what, count, missing)


def start_from(module: nn.Module, path: str, key: str = "start") -> None:
    """Begin with the tensors of a file that names them as the network does.

    Args:
        module: what is to be trained; tensors that the file lacks stay as they are.
        path: of the file.
        key: config key that the path came from.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: a tensor of the file has no place in the network.
    """
    where = f"{Path(path).absolute()} (from {key})"
    weights = tensors(read_checkpoint(path, key), where)
    own = module.state_dict()
    strange = [n for n, v in weights.items() if n not in own or own[n].shape != v.shape]
    if strange:
        raise ValueError(
            f"{where}: {len(strange)} of {len(weights)} tensors have no place in the network, the "
            f"first {strange[0]}: take the backbone and head that the file was made for"
        )
    count, missing = share(module, weights)
    _copy(module, weights)
    _log.info("%s: %d of %d tensors from %s", key, count, count + len(missing), path)


def inherit(module: nn.Module, source: nn.Module, key: str) -> None:
    """Start a network with those of another's tensors that have the names and shapes of its own.

    Args:
        module: what is to be trained; its other tensors stay as they are.
        source: what was trained before.
        key: config key that asked for it, for the log and the error.

    Raises:
        ValueError: there is no such tensor.
    """
    weights = source.state_dict()
    count, missing = share(module, weights)
    if not count:
        raise ValueError(
            f"{key}: none of the network's {len(missing)} tensors has the name and shape of one of "
            f"the teacher's: take a backbone of the teacher's family, or {key}=false"
        )
    _copy(module, weights)
    _log.info("%s: %d of %d tensors are the teacher's", key, count, count + len(missing))


def _copy(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Every tensor whose name and shape agree."""
    own = module.state_dict()
    kept = {n: v for n, v in weights.items() if n in own and v.shape == own[n].shape}
    module.load_state_dict(kept, strict=False)


def check_share(count: int, missing: list[str], what: str, where: str) -> None:
    """Refuse a file that has less than ``FLOOR`` of a module's tensors.

    Raises:
        ValueError: naming what the file looks like, the share and some of what it lacks.
    """
    total = count + len(missing)
    if count < FLOOR * total:
        raise ValueError(
            f"{where} looks like {what}: matched {_percent(count, total)} of the network's {total} "
            f"tensors, not {', '.join(missing[:3])}"
        )


def announce(key: str, what: str, count: int, missing: list[str]) -> None:
    """Log what a file is and how much of it was used; tensors left at random are a warning."""
    total = count + len(missing)
    line = f"{key}: {what}: {count} of {total} tensors ({_percent(count, total)})"
    if missing:
        _log.warning("%s; left at random: %s", line, ", ".join(missing))
    else:
        _log.info(line)


def _percent(count: int, total: int) -> str:
    """Rounded down, so that only all is 100 %."""
    return f"{100 * count // max(total, 1)} %"


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _remedy(path: Path) -> str:
    """What to take in the place of a damaged file."""
    before = path.with_name(f"{path.stem}.1{path.suffix}")
    if before.is_file():
        return f"the one before is {before.absolute()}"
    return "copy it again from where it came from, or train it again"


def _reason(path: Path, error: BaseException) -> str:
    """Why a file could not be read, in one line."""
    foreign = re.search(r"GLOBAL (\S+)", str(error))
    if foreign:
        return (
            f"not read: it holds a '{foreign[1]}', which runs code when loaded. If you trust it, "
            "keep its tensors alone: python -c \"import torch; torch.save({'state_dict': "
            "torch.load('FILE', weights_only=False)['state_dict']}, 'NEW')\""
        )
    with path.open("rb") as file:
        start = file.read(24)
    guess = next((text for head, text in _STARTS.items() if start.lstrip().startswith(head)), "")
    guess = guess if start else "an empty file"
    return (
        f"not a checkpoint of tensors and plain values: it starts with {start!r} "
        f"({guess or type(error).__name__}); {_remedy(path)}"
    )
