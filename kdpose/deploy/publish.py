"""A checkpoint to share: half precision and a model card."""

import json
import logging
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from kdpose.checkpoints.load import KEY, load_net
from kdpose.checkpoints.tensors import read_checkpoint
from kdpose.deploy.low_rank import with_low_rank
from kdpose.display.tables import METRICS, as_markdown, caption, table_cells, table_header
from kdpose.evaluation.calibration import (
    calibrate,
    fit,
    save_curve,
    scored_joints,
)
from kdpose.evaluation.evaluate import evaluate_net
from kdpose.runtime.files import shareable
from kdpose.runtime.provenance import code_version, sha256

_log = logging.getLogger(__name__)


def in_half_precision(ckpt: str | Path, rank: int | None = None) -> dict[str, Any]:
    """What inference needs of a checkpoint, floats in half precision, no place of this machine.

    Args:
        ckpt: the checkpoint.
        rank: of SimCC's matrices, see :func:`with_low_rank`; None: as they are.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is none of kdpose's.
    """
    content = read_checkpoint(ckpt, "ckpt")
    if KEY not in content:
        raise ValueError(f"{Path(ckpt).absolute()} (from ckpt) is not a checkpoint of kdpose")
    content = content if rank is None else with_low_rank(content, rank)
    weights = {
        name: value.half() if value.is_floating_point() else value
        for name, value in content["state_dict"].items()
        if name.startswith("net.")
    }
    description = dict(content[KEY])
    description["dataset"] = shareable(description["dataset"])
    return {KEY: description, "state_dict": weights}


def _record(path: Path) -> dict[str, Any] | None:
    """A JSON or YAML record of the run, where it left one."""
    if not path.is_file():
        return None
    if path.suffix == ".yaml":
        content: Any = OmegaConf.to_container(OmegaConf.load(path))
        return content
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def model_card(
    ckpt: Path, published: Path, before: dict[str, Any], after: dict[str, Any], cfg: DictConfig
) -> str:
    """The card, in Markdown: every figure measured now or read from the run's own records."""
    described = load_net(published)
    shown = [metric for metric in METRICS if metric in after]
    rows = {"as published": after, "the checkpoint it was made of": before}
    lines = [["", *table_header(shown)]]
    lines += [[label, *table_cells(row, shown)] for label, row in rows.items()]
    size = "x".join(map(str, after["input_size"]))
    version = code_version()
    facts = {
        "File": f"`{published.name}`, {published.stat().st_size / 1e6:.2f} MB, half precision, "
        f"sha256 `{sha256(published)}`",
        "Network": _network(described.description["net"]),
        "Input": f"{size} pixels (width x height)",
        "Joints": ", ".join(described.net.skeleton.joints),
        **_training(ckpt, described.description, cfg.command),
        "Teacher": _teacher(ckpt),
        "Made by": f"`{shlex.join(['kdpose', 'publish', *sys.argv[1:]])}`, kdpose "
        f"{version['version']}, commit {version['commit']}",
        "Scores": _scores(described.description["net"]),
        "Terms": str(cfg.terms),
        "Limits": str(cfg.limits),
    }
    return "\n".join(
        [
            f"# {described.description.get('experiment')}",
            "",
            *(f"- **{name}**: {fact}" for name, fact in facts.items()),
            "",
            caption(after),
            "",
            as_markdown(lines),
            "",
        ]
    )


def _training(ckpt: Path, described: dict[str, Any], command: str | None) -> dict[str, str]:
    """What the run left on record of the training."""
    run = _record(ckpt.parent / "config.yaml") or {}
    trained = _record(ckpt.parent / "metrics.json") or {}
    code = "not recorded"
    if trained:
        code = f"kdpose {trained['version']}, commit {trained['commit']}"
        code += " and changes to it" if trained.get("dirty") else ""
    said = command or trained.get("training", {}).get("command") or "not recorded"
    return {
        "Trained on": f"{described['dataset'].get('name')}, experiment "
        f"`{described.get('experiment')}`, seed {described.get('seed')}, "
        f"{(run.get('trainer') or {}).get('max_epochs')} epochs in its last stage",
        "Trained by": f"`{said}`",
        "Code that trained it": code,
    }


def _network(net: dict[str, Any]) -> str:
    student = net.get("student", net)
    refined = " refined by an image-guided graph network" if "refiner" in net else ""
    kind = student["backbone"]["_target_"].rpartition(".")[2]
    return f"{student['backbone'].get('name', kind)} with SimCC{refined}"


def _scores(net: dict[str, Any]) -> str:
    values = net.get("student", net).get("calibration")
    if values is None:
        return "those of the SimCC bins, not calibrated"
    return (
        "probabilities that a joint is within OKS' reach (similarity 0.5), fitted on "
        f"the split below: sigmoid({values[0]:.3f} ln s + {values[1]:.3f}) of the bins' score s"
    )


def _teacher(ckpt: Path) -> str:
    record = _record(ckpt.parent / "teacher.json")
    if record is None:
        answers = ((_record(ckpt.parent / "config.yaml") or {}).get("teacher") or {}).get("file")
        files = [answers] if isinstance(answers, str) else answers or []
        return f"stored answers, {', '.join(Path(f).name for f in files)}" if files else "none"
    path = Path(record["of"]["ckpt"])
    net = load_net(path, "teacher.ckpt").description["net"] if path.is_file() else None
    name = f"{_network(net)} of " if net else ""
    score = "n/a" if record["AP"] is None else f"{100 * record['AP']:.1f}"
    return (
        f"{name}`{path.parent.name}/{path.name}`, sha256 `{record['of']['ckpt_sha256']}`, "
        f"AP {score} on {record['persons']} persons of the split below"
    )


def _calibrate(path: Path, content: dict[str, Any], picture: Path, **data: Any) -> None:
    """Calibrate a checkpoint's scores on its validation split, write it again and draw the curve.

    Args:
        path: of the checkpoint.
        content: what it holds.
        picture: path of the curve.
        **data: ``annotations``, ``images`` and ``device`` of :func:`scored_joints`.
    """
    described = content[KEY]["net"]
    student = described.get("student", described)
    student["calibration"] = None
    torch.save(content, path)
    found = scored_joints(load_net(path), **data)
    try:
        slope, offset = fit(found)
    except ValueError as error:
        _log.warning("the scores are not calibrated: %s", error)
        return
    student["calibration"] = [slope, offset]
    torch.save(content, path)
    save_curve(found._replace(scores=calibrate(found.scores, slope, offset)), picture)


def publish(cfg: DictConfig) -> str:
    """Write ``student.ckpt`` in half precision and ``MODEL_CARD.md`` to ``out``.

    With ``calibrate``, also ``calibration.png``: the share of joints within OKS' reach by score.

    Returns:
        The model card.

    Raises:
        ValueError: half precision loses more AP than ``budget``.
    """
    ckpt, out = Path(cfg.ckpt), Path(cfg.out)
    content = in_half_precision(ckpt, cfg.rank)
    out.mkdir(parents=True, exist_ok=True)
    waiting = out / "rejected.ckpt"  # until it scores as it should
    torch.save(content, waiting)
    own = load_net(ckpt).description["dataset"]
    data = {key: str(own[key]) for key in ("annotations", "images")}
    options: dict[str, Any] = {**data, "device": cfg.device}
    before, after = (evaluate_net(load_net(path), **options) for path in (ckpt, waiting))
    lost = 100 * (before["AP"] - after["AP"])
    if lost > cfg.budget:
        raise ValueError(
            f"{waiting.absolute()} loses {lost:.2f} AP in half precision"
            f"{'' if cfg.rank is None else f' and rank {cfg.rank}'}, budget is {cfg.budget}"
        )
    if cfg.calibrate:
        _calibrate(waiting, content, out / "calibration.png", **options)
        after = evaluate_net(load_net(waiting), **options)
    published = out / "student.ckpt"
    waiting.replace(published)
    card = model_card(ckpt, published, before, after, cfg)
    (out / "MODEL_CARD.md").write_text(card)
    return card
