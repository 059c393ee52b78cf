"""``what=infer``: persons a second of every backbone, runtime, and what surrounds a network."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.limits import convolution
from benchmarks.runtimes import Run, exported
from kdpose.checkpoints.load import Loaded
from kdpose.checkpoints.pretrained import build_backbone
from kdpose.cli import CONF
from kdpose.evaluation.cost import complexity
from kdpose.evaluation.timing import Case
from kdpose.inference.predictor import Predictor
from kdpose.pose_net import Codec, PoseNet, RefinedPoseNet
from kdpose.skeletons.skeleton import Skeleton
from kdpose.types import Pose, SimCCLogits

SIZES = (1, 8)  # persons at once
IMAGE = (480, 640)
LIMIT = "student's multiply-adds in one large float32 convolution"
COPIES = {"decoding": "copying the scores", "preparation and decoding": "copying the crops"}


def cases(
    student: PoseNet,
    refiner: Callable[..., nn.Module],
    head: Callable[..., nn.Module],
    backbones: Sequence[str] | None,
    runtimes: Sequence[str],
    scratch: Path,
) -> list[Case]:
    """Every backbone as a student, alone and eight persons at once, and the student's surroundings.

    The student is also run as the files that ``kdpose.export`` writes, on the CPU.

    Ratios are to the configured student (``backbone=``) at the same number of persons, so that the
    refiner's inverse ratio is its share of the student's time.  The limit is a large float32
    convolution: no network can do its multiply-adds faster, except in 8 bits.  Of what is done
    without multiply-adds it is one copy of the result or of what is read.

    Args:
        student: of random weights, as all nets here.
        refiner: of stage 2.
        head: of the backbones' networks.
        backbones: names in ``conf/backbone``; None is all of them.
        runtimes: of :data:`benchmarks.runtimes.RUNTIMES`; none is PyTorch alone.
        scratch: for exported files.

    Raises:
        ValueError: there is no such backbone or runtime, or the extra ``export`` is missing.
    """
    chosen = _chosen(backbones)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    files = dict(exported(student, runtimes, scratch, torch.get_num_threads()))
    student = student.to(device)
    gmacs = complexity(student)["gmacs"]
    rows = _networks("student", student, None, gmacs)
    rows += _files(files, student)
    rows += _surroundings(student, refiner, gmacs)
    for name in chosen:
        net = PoseNet(_backbone(name), head, student.codec, student.skeleton).to(device)
        rows += _networks(name, net.eval(), "student", gmacs)
    return [*rows, Case(LIMIT, convolution(device, 2e9 * gmacs))]


def _chosen(backbones: Sequence[str] | None) -> list[str]:
    known = sorted(path.stem for path in (Path(CONF) / "backbone").glob("*.yaml"))
    chosen = known if backbones is None else list(backbones)
    if not set(chosen) <= set(known):
        raise ValueError(f"what.cases.backbones must be of {known}, got {chosen}")
    return chosen


def _backbone(name: str) -> Any:
    """Built as a command line would, which runs around this."""
    return build_backbone(hydra.compose("train", [f"backbone={name}"]).backbone)


def _networks(name: str, net: PoseNet, reference: str | None, gmacs: float) -> list[Case]:
    """A network in PyTorch; ``gmacs`` are the student's; the limit is in persons of the student."""
    counted = complexity(net)
    facts = {"params M": counted["params"] / 1e6, "GMACs": counted["gmacs"]}
    return [
        Case(
            f"{name}, batch {count}",
            timed(partial(net.pose, crops(net, count)), count),
            reference and f"{reference}, batch {count}",
            limit=LIMIT,
            cost=counted["gmacs"] / gmacs,
            facts=facts,
        )
        for count in SIZES
    ]


def _files(files: Mapping[str, Run], student: PoseNet) -> list[Case]:
    """The student in other runtimes; beside a GPU they have no float32 limit of their own."""
    limit = LIMIT if student.mean.device.type == "cpu" else None
    return [
        Case(
            f"student in {name}, batch {count}",
            timed(partial(run, crops(student, count).cpu().numpy()), count),
            f"student, batch {count}",
            limit=limit,
        )
        for name, run in files.items()
        for count in SIZES
    ]


def _surroundings(student: PoseNet, refiner: Callable[..., nn.Module], gmacs: float) -> list[Case]:
    """What a person costs beside one pass of the student; eight persons in one image."""
    count = SIZES[-1]
    reference = f"student, batch {count}"
    given = crops(student, count)
    with torch.inference_mode():
        logits, features, _ = student(given)
        initial = student.codec.decode(logits)
    both = RefinedPoseNet(student, refiner).to(given.device).eval()
    costs = {"student, flip test": 2.0, "refiner": complexity(both)["gmacs"] / gmacs - 1}
    known: Any = _Known(student, logits)  # all that a predictor asks of a network
    predictor = Predictor(Loaded(known, {}), given.device.type)
    image = np.random.default_rng(0).integers(0, 256, (*IMAGE, 3), dtype=np.uint8)
    boxes = [[40 + 60 * n, 60, 80, 300] for n in range(count)]
    runs: dict[str, Callable[[], Any]] = {
        "student, flip test": lambda: student.pose(given, flip=True),
        "refiner": lambda: both.refiner(initial, features),
        "decoding": lambda: student.codec.decode(logits),
        "preparation and decoding": lambda: predictor(image, boxes),
    }
    scores = [logits] if isinstance(logits, Tensor) else list(logits)
    copies: dict[str, Callable[[], Any]] = {
        "copying the scores": lambda: [values.clone() for values in scores],
        "copying the crops": given.clone,
    }
    return [
        Case(
            name,
            timed(run, count),
            reference,
            limit=COPIES.get(name, LIMIT),
            cost=costs.get(name, 1.0),
        )
        for name, run in runs.items()
    ] + [Case(name, timed(run, count)) for name, run in copies.items()]


class _Known(nn.Module):
    """A network whose scores are known already, so that a predictor shows what is left to do."""

    def __init__(self, net: PoseNet, logits: SimCCLogits | Tensor) -> None:
        super().__init__()
        self.codec: Codec = net.codec
        self.skeleton: Skeleton = net.skeleton
        self.logits = logits

    def pose(self, image: Tensor, flip: bool = False) -> Pose:
        return self.codec.decode(self.logits)


def crops(net: PoseNet | RefinedPoseNet, count: int) -> Tensor:
    """Noise of a network's input size, 8 bits."""
    width, height = net.codec.input_size
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (count, 3, height, width), generator=generator)
    return noise.to(next(net.parameters()).device, torch.uint8)


def timed(run: Callable[[], Any], persons: int, at_least: float = 0.2) -> Callable[[], float]:
    """Repeat what is short, so that the clock can tell it."""

    def many() -> float:
        done, end = 0, time.perf_counter() + at_least
        with torch.inference_mode():
            while done == 0 or time.perf_counter() < end:
                run()
                done += persons
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return done

    return many
