"""Run folders as training leaves them, with poses of a quality that the test chooses."""

import hashlib
import json

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from kdpose.cli import CONF
from kdpose.data.annotations import load_persons
from kdpose.data.transforms import box_region
from kdpose.metrics.keypoint_ap import keypoint_ap
from kdpose.skeletons.known import CROWDPOSE


def composed(config, *overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose(config, overrides=[str(override) for override in overrides])


def poses(annotations, noise, rng):
    """The labels, off by ``noise`` pixels in each coordinate, in ground-truth boxes."""
    persons = load_persons(annotations, CROWDPOSE)
    results = []
    for row, image in enumerate(persons.image_id.tolist()):
        center, size = box_region(persons.box[row], 0.75)
        joints = persons.joints[row] + rng.normal(0, noise, (14, 2))
        results.append(
            {
                "image_id": image,
                "category_id": 1,
                "keypoints": np.column_stack([joints, np.ones(14)]).ravel().tolist(),
                "score": float(rng.random()),
                "region": [round(float(v), 3) for v in (*(center - size / 2), *size)],
            }
        )
    return results


@pytest.fixture
def make_run(crowd, tmp_path):
    """Writes ``runs/NAME`` and returns the folder."""

    def make(name, seed=0, noise=5.0, overrides=(), gradients=None):
        folder = tmp_path / "runs" / name
        (folder / "csv" / "version_0").mkdir(parents=True)
        cfg = composed("train", f"dataset.root={crowd}", f"seed={seed}", f"name={name}", *overrides)
        OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
        path = crowd / "annotations" / "crowdpose_test.json"
        results = poses(path, noise, np.random.default_rng([seed, int(10 * noise)]))
        (folder / "predictions.json").write_text(json.dumps(results))
        scores = keypoint_ap(path, results, protocol="crowdpose", sigmas=CROWDPOSE.sigmas)
        about = {
            "protocol": "crowdpose",
            "split": path.stem,
            "annotations": str(path),
            "annotations_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "images": 6,
            "persons": len(results),
            "box_source": "gt",
            "flip": True,
            "input_size": [48, 64],
            "commit": "0123456789abcdef",
            "dirty": False,
            "training": {"seed": seed, "epochs": 3, "seconds": 12.5, "device": "cpu"},
        }
        (folder / "metrics.json").write_text(json.dumps({**scores, **about}))
        if gradients:
            (folder / "csv" / "version_0" / "metrics.csv").write_text(gradients)
        return folder

    return make
