"""``category=NAME`` of a training: persons of one category, in training and validation."""

import json
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from kdpose.checkpoints.load import load_net
from kdpose.data.annotations import load_persons
from kdpose.data.one_category import take_category
from kdpose.training.stage import train

STRING = {"id": 3, "name": "string", "keypoints": ["start", "end", "left_knot", "right_knot"]}

FILES = {"train": "crowdpose_trainval.json", "val": "crowdpose_test.json"}


@pytest.fixture
def two(crowd, tmp_path):
    """The synthetic crowd, every second person of which is a string of four joints."""
    for name in FILES.values():
        content = json.loads((crowd / "annotations" / name).read_text())
        content["categories"].append({**STRING, "skeleton": [[1, 3], [3, 4], [4, 2]]})
        for person in content["annotations"][::2]:
            person |= {"category_id": 3, "keypoints": person["keypoints"][:12], "num_keypoints": 4}
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def asked(configured, two, crowd):
    """Composes a training on that, with the skeleton of the annotations."""

    def make(name, *more):
        words = [f"dataset.{split}.annotations={two}/{file}" for split, file in FILES.items()]
        images = [f"dataset.{split}.images={crowd}/images" for split in ("train", "val")]
        return configured(name, "dataset=custom", *words, *images, *more)

    return make


def persons_of(path):
    content = json.loads(Path(path).read_text())
    kinds = {person["category_id"] for person in content["annotations"]}
    return [category["name"] for category in content["categories"]], kinds


def test_both_splits_and_the_skeleton_are_of_the_category(asked, two, tmp_path):
    cfg, again, other = (asked("run", f"category={c}") for c in ("string", "string", "person"))
    for one in (cfg, again, other):
        take_category(one)
    files = [cfg.dataset[split].annotations for split in ("train", "val")]
    assert [persons_of(file) for file in files] == [(["string"], {3})] * 2
    assert [again.dataset[split].annotations for split in ("train", "val")] == files
    assert persons_of(other.dataset.train.annotations) == (["person"], {1})
    skeleton = instantiate(cfg.dataset.skeleton, _convert_="all")
    assert skeleton.joints == tuple(STRING["keypoints"])
    whole = json.loads((two / "crowdpose_trainval.json").read_text())["annotations"]
    assert 0 < len(load_persons(files[0], skeleton)) <= len(whole[::2])
    before = OmegaConf.to_container(cfg)
    take_category(cfg)  # a pipeline's are taken once
    assert OmegaConf.to_container(cfg) == before


def test_without_the_key_nothing_is_written(asked, tmp_path):
    cfg = asked("run")
    take_category(cfg)
    assert not (tmp_path / "categories").exists()


def test_a_category_that_is_not_there_is_named_with_those_that_are(asked):
    with pytest.raises(ValueError, match=r"has no category 'cow': it has person \(1\), string"):
        take_category(asked("run", "category=cow"))
    with pytest.raises(ValueError, match=r"category=\[1, 2\] is refused"):
        train(asked("run", "category=[1,2]"))


@pytest.mark.slow
def test_training_and_the_scores_are_of_the_category(asked, tmp_path, kdpose_here):
    metrics = train(asked("run", "category=string", "doctor=true", "trainer.max_epochs=1"))
    val = json.loads((tmp_path / "crowdpose_test.json").read_text())["annotations"]
    assert metrics["boxes"] <= len(val[::2])
    assert load_net(tmp_path / "run/best.ckpt").net.skeleton.joints == tuple(STRING["keypoints"])
    again = kdpose_here("evaluate", f"ckpt={tmp_path}/run/best.ckpt", f"out={tmp_path}/m.json")
    assert "AP" in again.stdout
    scored = json.loads((tmp_path / "m.json").read_text())
    scored = scored[0] if isinstance(scored, list) else scored
    assert scored["AP"] == metrics["AP"]


def test_the_doctor_checks_a_category_of_a_data_set(two, crowd, kdpose_here):
    words = [
        f"dataset.train.annotations={two}/crowdpose_trainval.json",
        f"dataset.val.annotations={two}/crowdpose_test.json",
        *(f"dataset.{split}.images={crowd}/images" for split in ("train", "val")),
    ]
    done = kdpose_here(
        "doctor", "dataset=custom", *words, "category=string", f"json={two}/f.json", check=False
    )
    found = json.loads((two / "f.json").read_text())
    whole = json.loads((two / "crowdpose_trainval.json").read_text())["annotations"]
    assert found["splits"]["train"]["persons"] == len(whole[::2]), done.stdout
    assert not any(f["kind"] in ("joint_count", "other_categories") for f in found["findings"])
