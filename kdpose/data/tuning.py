"""Training images that choose checkpoints and settings; the validation split then only reports."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdpose.runtime.json_text import read_json
from kdpose.runtime.provenance import sha256
from kdpose.runtime.whole import write_json

_log = logging.getLogger(__name__)
_MOST = 0.5


def tuning_split(
    train: Mapping[str, str] | Sequence[Mapping[str, str]], share: float, seed: int, folder: Path
) -> dict[str, str]:
    """Write the annotations of a random part of the training images.

    Args:
        train: ``annotations`` and ``images``.
        share: of the images with annotations, whole images.
        seed: of the choice.
        folder: where the file is written, named by the training file, share and seed.

    Returns:
        ``annotations`` and ``images`` of the part.

    Raises:
        FileNotFoundError: the training annotations are not there.
        ValueError: the share is out of range, or there is more than one training set.
    """
    if not isinstance(train, Mapping):
        raise ValueError(
            "dataset.tune holds out images of one training set, and dataset.train lists several: "
            "take dataset.tune=null; their own dataset.val may be a split that reports nothing"
        )
    if not 0 < share <= _MOST:
        raise ValueError(f"dataset.tune must be a share in (0, {_MOST}], got {share}")
    path = Path(train["annotations"])
    content = read_json(path, "dataset.train.annotations")
    number = hashlib.sha256(f"{sha256(path)} {share} {seed}".encode()).hexdigest()[:8]
    out = folder / f"{path.stem}_tune_{number}.json"
    if not out.is_file():
        _write(out, content, share, seed)
    _log.info("dataset.tune: %s chooses, its images are not trained on", out.absolute())
    return {"annotations": str(out), "images": train["images"]}


def _write(out: Path, content: Mapping[str, Any], share: float, seed: int) -> None:
    """The annotations of some images, as a file that is whole or not there."""
    ids = np.unique([person["image_id"] for person in content["annotations"]])
    count = max(1, round(share * len(ids)))
    chosen = set(np.random.default_rng(seed).permutation(ids)[:count].tolist())
    part = {
        **content,
        "images": [image for image in content["images"] if image["id"] in chosen],
        "annotations": [one for one in content["annotations"] if one["image_id"] in chosen],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, part)


def held_out(tune: Mapping[str, str]) -> list[int]:
    """Ids of a tuning part's images."""
    content = read_json(tune["annotations"], "dataset.tune")
    return [int(image["id"]) for image in content["images"]]
