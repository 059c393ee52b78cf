"""What the campaign takes along, on toy data."""

import json
import tarfile

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from benchmarks.gpu import images, parcel, toy, travel
from benchmarks.gpu.part import Places
from kdpose.cli import CONF


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("gpu") / "data"
    toy.draw(root, train=8, val=3)
    (root / "movenet_lightning.onnx").write_bytes(bytes(1000))
    return root


def packed(data, out, **options):
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("benchmark", ["what=gpu_pack", "runs=runs"])
    values = OmegaConf.to_container(cfg.what.campaign, resolve=True)
    values |= {"wheels": [], "workers": 1, "data_dir": str(data)}
    values["train"] = [{"annotations": "lspet_train.json"}, {"annotations": "boxes_train.json"}]
    values["answers"] = [str(data / f"answers/{n}.json") for n in ("lspet_train", "boxes_train")]
    del values["_target_"], values["_recursive_"]
    return parcel.run(str(out), None, "make", **(values | options))


def test_a_pack_holds_what_the_parts_need(data, tmp_path):
    table = packed(data, tmp_path / "pack")
    assert "volume 1" in list(table.columns[0].cells)
    about = travel.about(tmp_path / "pack")
    assert set(about["contents"]) == {
        "lspet", "stanford40", "coco_mini", "start", "answers", "training images 1",
    }  # fmt: skip
    assert not about["cut"]
    here = Places(tmp_path / "work", tmp_path / "results")
    travel.unpack(tmp_path / "pack", here)
    names = {str(file.relative_to(data)) for file in data.rglob("*") if file.is_file()}
    assert names <= {str(f.relative_to(here.data)) for f in here.data.rglob("*") if f.is_file()}
    before = (here.data / "movenet_lightning.onnx").stat().st_mtime_ns
    travel.unpack(tmp_path / "pack", here)
    assert (here.data / "movenet_lightning.onnx").stat().st_mtime_ns == before


def test_for_fewer_parts_it_holds_less(data, tmp_path):
    packed(data, tmp_path / "pack", part=["rows"])
    assert set(travel.about(tmp_path / "pack")["contents"]) == {"lspet", "training images 1"}
    packed(data, tmp_path / "pack", part="step")  # replaces it
    assert not travel.about(tmp_path / "pack")["contents"]
    with pytest.raises(ValueError, match="has no x: there are step, feed, bundled, rows"):
        packed(data, tmp_path / "pack", part="x")


def test_images_are_coded_again_or_left_out_where_they_do_not_fit(data, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_EVERY", 1)
    packed(data, tmp_path / "whole")
    whole = sum(f.stat().st_size for f in (tmp_path / "whole").iterdir()) / 1e6
    images_mb = travel.about(tmp_path / "whole")["contents"]["training images 1"][1]
    limit = whole - 0.4 * images_mb
    table = packed(data, tmp_path / "small", limit_mb=limit)
    assert "training images are WebP of quality" in str(table.caption)
    assert sum(f.stat().st_size for f in (tmp_path / "small").iterdir()) <= 1e6 * limit
    with tarfile.open(tmp_path / "small/images.tar.xz") as tar:
        assert len(tar.getmembers()) == 16
    low = sum(len(images.encoded(f, 30)) for f in data.glob("*/images/train/*.jpg")) / 1e6
    limit = whole - images_mb + 0.8 * low
    table = packed(data, tmp_path / "small", limit_mb=limit)
    assert "of 8 images of stanford40/images/train" in str(table.caption)
    here = Places(tmp_path / "work", tmp_path / "results")
    travel.unpack(tmp_path / "small", here)
    kept = {file.name for file in (here.data / "stanford40/images/train").iterdir()}
    boxes = json.loads((here.data / "stanford40/annotations/boxes_train.json").read_text())
    assert {image["file_name"] for image in boxes["images"]} == kept
    assert 1 <= len(kept) < 8
    ids = {image["id"] for image in boxes["images"]}
    assert {person["image_id"] for person in boxes["annotations"]} == ids
    assert len(list((here.data / "lspet/images/train").iterdir())) == 8


def test_volumes_hold_together_what_one_does_not(data, tmp_path):
    packed(data, tmp_path / "whole")
    images_mb = travel.about(tmp_path / "whole")["contents"]["training images 1"][1]
    whole = sum(f.stat().st_size for f in (tmp_path / "whole").iterdir()) / 1e6
    limit = whole - 0.4 * images_mb
    packed(data, tmp_path / "pack", limit_mb=limit, volumes=2)
    here = Places(tmp_path / "work", tmp_path / "results")
    (tmp_path / "pack.2").rename(tmp_path / "later")
    travel.unpack(tmp_path / "pack", here)
    assert len(list(here.data.rglob("train/*.jpg"))) < 16
    (tmp_path / "later").rename(tmp_path / "pack.2")
    travel.unpack(tmp_path / "pack", here)
    assert len(list(here.data.rglob("train/*.jpg"))) == 16
    packed(data, tmp_path / "pack")
    assert not (tmp_path / "pack.2").exists()


def test_a_pack_that_is_too_large_is_refused_in_one_line(data, tmp_path):
    with pytest.raises(ValueError, match=r"images do not fit .* MB: pack for fewer parts"):
        packed(data, tmp_path / "pack", limit_mb=0.01)
    with pytest.raises(
        ValueError, match=r"the pack has .* MB and what\.campaign\.limit_mb is 1e-05"
    ):
        packed(data, tmp_path / "pack", limit_mb=0.00001, part=["step"])
    assert not (tmp_path / "pack").exists()


def test_another_folder_is_not_replaced(data, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileExistsError, match="is no pack: remove it or name another"):
        packed(data, tmp_path / "mine", part=["step"])


def test_missing_data_and_answers_are_named(data, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no .*lspet/annotations \(from data_dir\)"):
        packed(tmp_path, tmp_path / "pack", part=["rows"])
    with pytest.raises(ValueError, match="one file per training set: 2 sets, 1 files"):
        packed(data, tmp_path / "pack", answers=["a.json"])


def test_the_highest_quality_that_fits_is_chosen(data):
    folder = data / "lspet/images/train"
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert images.plan([folder], 10 * size).quality is None
    assert images.plan([folder], int(0.8 * size)).quality in images.QUALITIES[1:]


def test_the_answers_are_those_of_the_annotations(data):
    answers = json.loads((data / "answers/lspet_train.json").read_text())
    labels = json.loads((data / "lspet/annotations/lspet_train.json").read_text())["annotations"]
    assert [a["id"] for a in answers] == [a["id"] for a in labels]
    assert all(len(a["keypoints"]) == 51 for a in answers)
