"""Errors of the operating system in one line: the file, what is wrong with it, what to do."""

import errno
import io
import os
import re
import traceback

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_FOLDER = (errno.ENOTDIR, errno.EEXIST)
_PART = re.compile(r"\.part\d*$")  # of a file that is written whole or not at all


def explain(error: OSError) -> str:
    """The line for an error; one that kdpose has worded stays as it is."""
    if error.errno is None or error.strerror is None:
        return str(error)
    file, said = failed_file(error), error.strerror
    if error.errno in _FULL:
        where = f"{file} cannot be written ({said})" if file else said
        return f"{where}: free space there or write elsewhere (out, runs), and repeat the command"
    if file is None:
        return said
    if error.errno in _CLOSED:
        return (
            f"{file} cannot be used ({said}): change its permissions, or write elsewhere "
            "(out, runs)"
        )
    if error.errno in _NO_FOLDER:
        return f"{file} cannot be made ({said}): a file is where a folder is needed"
    return f"{file}: {said}"


def failed_file(error: OSError) -> str | None:
    """The file of an error: the one that it names, else the one that was being written."""
    if error.filename is not None:
        return _PART.sub("", os.path.abspath(os.fsdecode(error.filename2 or error.filename)))
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        known = dict(frame.f_locals)
        own = getattr(known.get("self"), "__dict__", {})
        for value in (*known.values(), *own.values()):
            name = getattr(value, "name", None) if isinstance(value, io.IOBase) else None
            if isinstance(name, str):
                return _PART.sub("", os.path.abspath(name))
    return None


def of_worker(text: str) -> str:
    """The message of an error that a data worker met, without the traceback that torch adds."""
    if not (text.startswith("Caught ") and "Original Traceback" in text):
        return text
    last = text.rstrip().splitlines()[-1]
    return last.partition(": ")[2] or last
