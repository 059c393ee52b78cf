"""One's own data and any teacher to a student to deploy, with all findings on one page."""

import json
import platform
import shlex
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from kdpose.checkpoints.guest_net import LoadedGuest
from kdpose.checkpoints.load import Loaded
from kdpose.checks import doctor
from kdpose.checks.findings import exit_code
from kdpose.checks.inspect import places
from kdpose.cli import console
from kdpose.data.one_category import take_category
from kdpose.deploy.export import check_request, export, missing_packages
from kdpose.deploy.speed import cases
from kdpose.evaluation import timing
from kdpose.reports.student.facts import read_json, weigh
from kdpose.reports.student.page import write_page
from kdpose.reports.student.refinement import in_words
from kdpose.runtime.provenance import code_version, sha256
from kdpose.runtime.ranks import rank
from kdpose.skeletons.files import named_skeleton
from kdpose.training.given_teacher import Rows, guest, is_foreign, open_models, teacher_files
from kdpose.training.photographs import find_boxes, write_boxes
from kdpose.training.pipeline import run_pipeline
from kdpose.training.run_folder import config_hash

_OWN = ("student=", "teacher_backbone=", "open=", "doctor=", "export.", "speed.")  # not a stage's
_DATA = ("dataset=", "dataset.", "data_dir=", "category=")
_TIMED = {"teacher": "teacher", "stage1": "stage 1", "stage2": "student"}
_LIBRARIES = ("torch", "lightning", "timm", "numpy", "onnx", "onnxruntime", "openvino", "nncf")


def wanted_files(cfg: DictConfig) -> list[tuple[str, str]]:
    """Format and precision of each file of ``export.files``.

    Raises:
        ValueError: one cannot be written.
    """
    wanted = [str(file).partition("/")[::2] for file in cfg.export.files]
    for form, precision in wanted:
        check_request(form, precision)
    return wanted


def check_names(cfg: DictConfig, teacher_given: bool) -> None:
    """Refuse what a training would refuse hours later.

    Raises:
        MissingConfigException: a network's name is not in ``conf/backbone``.
        FileNotFoundError: the teacher's file is not there.
        ValueError: there is no validation split, or it is the training split.
    """
    for name in (cfg.student.backbone, cfg.teacher_backbone):
        compose("train", overrides=[f"backbone={name}"])
    if teacher_given:
        teacher_files(cfg)
    named = {name: Path(of["annotations"]).absolute() for name, of in places(cfg.dataset).items()}
    seen, unseen = next(iter(named.values())), named["val"]
    alone = seen.is_file() and not unseen.is_file() and cfg.dataset.prepare is None
    if alone or seen == unseen:
        raise ValueError(
            f"{seen} needs a second file beside it for validation (dataset.val.annotations="
            f"{unseen}): move about a tenth of its images, with all their annotations, into one"
        )


def find_missing_boxes(cfg: DictConfig, run_dir: Path) -> list[str]:
    """Let the detector find the persons of training photographs without annotations.

    Writes ``boxes.json``, and names it in ``dataset.train.annotations`` where that is null. The
    skeleton is that of the validation split.

    Returns:
        Overrides that do the same for a stage.
    """
    train = cfg.dataset.train
    if OmegaConf.is_list(train) or train.annotations is not None:
        return []
    path = run_dir / "boxes.json"
    if rank() == 0 and not (cfg.resume and path.is_file()):
        skeleton = named_skeleton(cfg.dataset.val.annotations)
        write_boxes(path, find_boxes(str(train.images), skeleton))
    train.annotations = str(path)
    found = [f"dataset.train.annotations='{path}'"]
    if not is_foreign(cfg):  # a checkpoint, too, answers once for persons without labels
        cfg.teacher.cache = True
        found.append("teacher.cache=true")
    return found


def look_over(cfg: DictConfig, data: list[str], run_dir: Path) -> None:
    """Let the doctor see the data; writes ``doctor.json`` and ``doctor.jpg``.

    Args:
        cfg: ``open``; and ``doctor``, without which errors do not stop.
        data: overrides that name the data set.
        run_dir: of the distillation.

    Raises:
        ValueError: the data have errors.
    """
    options = compose("doctor", overrides=[*data, f"open={cfg.open}"])
    options.sheet = str(run_dir / "doctor.jpg")
    found = doctor.examine(options)
    _write(run_dir / "doctor.json", doctor.report(found))
    if found.findings:
        console.print(doctor.table(found.findings))
    console.print(doctor.summary(found), highlight=False)
    if cfg.doctor and exit_code(found.findings):
        worst = found.findings[0]
        raise ValueError(
            f"the data have errors, first {worst.kind} ({worst.count}) {worst.split}: "
            f"{worst.message}; all are in {(run_dir / 'doctor.json').absolute()}; doctor=false "
            "continues anyway"
        )


def write_files(
    cfg: DictConfig, wanted: list[tuple[str, str]], rows: Rows, run_dir: Path
) -> list[dict[str, Any]]:
    """Export the student to ``exported/`` and its stage 1 to ``exported/stage1/``.

    Writes ``exports.json``, what the gate said of each; returns that of the student's.
    """
    left_out = missing_packages() if wanted else None
    if left_out:
        console.print(f"nothing is exported: {left_out}", markup=False)
        wanted = []
    out = run_dir / "exported"
    refined = _exported(cfg, wanted, rows["stage2"]["ckpt"], out)
    plain = _exported(cfg, wanted, rows["stage1"]["ckpt"], out / "stage1")
    reports = {"files": refined, "stage1": plain, "left_out": left_out}
    _write(run_dir / "exports.json", reports)
    return refined


def _exported(
    cfg: DictConfig, wanted: list[tuple[str, str]], ckpt: str, out: Path
) -> list[dict[str, Any]]:
    """What the gate said of each file of a checkpoint."""
    reports = []
    ways = {key: value for key, value in cfg.export.items() if key != "files"}
    for form, precision in wanted:
        what = [f"ckpt='{ckpt}'", f"out='{out}'", f"format={form}", f"precision={precision}"]
        options = OmegaConf.merge(compose("export", overrides=what), ways)
        assert isinstance(options, DictConfig)
        reports.append(export(options))
    return reports


def measure_speed(
    cfg: DictConfig, models: Mapping[str, Loaded | LoadedGuest], files: list[Path], run_dir: Path
) -> None:
    """Time teacher, student and its files in turn; writes ``speed.json``."""
    shown = {_TIMED[label]: model for label, model in models.items() if label in _TIMED}
    threads, batches = cfg.speed.threads, list(cfg.speed.batch)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    timed = cases(shown, files, batches, threads)
    rows = timing.measure(timed, cfg.speed.repeats, "wall", "persons/s")
    figures = timing.report("distill", rows, "wall", repeats=cfg.speed.repeats)
    torch.set_num_threads(before)
    console.print(timing.table(f"speed with {threads} thread(s)", rows))
    _write(run_dir / "speed.json", figures)


def lineage(cfg: DictConfig, rows: Rows, run_dir: Path) -> dict[str, Any]:
    """What the student was made of and by what; ``distill.json``."""
    student, taught = Path(rows["stage2"]["ckpt"]), rows.get("teacher", {})
    files = [str(taught["ckpt"])] if "ckpt" in taught else teacher_files(cfg)
    return {
        "name": cfg.name,
        "student": cfg.student.backbone,
        "dataset": cfg.dataset.name,
        "command": shlex.join(["kdpose", "distill", *sys.argv[1:]]),
        "config_sha256": config_hash(cfg),
        "code": code_version(),
        "versions": {"python": platform.python_version(), **_versions()},
        "data": {
            split: {
                "annotations": str(Path(paths["annotations"]).absolute()),
                "sha256": sha256(paths["annotations"]),
                "images": str(Path(paths["images"]).absolute()),
            }
            for split, paths in places(cfg.dataset).items()
        },
        "teacher": {
            "name": taught.get("guest") or ", ".join(str(Path(f).absolute()) for f in files),
            "sha256": [sha256(file) for file in files],
        },
        "checkpoint_sha256": sha256(student),
        "checkpoint_bytes": student.stat().st_size,
        "exported": str((run_dir / "exported").absolute()),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # of an extra
    return found


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2))


def distill(cfg: DictConfig) -> float | None:
    """Check the data, train all stages, export, measure and write the page.

    Args:
        cfg: ``conf/distill.yaml``'s keys.

    Returns:
        AP of the refined student.

    Raises:
        ValueError: a file did not pass its gate; raised after all else is done.
    """
    hydra_cfg, run_dir = HydraConfig.get(), Path(cfg.run_dir)
    overrides = list(hydra_cfg.overrides.task)
    if not any(o.startswith("dataset=") for o in overrides):
        overrides.append(f"dataset={hydra_cfg.runtime.choices['dataset']}")
    wanted = wanted_files(cfg)
    take_category(cfg)
    overrides += find_missing_boxes(cfg, run_dir)
    check_names(cfg, is_foreign(cfg) or any(o.startswith("teacher.ckpt=") for o in overrides))
    data = [o for o in overrides if o.startswith(_DATA)]
    if rank() == 0:
        look_over(cfg, data, run_dir)
    for_stages = [o for o in overrides if not o.startswith(_OWN)]
    ap = run_pipeline(cfg, [*for_stages, "doctor=false"])
    if rank() > 0:  # what follows is one process's work
        return ap
    OmegaConf.save(cfg, run_dir / "config.yaml", resolve=True)
    rows = json.loads((run_dir / "table.json").read_text())
    teacher = guest(cfg, cfg.speed.threads)
    reports = write_files(cfg, wanted, rows, run_dir)
    passed = [Path(report["path"]) for report in reports if report["passed"]]
    measure_speed(cfg, open_models(rows, teacher), passed, run_dir)
    _write(run_dir / "distill.json", lineage(cfg, rows, run_dir))
    _weigh(rows, run_dir)
    page = write_page(run_dir, teacher)
    console.print(f"report: {page.absolute()}", soft_wrap=True)
    _refuse(reports, page)
    return ap


def _weigh(rows: dict[str, dict[str, Any]], run_dir: Path) -> None:
    """Print what the refinement gains and costs; writes ``refinement.json``."""
    found = weigh(rows, read_json(run_dir / "speed.json"))
    if found is not None:
        console.print(in_words(found), highlight=False, soft_wrap=True)
    _write(run_dir / "refinement.json", found or {})


def _refuse(reports: list[dict[str, Any]], page: Path) -> None:
    """Raise where a file did not pass its gate."""
    rejected = [report["file"] for report in reports if not report["passed"]]
    if rejected:
        raise ValueError(
            f"{len(rejected)} of {len(reports)} files did not pass their gate: "
            f"{', '.join(rejected)}; {page.absolute()} says why"
        )
