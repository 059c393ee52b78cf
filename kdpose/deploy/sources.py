"""Which persons an exported file is compared on, and calibrated on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import DictConfig

from kdpose.checkpoints.load import Loaded
from kdpose.cli import console
from kdpose.data.bundled import FOLDER
from kdpose.deploy.crops import Crops, Net, labelled_crops, unlabelled_crops
from kdpose.inference.detector import choose_detector, load_detector

FEWEST = 10  # persons of a gate: with fewer, one person's joints alone decide its percentiles
Key = Literal["gate", "calibration"]


def gate_crops(loaded: Loaded, cfg: DictConfig) -> Crops:
    """The persons that a file is compared with PyTorch on.

    Raises:
        FileNotFoundError: named files do not exist.
        ValueError: they do not fit, or show fewer than ten persons.
    """
    if cfg.gate.persons < FEWEST:
        raise ValueError(f"gate.persons={cfg.gate.persons} is too few: at least {FEWEST}")
    crops = select(loaded, cfg, "gate", cfg.gate.persons)
    if len(crops) < FEWEST:
        raise ValueError(
            f"the gate needs at least {FEWEST} persons, {crops.source} has {len(crops)}: name more "
            "by gate.annotations=JSON gate.images=FOLDER, or leave both out"
        )
    return crops


def select(loaded: Loaded, cfg: DictConfig, key: Key, persons: int) -> Crops:
    """The persons that the config names, else the checkpoint's own, else the bundled ones.

    Args:
        loaded: the network and its checkpoint's description.
        cfg: ``conf/export.yaml``'s keys.
        key: ``gate`` takes the validation split, ``calibration`` the training split.
        persons: images are taken whole until there are as many.

    Raises:
        FileNotFoundError: named files do not exist.
        ValueError: they do not fit.
    """
    given, own = cfg[key], _own(loaded, key)
    protocol = cfg.gate.protocol or loaded.description["dataset"].get("protocol", "coco")
    if given.annotations is None and given.images is not None:
        detect = load_detector(choose_detector("multipose"), torch.device("cpu"))
        return unlabelled_crops(given.images, loaded.net, persons, key, detect)
    if given.annotations is not None:
        images = given.images or own.get("images")
        if not images:
            raise ValueError(f"{key}.annotations={given.annotations} needs {key}.images=FOLDER")
        return labelled_crops(given.annotations, images, protocol, loaded.net, persons, key)
    if own and Path(own["annotations"]).is_file() and Path(own["images"]).is_dir():
        crops = labelled_crops(
            own["annotations"], own["images"], protocol, loaded.net, persons, key
        )
        if key == "calibration" or len(crops) >= FEWEST:
            return crops
    console.print(f"{key}: persons that come with kdpose; {key}.images names photographs")
    return bundled_crops(loaded.net, key, persons)


def _own(loaded: Loaded, key: Key) -> Mapping[str, Any]:
    """Annotations and images of the checkpoint's own split; empty if it does not name both."""
    own = loaded.description["dataset"]
    files = own if key == "gate" else own.get("train") or {}
    if not isinstance(files, Mapping):
        files = files[0]  # of several training sets
    return files if files.get("annotations") and files.get("images") else {}


def bundled_crops(net: Net, key: Key, persons: int) -> Crops:
    """Photographed for the gate, rendered for calibration; without labels for another body."""
    file = FOLDER / f"{key}.json"
    protocol = "coco" if key == "gate" else "crowdpose"
    return labelled_crops(file, FOLDER / "images", protocol, net, persons, key, other_bodies=True)
