"""Complete checkpoints: written under another name, flushed, checked, renamed; checked when read.

``torch.save`` writes a zip file with a CRC-32 of each record; ``torch.load`` does not check these.
"""

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

_BLOCK = 1 << 22  # bytes read at a time


def damage(path: str | Path) -> str | None:
    """What is wrong with a file that ``torch.save`` wrote, or None.

    Files of other formats have no checksums, and pass; so do those that were written without
    (``torch.serialization.set_crc32_options``).
    """
    path = Path(path)
    with path.open("rb") as file:
        start = file.read(4)
    if start != b"PK\x03\x04":
        return _replaced(path, start)
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            bad = [record.filename for record in records if not _is_whole(archive, record)]
    except Exception:  # zipfile raises many kinds
        return "damaged: it is cut short, or its directory is broken"
    if bad and len(bad) < len(records):
        return f"damaged: {bad[0]} in it has another checksum than when it was written"
    return None


def _replaced(path: Path, start: bytes) -> str | None:
    """Nothing, zeros or a page of the web instead of a file."""
    if not start:
        return "damaged: it is empty"
    if start == b"\0\0\0\0":
        return "damaged: it begins with zeros, as after a power cut or on a full disk"
    return None


def _is_whole(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> bool:
    found = 0
    expected, record.CRC = record.CRC, None  # type: ignore[assignment]  # compared here, not there
    with archive.open(record) as file:
        while block := file.read(_BLOCK):
            found = zlib.crc32(block, found)
    return found == expected


def save_whole(content: Any, path: str | Path, keep: str | Path | None = None) -> None:
    """Write a checkpoint so that at every moment there is a whole one.

    Args:
        content: tensors and plain values.
        path: of the file; it appears only when it is complete and on the disk.
        keep: the file that was there before gets this name.

    Raises:
        OSError: it could not be written; what was there before still is.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        wrong = damage(part)
        if wrong:
            raise OSError(f"what was written is {wrong}")
    except (OSError, RuntimeError) as error:  # torch's writer hides the system's error
        part.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else error.__context__ or error
        raise OSError(
            f"{path.absolute()} cannot be written ({_first(cause)}): free space on the disk; the "
            "file that was there before is kept"
        ) from None
    if keep is not None and path.is_file():
        _also_as(path, Path(keep))
    part.replace(path)
    _flush_folder(path.parent)


def _first(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _also_as(path: Path, name: Path) -> None:
    """Give a file a second name, without a moment in which it has none."""
    waiting = name.with_name(f"{name.name}.part")
    waiting.unlink(missing_ok=True)
    try:
        os.link(path, waiting)
    except OSError:  # a file system without links
        path.replace(waiting)
    waiting.replace(name)


def _flush_folder(folder: Path) -> None:
    """Have the new names on the disk as well, where the system can."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(number)
    except OSError:
        pass
    finally:
        os.close(number)
