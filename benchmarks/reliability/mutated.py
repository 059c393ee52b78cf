"""Run commands on changed files and judge what they do."""

import json
import math
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.reliability.commands import Ended, run
from benchmarks.reliability.mutations import Mutation, mutations
from benchmarks.reliability.records import Records
from benchmarks.reliability.targets import TINY, prepare
from kdpose.inference.video import VideoWriter

_SECONDS, _BYTES = 10.0, 2 << 30  # processor time and memory that no command may exceed
_LIMIT = 300.0  # seconds after which it is ended, on a machine that may be busy
_FOLDERS = ("photographs", "found")  # commands that take what a folder has
_PERSONS = 10
_COUNTED = ("converted", "poses", "persons", "packed", "frames")
Figures = dict[str, float | None]

_TRAIN = (
    "+experiment=baseline", *(word for word in TINY if not word.startswith("dataset")),
    "dataset=custom", "trainer.max_epochs=1", "runs=runs", "name=run",
    "dataset.train.annotations=a.json", "dataset.train.images=images",
    "dataset.val.annotations=v.json", "dataset.val.images=others",
)  # fmt: skip
_COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "doctor": ("doctor", ("annotations=a.json", "images=images", "json=doctor.json")),
    "convert": ("convert", ("from=coco", "source=a.json", "images=images", "out=convert.json")),
    "evaluate": (
        "evaluate", ("predictions=p.json", "annotations=a.json", "protocol=coco", "out=score.json")
    ),
    "predict": (
        "predict", ("ckpt=net.ckpt", "source=a.json", "images=images", "boxes=a.json",
                    "draw=false", "device=cpu", "out=poses"),
    ),
    "train": ("train", _TRAIN),
    "boxes": (
        "predict", ("ckpt=net.ckpt", "source=a.json", "images=images", "boxes=d.json",
                    "draw=false", "device=cpu", "out=poses"),
    ),
    "network": (
        "evaluate", ("ckpt=net.ckpt", "annotations=a.json", "images=images", "boxes=d.json",
                     "protocol=coco", "num_workers=0", "device=cpu", "out=score.json"),
    ),
    "photographs": (
        "predict", ("ckpt=net.ckpt", "source=images", "boxes=whole", "draw=false", "device=cpu",
                    "out=poses"),
    ),
    "found": (
        "predict", ("ckpt=net.ckpt", "source=images", "boxes=auto", "detector.name=multipose",
                    "device=cpu", "out=poses"),
    ),
    "film": (
        "predict", ("ckpt=net.ckpt", "source=v.mp4", "boxes=whole", "draw=false", "device=cpu",
                    "out=poses"),
    ),
    "pack": ("pack", (*_TRAIN, "workers=0", "out=pack")),
    "look": ("doctor", ("annotations=a.json", "images=images", "skeleton=s.yaml")),
    "turn": (
        "convert", ("from=coco", "source=a.json", "images=images", "skeleton=s.yaml",
                    "out=convert.json"),
    ),
    "taught": (
        "train", (*_TRAIN, "teacher=checkpoint", "teacher.ckpt=net.ckpt", "teacher.force=true")
    ),
}  # fmt: skip
_BY_KIND = {
    "annotations": ("doctor", "convert", "evaluate", "predict", "train", "pack"),
    "results": ("evaluate",),
    "detections": ("boxes", "network"),
    "images": ("doctor", "predict", "train", "pack", "photographs", "found"),
    "names": ("photographs", "found"),
    "video": ("film",),
    "skeleton": ("look", "turn"),
    "checkpoint": ("predict", "network", "taught"),
    "override": (),
}


def mutate_all(records: Records, folder: Path, count: int, seed: int) -> None:
    """Run the commands on each mutation until there are ``count`` records.

    Args:
        records: of the campaign; what is in them is not done again.
        folder: for the data.
        count: of mutations.
        seed: of their order and of random damages.
    """
    if not count:
        return
    prepare(folder)
    clean = folder / "clean"
    if not (clean / "net.ckpt").is_file():
        _make_clean(folder, clean)
    whole: dict[str, tuple[Figures, str]] = {}
    for mutation in mutations(seed)[:count]:
        if records.has("mutations", mutation.name):
            continue
        here = folder / "mutated"
        record = _try(mutation, clean, here, whole)
        records.add("mutations", mutation.name, record)


def _make_clean(folder: Path, clean: Path) -> None:
    """Three images with ten persons, results and boxes for them, a skeleton and a network."""
    shutil.rmtree(clean, ignore_errors=True)
    (clean / "images").mkdir(parents=True)
    source = json.loads((folder / "data/annotations/crowdpose_trainval.json").read_text())
    persons = source["annotations"][:_PERSONS]
    shutil.copy(folder / "data/annotations/crowdpose_test.json", clean / "v.json")
    (clean / "others").symlink_to(folder / "data/images")
    wanted = {person["image_id"] for person in persons}
    images = [image for image in source["images"] if image["id"] in wanted]
    for number, image in enumerate(images, start=1):
        Image.open(folder / "data/images" / image["file_name"]).save(clean / f"images/{number}.png")
        image["file_name"] = f"{number}.png"
    source |= {"images": images, "annotations": persons}
    (clean / "a.json").write_text(json.dumps(source))
    rng = random.Random(0)
    shared = [
        {k: p[k] for k in ("image_id", "category_id")} | {"score": rng.random()} for p in persons
    ]
    poses = [_near(person["keypoints"], rng) for person in persons]
    results = [s | {"keypoints": pose} for s, pose in zip(shared, poses, strict=True)]
    boxes = [s | {"bbox": p["bbox"]} for s, p in zip(shared, persons, strict=True)]
    (clean / "p.json").write_text(json.dumps(results))
    (clean / "d.json").write_text(json.dumps(boxes))
    category = source["categories"][0]
    limbs = [[a - 1, b - 1] for a, b in category["skeleton"]]
    skeleton = {"name": "mine", "joints": category["keypoints"], "limbs": limbs}
    skeleton["sigmas"] = [0.08] * len(category["keypoints"])
    skeleton["flip_pairs"] = [[n, n + 1] for n in range(0, 12, 2)]
    (clean / "s.yaml").write_text(json.dumps(skeleton))
    shutil.copy(folder / "given/teacher/best.ckpt", clean / "net.ckpt")
    _film(clean / "v.mp4", [clean / "images" / image["file_name"] for image in images])


def _film(path: Path, pictures: list[Path]) -> None:
    """A video of the images, each for some frames."""
    video = VideoWriter(path, rate=10.0)
    for picture in pictures:
        for _ in range(4):
            video.write(np.asarray(Image.open(picture).convert("RGB")))
    video.close()


def _near(keypoints: list[float], rng: random.Random) -> list[float]:
    return [v if n % 3 == 2 else v + rng.gauss(0, 1.5) for n, v in enumerate(keypoints)]


def _try(
    mutation: Mutation, clean: Path, here: Path, whole: dict[str, tuple[Figures, str]]
) -> dict[str, Any]:
    """Run the commands of a mutation's kind on it."""
    names = (mutation.command,) if mutation.command else _BY_KIND[mutation.kind]
    if mutation.name == "images: missing":  # of a folder, that is no loss
        names = tuple(name for name in names if name not in _FOLDERS)
    found: dict[str, Any] = {}
    faults: list[str] = []
    for name in names:
        if name not in whole:
            done, figures = _run(name, clean, here, None)
            if done.code:
                raise RuntimeError(f"{name} failed on whole files: {done.said}")
            whole[name] = _counted(name, figures), done.said
        done, figures = _run(name, clean, here, mutation)
        fault = _judge(mutation, done, _counted(name, figures), *whole[name])
        faults += [f"{name}: {fault}"] if fault else []
        end = "taken" if done.code == 0 else "refused"
        found[name] = {"end": end, "code": done.code, "figures": figures if end == "taken" else {}}
        found[name] |= {"cpu": round(done.cpu, 1), "megabytes": done.memory >> 20}
        if fault or end == "refused":
            found[name]["said"] = done.said[-1500:] if fault else done.last_line[:160]
    ends = {answer["end"] for answer in found.values()}
    facts = {"kind": mutation.kind, "neutral": mutation.neutral, "fault": "; ".join(faults)}
    return facts | {"answers_differ": len(ends) > 1, "commands": found}


def _run(name: str, clean: Path, here: Path, mutation: Mutation | None) -> tuple[Ended, Figures]:
    """Run one command in a fresh copy of the whole files, after the mutation."""
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(clean, here, symlinks=True)
    if mutation:
        mutation.write(here)
    command, words = _COMMANDS[name]
    words = (*words, *(mutation.words if mutation else ()))
    logs = here.with_name("logs")
    shutil.rmtree(logs, ignore_errors=True)
    done = run(command, list(words), here, limit=_LIMIT)
    return done, _figures(here)


def _figures(here: Path) -> Figures:
    """What the commands wrote, as far as it is counted."""
    found: Figures = {}
    if (content := _read(here / "convert.json")) is not None:
        found["converted"] = len(content["annotations"])
    if (content := _read(here / "poses/predictions.json")) is not None:
        found["poses"] = len(content)
        found["finite"] = float(all(map(math.isfinite, _numbers(content))))
    if (content := _read(here / "pack/pack.json")) is not None:
        found["packed"] = content["persons"] - content["unreadable"]
    if (path := here / "poses/predictions.jsonl").is_file():
        found["frames"] = len(path.read_text().splitlines())
    for path in (here / "score.json", *here.glob("runs/*/metrics.json")):
        if (content := _read(path)) is not None:
            content = content[0] if isinstance(content, list) else content
            found |= {key: content.get(key) for key in ("AP", "AR", "persons", "results")}
    return found


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def _numbers(node: Any) -> list[float]:
    if isinstance(node, Mapping):
        node = list(node.values())
    if isinstance(node, list):
        return [number for part in node for number in _numbers(part)]
    return [node] if isinstance(node, float | int) else []


def _judge(mutation: Mutation, done: Ended, figures: Figures, expected: Figures, usual: str) -> str:
    """What went wrong, or nothing."""
    if done.late or done.cpu > _SECONDS:
        return f"slow: {done.cpu:.0f} s"
    if done.traceback or done.code < 0:
        return "traceback" if done.traceback else f"ended by signal {-done.code}"
    if done.memory > _BYTES:
        return f"memory: {done.memory >> 20} MB"
    if figures.get("finite") == 0.0:
        return "wrong: a number that is not finite was written"
    if mutation.neutral and done.code:
        return "wrong: refused, though it means nothing"
    if mutation.neutral and figures != expected:
        return f"wrong: {figures} instead of {expected}"
    fewer = [k for k in _COUNTED if _less(figures, expected, k)]
    if done.code == 0 and fewer and not _news(done.said, usual):
        return f"silent loss: {figures[fewer[0]]} {fewer[0]} instead of {expected[fewer[0]]}"
    return ""


def _counted(name: str, figures: Figures) -> Figures:
    """Figures whose falling is a loss: a detector finds others in other pixels."""
    return {k: v for k, v in figures.items() if (name, k) != ("found", "poses")}


def _less(figures: Figures, expected: Figures, key: str) -> bool:
    found, usual = figures.get(key), expected.get(key)
    return found is not None and usual is not None and found < usual


def _news(said: str, usual: str) -> bool:
    """Whether a command said anything that it does not say usually, numbers of losses included."""
    lost = [re.findall(r"left out: .*", " ".join(text.split())) for text in (said, usual)]
    if lost[0] != lost[1]:
        return True
    words = [set(re.sub(r"[\d.]+", "0", text).split()) for text in (said, usual)]
    return bool(words[0] - words[1])
