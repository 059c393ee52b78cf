"""Read run folders: configuration, metrics and poses."""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kdpose.training.run_folder import changes, config_hash

_NEEDED = ("config.yaml", "metrics.json", "predictions.json")
_SEED = re.compile(r"(?:^|[_/-])s(?:eed)?[-_]?\d+$")
_ASIDE = re.compile(r"\.\d+$")
_PER_SEED = ("seed", "data.seed", "name", "teacher.ckpt", "stage1_ckpt")
_SAME = (
    "annotations_sha256",
    "protocol",
    "box_source",
    "flip",
)  # must be equal for metrics to be comparable


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        folder: of the run.
        name: its path below the requested folder.
        config: the resolved configuration.
        metrics: content of ``metrics.json``.
    """

    folder: Path
    name: str
    config: DictConfig
    metrics: dict[str, Any]

    @property
    def label(self) -> str:
        """The name without the seed, shared by the runs of a table row."""
        return _SEED.sub("", self.name) or self.folder.parent.name

    @property
    def seed(self) -> int:
        """Of the training."""
        return int(self.config.seed)

    @cached_property
    def results(self) -> list[dict[str, Any]]:
        """The validation split's poses as COCO results."""
        return list(json.loads((self.folder / "predictions.json").read_text()))

    @property
    def continues(self) -> str | None:
        """Name of the run whose network this one goes on with: refined, or inherited."""
        teacher = self.config.teacher or {}
        inherited = teacher.get("ckpt") if teacher.get("inherit") else None
        ckpt = self.config.stage1_ckpt if self.config.refiner is not None else inherited
        return Path(ckpt).parent.name if ckpt else None

    @property
    def taught_by(self) -> str | None:
        """Name of the run that is its teacher, where that is no earlier stage of its network."""
        teacher = self.config.teacher or {}
        ckpt = None if teacher.get("inherit") else teacher.get("ckpt")
        return Path(ckpt).parent.name if ckpt else None

    @property
    def made_from(self) -> list[str]:
        """Names of the runs whose checkpoints this run used, and of a teacher that is none."""
        teacher = self.config.teacher or {}
        runs = [name for name in (self.taught_by, self.continues) if name]
        foreign = teacher.get("file") or teacher.get("model") or []
        files = [foreign] if isinstance(foreign, str) else foreign
        return [*(Path(str(file)).name for file in files), *runs]

    @property
    def lineage(self) -> dict[str, Any]:
        """The sources of the run's metrics; None if not recorded."""
        training = self.metrics.get("training", {})
        return {
            "run": self.name,
            "seed": self.seed,
            "AP": self.metrics["AP"],
            "made from": " + ".join(self.made_from) or None,
            "epochs": training.get("epochs"),
            "seconds": training.get("seconds"),
            "device": training.get("device"),
            "commit": self.metrics.get("commit"),
            "dirty": self.metrics.get("dirty"),
            "config": config_hash(self.config),
            "annotations": self.metrics["annotations_sha256"],
        }

    def log(self) -> dict[str, dict[int, float]]:
        """Mean of each logged metric by epoch; of a resumed run, the later log counts."""
        figures: dict[str, dict[int, float]] = {}
        for path in sorted(self.folder.glob("csv/version_*/metrics.csv"), key=_version):
            found: dict[tuple[str, int], list[float]] = {}
            with path.open(newline="") as file:
                for line in csv.DictReader(file):
                    for key, text in line.items():
                        if text and key not in ("epoch", "step") and line.get("epoch"):
                            found.setdefault((key, int(line["epoch"])), []).append(float(text))
            for (key, epoch), values in found.items():
                figures.setdefault(key, {})[epoch] = sum(values) / len(values)
        return figures

    def gradient_shares(self) -> dict[str, dict[int, float]]:
        """Share of each loss term in the gradient norms, by epoch."""
        prefix = "train/grad_"
        norms = {k.removeprefix(prefix): v for k, v in self.log().items() if k.startswith(prefix)}
        epochs = sorted({epoch for by_epoch in norms.values() for epoch in by_epoch})
        whole = {e: sum(by_epoch.get(e, 0.0) for by_epoch in norms.values()) for e in epochs}
        return {
            term: {e: n / whole[e] if whole[e] else 0.0 for e, n in sorted(by_epoch.items())}
            for term, by_epoch in norms.items()
        }


def _version(path: Path) -> int:
    return int(path.parent.name.removeprefix("version_"))


def collect_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Read all finished runs in and below the folders, except those moved aside.

    Raises:
        FileNotFoundError: a folder does not exist, or has no finished run.
        ValueError: two runs were scored differently and cannot be compared.
    """
    runs = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder at {folder.absolute()} (from runs)")
        for path in sorted(folder.rglob("metrics.json")):
            where = path.parent
            whole = all((where / name).is_file() for name in _NEEDED)
            if whole and not _kept_aside(where):
                name = str(where.relative_to(folder)) if where != folder else where.name
                config = OmegaConf.load(where / "config.yaml")
                assert isinstance(config, DictConfig)
                runs.append(Run(where, name, config, json.loads(path.read_text())))
    if not runs:
        raise FileNotFoundError(
            f"no finished run in {', '.join(str(Path(f).absolute()) for f in folders)} (from "
            f"runs): one has {', '.join(_NEEDED)}"
        )
    for run in runs[1:]:
        for key in _SAME:
            if run.metrics[key] != runs[0].metrics[key]:
                raise ValueError(
                    f"runs must be scored alike to compare: {key} of {runs[0].folder.absolute()} "
                    f"is {runs[0].metrics[key]}, of {run.folder.absolute()} {run.metrics[key]}"
                )
    return runs


def _kept_aside(folder: Path) -> bool:
    """Whether a run was moved aside by another of its name (:mod:`kdpose.training.run_folder`)."""
    name = _ASIDE.sub("", folder.name)
    return name != folder.name and folder.with_name(name).is_dir()


def by_row(
    runs: Sequence[Run], order: Sequence[str], labels: Sequence[str] | None = None
) -> dict[str, list[Run]]:
    """Group runs by label and seed: labels in the given order first, then the others.

    Args:
        runs: to group.
        order: of the first rows.
        labels: the only ones to take, in their order; None: all.

    Raises:
        ValueError: no run has one of the labels, or two runs of a label have the same seed, or
            differ in more than the seed.
    """
    rows: dict[str, list[Run]] = {}
    wanted = [run for run in runs if labels is None or run.label in labels]
    if not wanted:
        there = sorted({run.label for run in runs})
        raise ValueError(f"labels must be of {there}, got {list(labels or ())}")
    for run in sorted(wanted, key=lambda run: run.seed):
        rows.setdefault(run.label, []).append(run)
    for label, members in rows.items():
        for one, other in pairwise(members):
            where = f"{one.folder.absolute()} and {other.folder.absolute()}"
            if one.seed == other.seed:
                raise ValueError(f"{where} are both '{label}' with seed {one.seed}: move one away")
            changed = changes(one.config, other.config, _PER_SEED)
            if changed:
                raise ValueError(
                    f"{where} differ in more than the seed: {'; '.join(changed[:4])}; name them "
                    "differently"
                )
    first = [label for label in labels or order if label in rows]
    return {label: rows[label] for label in [*first, *(x for x in rows if x not in first)]}
