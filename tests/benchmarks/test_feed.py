import json
import sys

import cv2
import numpy as np
import pytest
import torch

from benchmarks.usual import MEAN, STD, UsualDataset
from kdpose import benchmark, pack
from kdpose.codecs.simcc import SimCC
from kdpose.data.annotations import load_persons
from kdpose.data.dataset import PoseDataset
from kdpose.data.sources.device_crop import SourceDataset, cut
from kdpose.data.sources.packed import Pack
from kdpose.data.transforms import Augmentation
from kdpose.skeletons.known import CROWDPOSE

SIZE = (48, 64)
OFF = Augmentation(0, 0, 0, 0, 0)


def test_the_usual_pipeline_makes_what_ours_makes(crowd):
    persons = load_persons(crowd / "annotations" / "crowdpose_trainval.json", CROWDPOSE)
    usual = UsualDataset(persons, crowd / "images", CROWDPOSE, SIZE, OFF, sigma=5)
    ours = PoseDataset(persons, crowd / "images", CROWDPOSE, SIZE)
    codec = SimCC(SIZE, 2.0, label="gaussian", sigma=5)
    for row in range(len(persons)):
        image, x, y, weight = usual[row]
        batch = ours.__getitems__([row])
        pixels = image * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
        error = (255 * pixels - batch.image[0]).abs()
        # OpenCV's own JPEG decoder, and one more rounding of the matrix
        assert error.mean() < 1
        target = codec.encode(batch.joints, batch.visible)
        assert torch.equal(torch.from_numpy(np.array(weight)), target.weight[0])
        for a, b in ((x, target.x[0]), (y, target.y[0])):
            kept = weight > 0
            peaks = a[kept].argmax(-1) - b[kept].argmax(-1)
            assert peaks.abs().max() <= 1


@pytest.mark.parametrize("device", [False, True])
def test_views_are_the_usual_pipelines(crowd, device):
    persons = load_persons(crowd / "annotations" / "crowdpose_trainval.json", CROWDPOSE)
    usual = UsualDataset(persons, crowd / "images", CROWDPOSE, SIZE, OFF)
    ours = PoseDataset(persons, crowd / "images", CROWDPOSE, SIZE, augmentation=Augmentation())
    rows = np.arange(len(persons))
    views = [(2, row) for row in rows.tolist()]
    batch = ours.__getitems__(views)
    if device:
        batch = cut(SourceDataset(ours).__getitems__(views), ours)
    plan = ours.plan(2, rows)
    assert plan.flip.any()
    assert plan.degrees.any()
    errors = []
    for row in rows:
        image = cv2.imread(str(crowd / "images" / persons.files[row]))[..., ::-1]
        joints, center = persons.joints[row].astype(float), plan.center[row].astype(float)
        visible = persons.visible[row]
        if plan.flip[row]:
            image = image[:, ::-1]
            joints, visible, center = usual._mirrored(joints, visible, center, image.shape[1])
        matrix = usual._matrix(center, plan.size[row].astype(float), plan.degrees[row])
        joints = joints @ matrix[:, :2].T + matrix[:, 2]
        assert np.abs(joints - batch.joints[row].numpy())[visible > 0].max() < 0.01
        crop = cv2.warpAffine(np.ascontiguousarray(image), matrix, SIZE)
        errors.append(np.abs(crop.transpose(2, 0, 1) - batch.image[row].numpy().astype(float)))
    assert np.mean(errors, (1, 2, 3)).max() < 1  # of 255


def test_the_usual_pipeline_augments(crowd):
    persons = load_persons(crowd / "annotations" / "crowdpose_trainval.json", CROWDPOSE)
    always = Augmentation(half_body_probability=1, half_body_joints=0)
    usual = UsualDataset(persons, crowd / "images", CROWDPOSE, SIZE, always)
    views = [usual[0][0] for _ in range(20)]
    assert all(view.isfinite().all() for view in views)
    assert not any(torch.equal(views[0], view) for view in views[1:])


@pytest.fixture
def command(monkeypatch, crowd, tmp_path):
    """Run an entry point as its command line does."""

    def run(main, *words):
        common = ["dataset=synthetic", f"dataset.root={crowd}", "codec.input_size=[48,64]"]
        monkeypatch.setattr(sys, "argv", ["kdpose", *common, *words])
        main()

    return run


def test_the_command(command, tmp_path):
    out = tmp_path / "feed.json"
    command(
        benchmark.main, "what=feed", f"out={out}", "repeats=1", "what.cases.persons=8",
        "what.cases.batch_size=4", f"scratch={tmp_path}",
    )  # fmt: skip
    told = json.loads(out.read_text())
    rows = {row["name"]: row for row in told["rows"]}
    assert told["what"] == "feed"
    assert told["about"]["cases"]["codec"]["input_size"] == [48, 64]
    assert rows["usual pipeline"]["ratio"] is None
    for name in ("files: crops", "JPEG pack: sources", "raw pack: all here", "resident"):
        assert rows[name]["median"] > 0
        assert rows[name]["ratio"] == pytest.approx(
            rows[name]["median"] / rows["usual pipeline"]["median"]
        )
        assert rows[name]["share"] > 0
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []  # the packs are gone


def test_the_pack_command(command, crowd, tmp_path, capsys):
    command(pack.main, f"out={tmp_path / 'p'}", "workers=0", "encoding=raw")
    made = Pack(tmp_path / "p")
    made.check(crowd / "annotations" / "crowdpose_trainval.json", CROWDPOSE, SIZE, Augmentation())
    assert f"{len(made)} persons" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command(pack.main, f"out={tmp_path / 'p'}", "workers=0")
    assert f"error: {tmp_path / 'p'} exists: remove it" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command(pack.main, "split=test")
    assert "error: split must be train or val, got test" in capsys.readouterr().err
