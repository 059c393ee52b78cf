"""Small files that are complete or absent: written under another name, flushed, renamed."""

import json
import os
from pathlib import Path
from typing import Any


def write_whole(path: str | Path, text: str) -> None:
    """Write a text file, UTF-8; a reader finds either the old or the new file, also after a crash.

    Raises:
        OSError: it could not be written; the old file is kept.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # such as /dev/stdout
        path.write_text(text, encoding="utf-8")
        return
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_json(path: str | Path, content: Any, **options: Any) -> None:
    """The same of plain values; the options are those of ``json.dumps``."""
    write_whole(path, json.dumps(content, **options))
