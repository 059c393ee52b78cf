"""Whose persons judge a file: those that are named, the checkpoint's own, or the bundled ones."""

import json
from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from kdpose.checkpoints.load import SHIPPED, load_net
from kdpose.data.bundled import FOLDER
from kdpose.deploy.crops import unlabelled_crops
from kdpose.deploy.sources import FEWEST, bundled_crops, gate_crops, select
from kdpose.inference.multipose import MultiPoseDetector


def options(**gate):
    nothing = {"annotations": None, "images": None, "protocol": None, "persons": 1000}
    return OmegaConf.create({"gate": nothing | gate, "calibration": dict(nothing)})


def without_data(loaded, **files):
    dataset = {"name": "gone", "protocol": "crowdpose", **files}
    return replace(loaded, description={**loaded.description, "dataset": dataset})


def persons(path, count):
    """A copy of the annotations with that many persons, each the only one of its image."""
    content = json.loads(path.read_text())
    seen, kept = set(), []
    for person in content["annotations"]:
        if person["image_id"] not in seen:
            seen.add(person["image_id"])
            kept.append(person)
    return {**content, "annotations": kept[:count]}


@pytest.mark.parametrize(("key", "shared"), [("gate", 17), ("calibration", 12)])
def test_the_bundled_persons(key, shared, capsys):
    loaded = load_net(SHIPPED)
    crops = bundled_crops(loaded.net, key, 1000)
    listed = json.loads((FOLDER / f"{key}.json").read_text())
    assert len(crops) == len(listed["annotations"]) >= FEWEST
    assert crops.labels is not None
    assert len(crops.labels.bridge.shared.joints) == shared  # with COCO's 17


def test_no_person_both_calibrates_and_judges():
    images = [
        {i["file_name"] for i in json.loads((FOLDER / f"{key}.json").read_text())["images"]}
        for key in ("gate", "calibration")
    ]
    assert not images[0] & images[1]
    assert images[0] | images[1] == {path.name for path in (FOLDER / "images").iterdir()}
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.*")) < 600_000


def test_the_own_split_goes_first(loaded, everyone):
    assert gate_crops(loaded, options()).source == everyone.source
    own = loaded.description["dataset"]["train"]
    assert str(select(loaded, options(), "calibration", 9).source) == own["annotations"]


@pytest.mark.parametrize(
    "files",
    [{}, {"annotations": "gone/a.json", "images": "gone/images", "train": []}],
    ids=["unnamed", "elsewhere"],
)
def test_without_own_data_the_bundled_persons_judge(loaded, capsys, files):
    bare = without_data(loaded, **files)
    assert gate_crops(bare, options()).source == FOLDER / "gate.json"
    assert select(bare, options(), "calibration", 9).source == FOLDER / "calibration.json"
    assert "gate: persons that come with kdpose" in capsys.readouterr().out


def test_of_several_training_sets_the_first_calibrates(loaded, crowd):
    train = loaded.description["dataset"]["train"]
    several = without_data(loaded, train=[train, {"annotations": "x", "images": "y"}])
    assert str(select(several, options(), "calibration", 9).source) == train["annotations"]


def test_two_persons_are_too_few(loaded, crowd, tmp_path):
    file = tmp_path / "two.json"
    file.write_text(json.dumps(persons(crowd / "annotations/crowdpose_test.json", 2)))
    named = options(annotations=str(file), images=f"{crowd}/images")
    with pytest.raises(ValueError, match=r"at least 10 persons, .*two.json has 2: name more by"):
        gate_crops(loaded, named)
    with pytest.raises(ValueError, match=r"gate.persons=4 is too few: at least 10"):
        gate_crops(loaded, options(persons=4))
    own = without_data(loaded, annotations=str(file), images=f"{crowd}/images")
    assert gate_crops(own, options()).source == FOLDER / "gate.json"


def test_annotations_need_images(loaded, crowd):
    named = options(annotations=f"{crowd}/annotations/crowdpose_test.json")
    with pytest.raises(ValueError, match=r"gate.annotations=.* needs gate.images=FOLDER"):
        gate_crops(without_data(loaded), named)


@pytest.mark.slow
def test_photographs_alone_are_shown_to_the_bundled_detector(loaded):
    crops = gate_crops(loaded, options(images=str(FOLDER / "images")))
    assert crops.labels is None
    found = unlabelled_crops(FOLDER / "images", loaded.net, 1000, "gate", MultiPoseDetector())
    assert len(crops) == len(found) >= FEWEST
