"""``what=startup``: the CPU time until a command answers, against ``import torch``."""

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from kdpose.evaluation.timing import Case

_REFERENCE = "import torch"
_ANSWERS = {
    "--help": ["--help"],
    "--cfg job": ["--cfg", "job"],
    "mistyped key": ["data.batchsize=3"],
    "mistyped name": ["backbone=hrnet_w23"],
    "missing file": ["dataset=coco", "data_dir=/nowhere"],
}


def cases(scratch: Path) -> list[Case]:
    """Each answer of ``kdpose train``, and ``import kdpose``, in a process of its own.

    Args:
        scratch: folder that the commands start in.
    """
    started = {
        _REFERENCE: ["-c", "import torch"],
        "import kdpose": ["-c", "import kdpose"],
        **{f"kdpose train: {name}": _train(*words) for name, words in _ANSWERS.items()},
    }
    return [
        Case(name, partial(_start, words, scratch), None if name == _REFERENCE else _REFERENCE)
        for name, words in started.items()
    ]


def _train(*words: str) -> list[str]:
    return ["-m", "kdpose", "train", *words]


def _start(words: Sequence[str], folder: Path) -> float:
    """Start Python and wait for its end; 1 start.

    Raises:
        RuntimeError: it neither succeeded nor failed with an error of one line.
    """
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode > 1 or "Traceback" in done.stderr:
        raise RuntimeError(f"{' '.join(words)} failed: {done.stderr}")
    return 1.0
