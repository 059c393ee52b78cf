"""JSON files as people have them: UTF-8 or UTF-16, with or without a byte-order mark, with NaN."""

import codecs
import gc
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from kdpose.runtime.files import check_file

Text = bytes | memoryview


def plain_text(data: Text) -> Text:
    """The text in UTF-8 without a byte-order mark; nothing is copied where it is UTF-8 already.

    Raises:
        UnicodeDecodeError: it has the mark of UTF-16 or UTF-32 and is neither.
    """
    start = bytes(data[:4])
    if start.startswith(codecs.BOM_UTF8):
        return data[len(codecs.BOM_UTF8) :]
    if start in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return bytes(data).decode("utf-32").encode()
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return bytes(data).decode("utf-16").encode()
    return data


def parse_json(data: Text, where: str) -> Any:
    """Parse a JSON text; ``NaN`` and ``Infinity``, which Python writes, become numbers.

    Raises:
        ValueError: it is not JSON.
    """
    collecting = gc.isenabled()
    gc.disable()  # there is no garbage, and looking for it takes a third of the time
    try:
        text = plain_text(data)
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            with suppress(ValueError):  # the other one does not know NaN
                return json.loads(bytes(text))
            raise error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {error}") from None
    finally:
        if collecting:
            gc.enable()


def read_json(path: str | Path, key: str) -> Any:
    """Read a JSON file; ``key`` is the config key that the path came from, for the error.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is not JSON.
    """
    path = check_file(path, key)
    return parse_json(path.read_bytes(), f"{path.absolute()} (from {key})")
