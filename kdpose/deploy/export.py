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

from kdpose.checkpoints.guest_net import LoadedGuest
from kdpose.checkpoints.load import Loaded, chosen, load_net
from kdpose.cli import console
from kdpose.deploy import runner
from kdpose.deploy.card import SUFFIX, card, files_of
from kdpose.deploy.crops import Crops
from kdpose.deploy.parity import Budgets, Network, Parity, compare, latency, undecided
from kdpose.deploy.sensitivity import Quantized, group_costs
from kdpose.deploy.sources import gate_crops, select
from kdpose.deploy.tables import group_table, parity_table
from kdpose.inference.predictor import least_score

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


def torch_network(loaded: Loaded | LoadedGuest) -> Network:
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

    ckpt = chosen(cfg.ckpt)
    if cfg.precision != "int8":
        save = in_float(loaded.net, cfg.format, cfg.precision)
        save(path, card(loaded, ckpt, cfg.precision, weights_license=cfg.license))
        return None
    wanted = cfg.calibration
    crops = select(loaded, cfg, "calibration", max(wanted.scored, wanted.persons))
    console.print(f"calibrating on {len(crops)} persons")
    quantized = in_integers(
        loaded.net,
        cfg.format,
        reference,
        crops,
        wanted,
        threads=cfg.threads,
        least=least_score(loaded.net),
    )
    content = card(
        loaded,
        ckpt,
        "int8",
        float_groups=quantized.float_groups,
        weights_license=cfg.license,
    )
    quantized.save(path, content)
    return quantized


def judge(cfg: DictConfig, parity: Parity, quantized: Quantized | None) -> str | None:
    """Why the file must not be used, in one line, or None where it is within its budget."""
    if quantized is not None and not quantized.choice.int8:
        return "no layer group can be integers within calibration.ap and calibration.share"
    faults = parity.beyond(Budgets(*(cfg.gate[key][cfg.precision] for key in Budgets._fields)))
    if not faults:
        return None
    line = f"gate failed: {' and '.join(faults)}"
    if quantized is None:
        return line
    costs = quantized.choice.alone
    if not costs:  # else they are shown already
        costs = group_costs(quantized.measure, quantized.groups)
        console.print(group_table(costs, quantized.float_groups))
    worst = sorted(quantized.choice.int8, key=lambda g: costs[g].distance, reverse=True)[:3]
    named = ", ".join(f"{g} {costs[g].px:.2f} px ({costs[g].share:.1%})" for g in worst)
    return f"{line}; costliest in int8: {named}; a lower calibration.share keeps more in float"


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
    loaded = load_net(chosen(cfg.ckpt))
    reference = torch_network(loaded)
    crops = gate_crops(loaded, cfg)
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
    crops: Crops,
    path: Path,
    quantized: Quantized | None,
) -> dict[str, Any]:
    """Compare the file with PyTorch, say so, and judge it."""
    console.print(f"comparing it with PyTorch on {len(crops.pixels)} persons")
    _, network = runner.open_model(str(path), cfg.threads)
    parity = compare(
        reference, network, crops, undecided(loaded.net, crops), least_score(loaded.net)
    )
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
        "source": str(crops.source),
        **asdict(parity),
        "ap_loss": parity.ap_loss,
        "threads": cfg.threads,
        "latency": times,
        "bytes": sum(file.stat().st_size for file in files_of(path)),
        **(_int8_facts(quantized) if quantized is not None else {}),
    }
