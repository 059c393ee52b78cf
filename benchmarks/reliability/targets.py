"""The commands that are killed, on tiny synthetic data, and what they leave behind."""

import csv
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.reliability import commands
from kdpose.data.synthetic.crowds import generate

TINY = (
    "dataset=synthetic",
    "dataset.prepare=null",
    "+scale=synthetic",
    "backbone=mobilenetv4_tiny",
    "codec.input_size=[48,64]",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.check_val_every_n_epoch=1",
    "module.flip_test=false",
    "~callbacks.pictures",
)
_UNCHECKED = ("teacher.check=false", "teacher.force=true")
_SKETCH = ("refiner.hidden=16", "refiner.widths=[16,16,16]")


@dataclass(frozen=True)
class Target:
    """A command and how it goes on.

    Args:
        command: as in ``kdpose NAME``.
        words: its overrides.
        again: more of them when it is repeated.
        refusal: what it says when it is repeated after it has finished, if that is an error.
    """

    command: str
    words: tuple[str, ...]
    again: tuple[str, ...] = ()
    refusal: str = ""

    def finished(self, done: commands.Ended) -> bool:
        """Whether the command succeeded, then or before."""
        return done.code == 0 or bool(self.refusal and done.code == 1 and self.refusal in done.said)


def prepare(folder: Path) -> None:
    """Draw the data and train the teacher and the student that the targets start from."""
    if not (folder / "data" / "annotations").is_dir():
        generate(folder / "data", train=12, val=6, seed=3, workers=1, image_size=(160, 120))
    for name in ("teacher", "student"):
        if (folder / "given" / name / "metrics.json").is_file():
            continue
        words = ["+experiment=baseline", *_places(folder), f"runs={folder}/given", f"name={name}"]
        done = commands.run("train", words, folder / "logs")
        if done.code:
            raise RuntimeError(f"the {name} was not trained: {done.said}")


def _places(folder: Path) -> tuple[str, ...]:
    return (*TINY, f"dataset.root={folder}/data")


def targets(folder: Path) -> dict[str, Target]:
    """The commands by name; ``{out}`` in a word stands for the folder of the results."""
    places = (*_places(folder), "runs={out}")
    taught = (f"teacher.ckpt={folder}/given/teacher/best.ckpt", *_UNCHECKED)
    student = f"{folder}/given/student/best.ckpt"
    goes_on = ("resume=auto",)
    search = ("hparams_search=distill", "hparams_search.trials=2")
    source = (f"source={folder}/data/images", f"ckpt={folder}/given/teacher/best.ckpt")
    boxes = f"boxes={folder}/data/annotations/crowdpose_trainval.json"
    predict = (*source, boxes, "draw=false", "device=cpu", "batch_size=4", "out={out}")
    whole = ("+experiment=full", *places, "teacher.force=true", "teacher.check=false")
    return {
        "teacher": Target("train", ("+experiment=teacher", *places), goes_on),
        "stage 1": Target("train", ("+experiment=stage1", *places, *taught), goes_on),
        "stage 2": Target(
            "train",
            ("+experiment=stage2", *places, *taught, *_SKETCH, f"stage1_ckpt={student}"),
            goes_on,
        ),
        "full": Target("train", whole),
        "sweep": Target("train", ("-m", "+experiment=baseline", *places, "seed=0,1"), goes_on),
        "search": Target("train", ("+experiment=stage1", *places, *taught, *search)),
        "pack": Target(
            "pack",
            ("+experiment=teacher", *places, "workers=0", "out={out}/pack"),
            refusal="exists: remove it",
        ),
        "predict": Target("predict", predict),
    }


def words(target: Target, out: Path, again: bool = False) -> list[str]:
    """The overrides of a target that writes into ``out``."""
    return [w.replace("{out}", str(out)) for w in (*target.words, *(target.again if again else ()))]


_KEPT = ("AP", "AR", "persons", "results", "boxes", "images")


def outcome(folder: Path, name: str) -> dict[str, Any]:
    """What must be equal after an interruption, by file.

    Of a search, only that all trials are complete: trials that were stopped count to its sampler.
    """
    if name == "search":
        tables = sorted(folder.glob("*/trials.csv"))
        rows = [row for table in tables for row in csv.DictReader(table.open())]
        return {"complete": sum(row["state"] == "complete" for row in rows)}
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        key = str(path.relative_to(folder))
        if path.name == "best.ckpt":
            found[key] = _tensors(torch.load(path, weights_only=True)["state_dict"])
        elif path.name == "metrics.json":
            content = json.loads(path.read_text())
            found[key] = {k: v for k, v in content.items() if k.startswith(_KEPT)}
        elif path.name in ("predictions.json", "pixels.bin"):
            found[key] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "index.npz":
            with np.load(path) as arrays:
                found[key] = _tensors({k: torch.from_numpy(arrays[k]) for k in arrays.files})
    return found


def _tensors(state: Mapping[str, torch.Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(name.encode())
        total.update(state[name].contiguous().numpy().tobytes())
    return total.hexdigest()
