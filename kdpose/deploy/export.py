"""Write a network for other runtimes and compare each file with PyTorch."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich import box
from rich.table import Table

from kdpose.checkpoints.load import Loaded, load_net
from kdpose.cli import console
from kdpose.deploy import runner
from kdpose.deploy.card import SUFFIX, card, files_of
from kdpose.deploy.parity import (
    LabelledCrops,
    Network,
    Parity,
    compare,
    latency,
    read_crops,
    undecided,
)
from kdpose.deploy.sensitivity import Cost, Quantized, group_costs

_PRECISIONS = ("fp32", "fp16", "int8")
_PACKAGES = ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf")


def missing_packages() -> str | None:
    """What is not installed, and how to have it; None where nothing misses."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    return f"exports need {', '.join(missing)}: pip install 'kdpose[export]'" if missing else None


def check_request(form: str, precision: str) -> None:
    """Refuse what cannot be written, before any work is done.

    Raises:
        ValueError: format or precision is unknown, or they do not go together.
    """
    if form not in SUFFIX or precision not in _PRECISIONS:
        raise ValueError(
            f"format must be one of {', '.join(SUFFIX)} and precision one of "
            f"{', '.join(_PRECISIONS)}, got {form} and {precision}"
        )
    if form == "pt2" and precision == "int8":
        raise ValueError("torch has no 8-bit convolution: take format=onnx or format=openvino")


def split_crops(loaded: Loaded, split: str, cfg: DictConfig, persons: int) -> LabelledCrops:
    """Crops of the files that the config names, else of the checkpoint's own split.

    Raises:
        ValueError: neither says where the split lies.
    """
    key = "gate" if split == "val" else "calibration"
    own = loaded.description["dataset"]
    files = own if split == "val" else own.get(split) or {}
    where = [str(cfg[key][name] or files.get(name, "")) for name in ("annotations", "images")]
    if "" in where:
        raise ValueError(
            f"the checkpoint does not say where its {split} split lies: set {key}.annotations=JSON "
            f"and {key}.images=FOLDER"
        )
    protocol = cfg.gate.protocol or own.get("protocol", "coco")
    size = loaded.net.codec.input_size
    return read_crops(where[0], where[1], protocol, loaded.net.skeleton, size, persons, key)


def torch_network(loaded: Loaded) -> Network:
    """The checkpoint's network in PyTorch, as evaluation runs it."""

    def network(crops: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        with torch.inference_mode():
            pose = loaded.net.pose(torch.from_numpy(crops))
        return [pose.joints.numpy(), pose.scores.numpy()]

    return network


def write(cfg: DictConfig, loaded: Loaded, reference: Network, path: Path) -> Quantized | None:
    """Build the network in the format and precision asked for, and write it.

    Returns:
        What integers cost; None in float.
    """
    from kdpose.deploy.build import in_float, in_integers  # these need the optional packages

    if cfg.precision != "int8":
        save = in_float(loaded.net, cfg.format, cfg.precision)
        save(path, card(loaded, cfg.ckpt, cfg.precision, weights_license=cfg.license))
        return None
    wanted = cfg.calibration
    scored = split_crops(loaded, "train", cfg, max(wanted.scored, wanted.persons))
    quantized = in_integers(
        loaded.net,
        cfg.format,
        reference,
        scored.pixels[: wanted.persons],
        scored,
        budget=wanted.ap,
        always_table=wanted.table,
        threads=cfg.threads,
    )
    content = card(
        loaded,
        cfg.ckpt,
        "int8",
        float_groups=quantized.float_groups,
        weights_license=cfg.license,
    )
    quantized.save(path, content)
    return quantized


def group_table(costs: dict[str, Cost], in_float: Sequence[str]) -> Table:
    """What each layer group costs alone in integers."""
    title = "int8 on training crops, one layer group at a time"
    table = Table(title=title, box=box.SIMPLE)
    table.add_column("layer group")
    for name in ("AP lost", "a joint moves by, px"):
        table.add_column(name, justify="right")
    table.add_column("kept in")
    for group, cost in costs.items():
        kept = "float32" if group in in_float else "int8"
        table.add_row(group, f"{cost.ap:.2f}", f"{cost.px:.3f}", kept)
    return table


def parity_table(name: str, parity: Parity, times: dict[int, dict[str, float]]) -> Table:
    """The file against PyTorch, one line each."""
    table = Table(title=f"{name} on {parity.persons} persons", box=box.SIMPLE, show_header=False)
    table.add_row(
        "largest, mean distance of a joint", f"{parity.max_px:.4f}, {parity.mean_px:.4f} px"
    )
    table.add_row(
        "near-tied joints in PyTorch",
        f"{parity.ties} of {parity.joints}, by {parity.ties_px:.4f} px at most",
    )
    table.add_row("AP: PyTorch, file", f"{parity.ap_torch:.2f}, {parity.ap_file:.2f}")
    for batch, t in times.items():
        table.add_row(
            f"latency at batch {batch}: PyTorch, file",
            f"{t['torch_ms']:.2f}, {t['file_ms']:.2f} ms a crop: {t['speedup']:.2f}x "
            f"[{t['speedup_min']:.2f}-{t['speedup_max']:.2f}]",
        )
    return table


def judge(cfg: DictConfig, parity: Parity, quantized: Quantized | None) -> str | None:
    """Why the file must not be used, in one line, or None where it is within its budget."""
    faults = parity.beyond(cfg.gate.px[cfg.precision], cfg.gate.ap[cfg.precision])
    if not faults:
        return None
    line = f"gate failed: {' and '.join(faults)}"
    if quantized is None:
        return line
    costs = quantized.choice.alone
    if not costs:  # else they are shown already
        costs = group_costs(quantized.measure, quantized.groups)
        console.print(group_table(costs, quantized.float_groups))
    worst = sorted(quantized.choice.int8, key=lambda group: -costs[group].px)[:3]
    named = ", ".join(f"{g} {costs[g].ap:.2f} AP, {costs[g].px:.2f} px" for g in worst)
    return f"{line}; costliest in int8: {named}; a lower calibration.ap keeps more in float"


def _int8_facts(quantized: Quantized) -> dict[str, Any]:
    """What the report says of the search for layers that may be integers."""
    return {
        "float_groups": quantized.float_groups,
        "train_cost": quantized.choice.cost._asdict(),
        "train_cost_by_group": {g: c._asdict() for g, c in quantized.choice.alone.items()},
    }


def export(cfg: DictConfig) -> dict[str, Any]:
    """Write the network, compare the file with PyTorch, and let it through or keep it apart.

    Args:
        cfg: ``conf/export.yaml``'s keys.

    Returns:
        What the JSON beside the file holds, and ``path``: where the file lies, below ``rejected``
        where its ``fault`` is not None.
    """
    torch.set_num_threads(cfg.threads)
    loaded = load_net(cfg.ckpt)
    reference = torch_network(loaded)
    crops = split_crops(loaded, "val", cfg, cfg.gate.persons)
    out = Path(cfg.out)
    rejected = out / "rejected"  # until the gate has let it through
    rejected.mkdir(parents=True, exist_ok=True)
    experiment = Path(loaded.description["experiment"]).name  # a pipeline's stages have folders
    path = rejected / f"{experiment}_{cfg.precision}{SUFFIX[cfg.format]}"
    console.print(f"writing {path.name}")
    quantized = write(cfg, loaded, reference, path)
    report = {"file": path.name, "format": cfg.format, "precision": cfg.precision}
    report |= _against_torch(cfg, loaded, reference, crops, path, quantized)
    path.with_suffix(".json").write_text(json.dumps(report, indent=2))
    if report["fault"] is not None:
        return report | {"path": str(path.absolute())}
    for file in (*files_of(path), path.with_suffix(".json")):
        file.replace(out / file.name)
    if not any(rejected.iterdir()):
        rejected.rmdir()
    shutil.copy(runner.__file__, out / "runner.py")
    return report | {"path": str((out / path.name).absolute())}


def _against_torch(
    cfg: DictConfig,
    loaded: Loaded,
    reference: Network,
    crops: LabelledCrops,
    path: Path,
    quantized: Quantized | None,
) -> dict[str, Any]:
    """Compare the file with PyTorch, say so, and judge it."""
    console.print(f"comparing it with PyTorch on {len(crops.pixels)} persons")
    _, network = runner.open_model(str(path), cfg.threads)
    parity = compare(reference, network, crops, undecided(loaded.net, crops))
    times = {
        batch: latency(reference, network, crops.pixels[:batch], cfg.latency.rounds)
        for batch in cfg.latency.batch
    }
    if quantized is not None and quantized.choice.alone:
        console.print(group_table(quantized.choice.alone, quantized.float_groups))
    console.print(parity_table(path.name, parity, times))
    fault = judge(cfg, parity, quantized)
    return {
        "passed": fault is None,
        "fault": fault,
        "annotations": str(crops.annotations),
        **asdict(parity),
        "ap_loss": parity.ap_loss,
        "threads": cfg.threads,
        "latency": times,
        "bytes": sum(file.stat().st_size for file in files_of(path)),
        **(_int8_facts(quantized) if quantized is not None else {}),
    }
