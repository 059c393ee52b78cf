"""A teacher is measured before it teaches, and refused where it knows nothing of the images."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from kdpose.checkpoints.guest_net import TRAINING_KEYS, GuestNet
from kdpose.checkpoints.load import load_net
from kdpose.cli import console
from kdpose.data.datamodule import CocoKeypointDataModule
from kdpose.data.taught import StoredTeacher
from kdpose.evaluation.shared_joints import SharedSplit
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.runtime.provenance import sha256
from kdpose.runtime.whole import write_json
from kdpose.skeletons.shared import SkeletonBridge
from kdpose.training.asked_teacher import AskedTeacher
from kdpose.training.pose_module import PoseModule

_log = logging.getLogger(__name__)
Teacher = PoseNet | StoredTeacher | AskedTeacher
_CONSTANT = 0.01  # crop sides; joints that vary less over all crops do not depend on the images


@dataclass(frozen=True)
class CheckOptions:
    """The keys of ``teacher`` that say how it is checked.

    Attributes:
        check: whether it is.
        force: train even if the teacher is refused.
        check_persons: about how many validation boxes to look at, in whole images; None: all.
    """

    check: bool = True
    force: bool = False
    check_persons: int | None = 4000


_OPTIONS = frozenset(option.name for option in fields(CheckOptions))


class TeacherCheck:
    """Measures a teacher on the validation split before the training, and compares after it.

    Args:
        split: what to measure on.
        name: of the teacher, for messages.
        force: warn where a teacher would be refused.
        device: ``auto``, ``cpu``, ``cuda``.
    """

    def __init__(
        self, split: SharedSplit, name: str, force: bool = False, device: str = "auto"
    ) -> None:
        self.split = split
        self.name = name
        self.force = force
        self.device = device
        self.figures: dict[str, Any] = {}

    def before(
        self,
        teacher: PoseNet | GuestNet,
        record: Path,
        identity: Mapping[str, Any],
        student: PoseNet | None = None,
    ) -> None:
        """Measure, unless it has been; refuse a teacher that is constant or no better than chance.

        Args:
            teacher: what to measure.
            record: ``teacher.json`` of the run, written or, where it tells of the same, read.
            identity: what the figures depend on besides the split: checkpoints and their hashes.
            student: what stage 2 refines, measured as well.

        Raises:
            ValueError: the teacher is refused, with its figures.
        """
        asked = {**identity, **self.split.conditions()}
        self.figures = _read(record, asked)
        if not self.figures:
            self.figures = self.split.measure(
                teacher, self.split.bridge.teacher_joints, self.device
            )
            if student is not None:
                ours = self.split.bridge.student_joints
                self.figures["student"] = self.split.measure(student, ours, self.device)
            write_json(record, {**self.figures, "of": asked}, indent=2)
        console.print(f"teacher {self.name}: {self._summary()}", highlight=False)
        _log.info("teacher %s: %s", self.name, self._summary())
        reason = self._refusal()
        if reason and not self.force:
            raise ValueError(f"{reason}; give another teacher.ckpt, or teacher.force=true to go on")
        if reason:
            _log.warning("%s; training anyway (teacher.force=true)", reason)
        if "student" in self.figures:
            self._compare(self.figures["student"]["AP"], "the student's before stage 2")

    def after(self, run_dir: Path) -> None:
        """Warn where the trained student is above its teacher.

        Args:
            run_dir: of the run. Its results are of the split that reports: where another split
                was held out to choose the checkpoint, the student is measured on that one.
        """
        ours = self.split.bridge.student_joints
        if self.split.data.tune is None:
            results = json.loads((run_dir / "predictions.json").read_bytes())
            precision = self.split.ap(results, ours)
        else:
            net = load_net(run_dir / "best.ckpt").net
            precision = self.split.measure(net, ours, self.device)["AP"]
        self._compare(precision, "the student's")

    def _summary(self) -> str:
        figures, split = self.figures, self.split.annotations.stem
        precision = "n/a" if figures["AP"] is None else f"{figures['AP']:.3f}"
        return (
            f"AP {precision}, mean OKS {figures['mean_oks']:.3f}, that of the mean training pose "
            f"{figures['chance_oks']:.3f}, on {figures['persons']} boxes of {split}"
        )

    def _refusal(self) -> str | None:
        figures = self.figures
        if figures["persons"] > 1 and figures["spread"] < _CONSTANT:
            moved = f"{100 * figures['spread']:.2f} % of the crop"
            return (
                f"teacher {self.name} gives the same pose whatever the image (its joints move by "
                f"{moved}): {self._summary()}"
            )
        if not figures["mean_oks"] > figures["chance_oks"]:
            return f"teacher {self.name} is no better than chance: {self._summary()}"
        return None

    def _compare(self, student_ap: float | None, whose: str) -> None:
        teacher_ap = self.figures["AP"]
        if student_ap is None or teacher_ap is None or student_ap <= teacher_ap:
            return
        _log.warning(
            "teacher below student: AP %.3f of %s, %s is %.3f (%d shared joints, %s)",
            teacher_ap, self.name, whose, student_ap,
            len(self.split.bridge.student_joints), self.split.annotations.stem,
        )  # fmt: skip


def build_teacher(cfg: DictConfig) -> Teacher | None:
    """The teacher of a run, or None; ``teacher`` holds its loader's keys and those of the check."""
    if cfg.teacher is None:
        return None
    keys = _loader(cfg.teacher)
    teacher: Teacher = instantiate(keys, _convert_="all")
    if isinstance(teacher, GuestNet) or cfg.teacher.get("cache", False):
        assert isinstance(teacher, PoseNet | GuestNet)
        spread = bool(cfg.teacher.get("spread", False))
        return AskedTeacher(teacher, Path(cfg.teacher.folder), keys, spread)
    return teacher


def inference_device(cfg: DictConfig) -> str:
    """Where a run's teacher is asked and measured."""
    return "cpu" if cfg.trainer.accelerator == "cpu" else "auto"


def check_teacher(
    cfg: DictConfig,
    module: PoseModule,
    data: CocoKeypointDataModule,
    run_dir: Path,
    asked: PoseNet | GuestNet | None = None,
) -> TeacherCheck | None:
    """Print what the teacher can teach, and measure it; None where nothing is to be measured.

    Args:
        cfg: of the run.
        module: holds a teacher that is a network of kdpose.
        data: of the run.
        run_dir: its folder.
        asked: the network whose stored answers teach, if one is at hand.

    Raises:
        ValueError: the teacher is refused.
    """
    net: PoseNet | GuestNet
    if module.teacher is not None:
        net, bridge = module.teacher.net, module.teacher.bridge
    elif asked is not None:
        net, bridge = asked, SkeletonBridge.between(module.net.skeleton, asked.skeleton)
    else:
        return None
    console.print(f"teacher: {bridge}", highlight=False)
    _log.info("teacher: %s", bridge)
    options = CheckOptions(**{str(k): v for k, v in cfg.teacher.items() if k in _OPTIONS})
    if not options.check:
        return None
    data.prepare_data()
    data.setup("fit")
    split = SharedSplit(data, bridge, cfg.module.flip_test, options.check_persons)
    identity = _identity(cfg, net)
    name = net.where if isinstance(net, GuestNet) else identity.get("ckpt", "")
    check = TeacherCheck(split, name, options.force, inference_device(cfg))
    student = module.net.student if isinstance(module.net, RefinedPoseNet) else None
    check.before(net, run_dir / "teacher.json", identity, student)
    return check


def _identity(cfg: DictConfig, net: PoseNet | GuestNet) -> dict[str, Any]:
    """What tells one measurement from another: how the nets are loaded, and their files."""
    identity: dict[str, Any] = {"teacher": _loader(cfg.teacher)}
    files = {"ckpt": cfg.teacher.get("ckpt"), "stage1_ckpt": cfg.stage1_ckpt}
    for key, path in files.items():
        if path is not None:
            file = Path(path).absolute()
            identity |= {key: str(file), f"{key}_sha256": sha256(file)}
    if isinstance(net, GuestNet):
        identity["fingerprint"] = net.fingerprint()
    return identity


def _loader(teacher: DictConfig) -> dict[str, Any]:
    """The keys of ``teacher`` that load it."""
    keys: Any = OmegaConf.to_container(teacher, resolve=True)
    return {key: value for key, value in keys.items() if key not in TRAINING_KEYS}


def _read(record: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of an earlier measurement of the same, or none."""
    if not record.is_file():
        return {}
    figures: dict[str, Any] = json.loads(record.read_bytes())
    return figures if figures.pop("of", None) == json.loads(json.dumps(asked)) else {}
