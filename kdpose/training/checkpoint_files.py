"""How a training's checkpoints are written, and from which one it continues."""

import logging
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from kdpose.checkpoints.intact import damage, save_whole
from kdpose.checkpoints.resume import check_resumable

_log = logging.getLogger(__name__)
LAST, BEFORE = "last.ckpt", "last.1.ckpt"


class WholeFiles(TorchCheckpointIO):
    """Lightning's files, written by :func:`save_whole`; the ``last.ckpt`` before is kept."""

    _checked = False

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write the file."""
        path = Path(path)
        keep = path.with_name(BEFORE) if path.name == LAST else None
        if keep is not None and not self._checked:  # one of an earlier process may be damaged
            keep = None if path.is_file() and damage(path) else keep
            self._checked = True
        save_whole(checkpoint, path, keep)


def resumable(folder: Path) -> Path | None:
    """The newest checkpoint of a run from which training can go on, or None if it has none.

    Raises:
        ValueError: there are some, and none is whole; the newest is named.
    """
    refused: list[ValueError] = []
    for path in (folder / LAST, folder / BEFORE):
        if not path.is_file():
            continue
        try:
            check_resumable(path)
        except ValueError as error:
            refused.append(error)
            continue
        if refused:
            _log.warning("%s; training goes on from %s", refused[0], path.absolute())
        return path
    if refused:
        raise ValueError(f"{refused[0]}. There is no whole {BEFORE}: resume=false starts again")
    return None
