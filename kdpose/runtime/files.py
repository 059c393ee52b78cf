"""Files that must exist, checked before anything slow is imported."""

import glob
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdpose.runtime.recipes import words_for


def how_to_mend(key: str) -> str:
    """What to set where the files of a config key are missing."""
    if key.startswith(("data.", "dataset.")):  # of a data set that is laid out as usual
        return "set dataset.root or KDPOSE_DATA to where the data lies"
    return f"set {key}=PATH"


def check_file(path: str | Path, key: str) -> Path:
    """The path of a file that exists.

    Args:
        path: of the file.
        key: config key that the path came from, for the error.

    Raises:
        FileNotFoundError: the file is not there.
    """
    path = Path(path)
    if not path.is_file():
        where = f"at {path.absolute()} (from {key})"
        if "annotations" not in key:
            raise FileNotFoundError(f"no file {where}")
        raise FileNotFoundError(f"no annotations {where}; {how_to_mend(key)}")
    return path


def check_checkpoint(path: str | Path, key: str) -> Path:
    """The path of a checkpoint that exists; the error names the command that trains it.

    Raises:
        FileNotFoundError: the file is not there.
    """
    path = Path(path)
    if not path.is_file():
        words = words_for(path.parent.name) if path.suffix == ".ckpt" else None
        way = f"train it by `kdpose train {words}` or " if words else ""
        raise FileNotFoundError(
            f"no checkpoint at {path.absolute()} (from {key}); {way}set {key}=PATH"
        )
    return path


def check_source(source: str) -> None:
    """Refuse a source of images or video that is neither a path, a pattern, a camera nor a URL.

    Raises:
        FileNotFoundError: nothing is there.
    """
    elsewhere = source == "-" or source.isdecimal() or "://" in source
    if not elsewhere and not Path(source).exists() and not glob.has_magic(source):
        raise FileNotFoundError(
            f"no image, video or folder at {Path(source).absolute()} (from source)"
        )


def check_folder(path: str | Path, key: str) -> None:
    """Refuse a folder that does not exist.

    Raises:
        FileNotFoundError: the folder is not there.
    """
    if not Path(path).is_dir():
        raise FileNotFoundError(f"no folder at {Path(path).absolute()} (from {key})")


def data_folder() -> Path:
    """The folder of data sets: ``$KDPOSE_DATA``, or ``data`` in the working directory."""
    return Path(os.environ.get("KDPOSE_DATA") or "data").absolute()


def shareable(dataset: Any) -> Any:
    """A description of data without this machine's places, for a file that others get.

    Absolute paths below the folder of data sets become relative to it, those below the working
    directory relative to that, and of others the name is left.
    """
    if isinstance(dataset, dict):
        return {key: shareable(value) for key, value in dataset.items()}
    if not (isinstance(dataset, str) and os.path.isabs(dataset)):
        return dataset
    for base in (data_folder(), Path.cwd()):
        if Path(dataset).is_relative_to(base):
            return str(Path(dataset).relative_to(base))
    return Path(dataset).name


def located(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The same on a machine: relative paths that exist below the folder of data sets, whole.

    A path that exists as it is, seen from the working directory, stays.
    """
    found = dict(dataset)
    for key, value in dataset.items():
        if isinstance(value, dict):
            found[key] = located(value)
        elif key in ("annotations", "images") and isinstance(value, str):
            place = data_folder() / value
            found[key] = str(place) if place.exists() and not Path(value).exists() else value
    return found
