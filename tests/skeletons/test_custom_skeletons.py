"""Animals and hands: other joints go through training, refinement and evaluation like people's."""

import json

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image, ImageDraw

from kdpose.checkpoints.load import load_net
from kdpose.checks.findings import exit_code
from kdpose.checks.inspect import inspect
from kdpose.cli import CONF
from kdpose.display.tables import caption
from kdpose.evaluation.evaluate import evaluate_net
from kdpose.skeletons.files import read_skeleton
from kdpose.training.stage import train

FISH = """
joints: [snout, fin_a, fin_b, tail_a, tail_b]
flip_pairs: [[fin_a, fin_b], [tail_a, tail_b]]
"""
FINGERS = ("thumb", "index", "middle", "ring", "little")
HAND = {
    "id": 1,
    "name": "hand",
    "keypoints": ["wrist", *(f"{finger} {k}" for finger in FINGERS for k in range(1, 5))],
    "skeleton": [
        [1 if k == 0 else 1 + 4 * f + k, 2 + 4 * f + k] for f in range(5) for k in range(4)
    ],
}
TINY = (
    "dataset=custom",
    "backbone=mobilenetv4_tiny",
    "head.init=projection",
    "codec.input_size=[48,64]",
    "data.batch_size=4",
    "data.num_workers=0",
    "data.augmentation.half_body_probability=0",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
)


def write_data(root, category):
    """Six training and three validation images of one thing each, its joints drawn as dots."""
    rng = np.random.default_rng(0)
    count = len(category["keypoints"])
    for split, number in (("train", 6), ("val", 3)):
        images, things = [], []
        for n in range(number):
            points = rng.uniform((10, 10), (85, 110), (count, 2)).round(1)
            picture = Image.fromarray(rng.integers(0, 255, (120, 96, 3), np.uint8))
            pen = ImageDraw.Draw(picture)
            for x, y in points:
                pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill="red")
            name = f"{split}{n}.png"
            (root / "images").mkdir(exist_ok=True)
            picture.save(root / "images" / name)
            images.append({"id": n, "file_name": name, "width": 96, "height": 120})
            keypoints = [v for x, y in points.tolist() for v in (x, y, 2)]
            thing = {"id": n, "image_id": n, "category_id": 1, "bbox": [5, 5, 86, 110]}
            things.append(thing | {"area": 5000, "iscrowd": 0, "keypoints": keypoints})
        (root / "annotations").mkdir(exist_ok=True)
        content = {"images": images, "annotations": things, "categories": [category]}
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))


@pytest.fixture(params=[5, 21], ids=["fish", "hand"])
def data(request, tmp_path):
    """Root of a data set and what the command line says of its skeleton."""
    if request.param == 21:
        write_data(tmp_path, HAND)
        return tmp_path, ()
    (tmp_path / "fish.yaml").write_text(FISH)
    joints = list(read_skeleton(tmp_path / "fish.yaml").joints)
    write_data(tmp_path, {"id": 1, "name": "fish", "keypoints": joints})
    return tmp_path, (f"dataset.skeleton.path={tmp_path}/fish.yaml",)


def run(root, name, *overrides):
    where = (f"dataset.root={root}", f"runs={root}/runs", f"name={name}")
    with initialize_config_dir(CONF, version_base="1.3"):
        return train(compose("train", overrides=[*TINY, *where, *overrides]))


@pytest.mark.slow
def test_all_stages(data):
    root, told = data
    run(root, "teacher", *told)
    teacher = ("teacher=checkpoint", f"teacher.ckpt={root}/runs/teacher/best.ckpt")
    terms = f"loss=[simcc_kl,feature_mse,pose_l1{'' if told else ',limb_length'}]"  # fish: no limbs
    student = run(root, "stage1", *told, *teacher, "teacher.force=true", terms)
    stage2 = (
        root,
        "stage2",
        *told,
        *teacher,
        "teacher.force=true",
        "module=refine",
        "refiner=igp_gcn",
        "refiner.hidden=16",
        "loss=[refine_teacher]",
        f"stage1_ckpt={root}/runs/stage1/best.ckpt",
    )
    if told:  # a graph without edges
        with pytest.raises(ValueError, match="skeleton 'fish' has no limbs"):
            run(*stage2)
    refined = student if told else run(*stage2)
    loaded = load_net(root / "runs" / ("stage1" if told else "stage2") / "best.ckpt")
    skeleton = loaded.net.skeleton
    expected = read_skeleton(told[0].split("=")[1] if told else root / "annotations" / "val.json")
    assert skeleton == expected
    assert refined["sigma_source"] == "default"
    again = evaluate_net(loaded, num_workers=0)
    assert again["AP"] == refined["AP"]
    assert again["AP_half_sigma"] <= again["AP"] <= again["AP_double_sigma"]
    assert "default sigmas (AP" in caption(again)
    assert len(again["sigmas"]) == len(skeleton)


@pytest.mark.slow
def test_training_on_several_categories(tmp_path):
    kite = {"id": 3, "name": "kite", "keypoints": ["top", "TipL", "TipR"], "skeleton": [[0, 1]]}
    write_data(tmp_path, kite)
    for split in ("train", "val"):
        path = tmp_path / "annotations" / f"{split}.json"
        content = json.loads(path.read_text())
        for n, thing in enumerate(content["annotations"]):
            thing["category_id"] = 3 + n % 2
        string = {"id": 5, "name": "string", "keypoints": ["start", "end"]}
        other = content["annotations"][0] | {"id": 99, "category_id": 5, "keypoints": [1, 1, 2] * 2}
        content["annotations"].append(other)
        content["categories"] += [{**kite, "id": 4, "name": "dragon"}, string]
        path.write_text(json.dumps(content))
    found = run(tmp_path, "kites")
    assert list(found["categories"]) == ["kite", "dragon"]
    assert found["boxes"] == found["persons"] == 3
    results = json.loads((tmp_path / "runs/kites/predictions.json").read_text())
    assert [r["category_id"] for r in results] == [3, 4, 3]
    skeleton = load_net(tmp_path / "runs/kites/best.ckpt").net.skeleton
    assert (skeleton.flip_order, skeleton.limbs) == ((0, 2, 1), ((0, 1),))


def test_what_follows_from_names_and_files(data):
    root, told = data
    skeleton = read_skeleton(told[0].split("=")[1] if told else root / "annotations" / "val.json")
    if told:
        assert skeleton.flip_order == (0, 2, 1, 4, 3)
    else:
        assert skeleton.flip_order == tuple(range(21))
        assert skeleton.limbs[:5] == ((0, 1), (1, 2), (2, 3), (3, 4), (0, 5))
    where = {
        split: {"annotations": root / "annotations" / f"{split}.json", "images": root / "images"}
        for split in ("train", "val")
    }
    found = inspect(where, skeleton).findings
    assert exit_code(found) == 0
    assert {f.kind for f in found} == {
        "default_sigmas",
        "no_limbs" if told else "no_flip_pairs",
    }
