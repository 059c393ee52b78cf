"""Tiny synthetic data in the layout of the campaign's data sets, to try every part on a CPU."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdpose.data.synthetic.crowds import generate
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton

_SCORE = 0.9  # of the stored answers, which are the labels
Content = dict[str, Any]


def draw(root: Path, train: int = 24, val: int = 6) -> None:
    """Draw crowds and lay them out as lspet, stanford40, coco_mini and a teacher's answers.

    Args:
        root: folder to create; one that is there is left as it is.
        train: images of the training splits.
        val: images of the validation splits.
    """
    if root.is_dir():
        return
    part = root.with_name(f"{root.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    generate(part / "crowd", train=train, val=val, workers=1, image_size=(160, 120))
    known = [
        json.loads((part / f"crowd/annotations/crowdpose_{name}.json").read_bytes())
        for name in ("trainval", "test")
    ]
    for name, content in zip(("train", "val"), known, strict=True):
        _write(part, content, f"lspet/annotations/lspet_{name}.json", f"lspet/images/{name}")
    boxes = {
        "images": known[0]["images"],
        "annotations": [_box(one) for one in known[0]["annotations"]],
    }
    _write(part, boxes, "stanford40/annotations/boxes_train.json", "stanford40/images/train")
    named = {
        **known[1],
        "annotations": [_in_joints_of(COCO, one) for one in known[1]["annotations"]],
        "categories": [COCO.to_category()],
    }
    _write(part, named, "coco_mini/annotations/person_keypoints_all.json", "coco_mini/all")
    (part / "answers").mkdir()
    answers = json.dumps([_answer(one) for one in known[0]["annotations"]])
    for name in ("lspet_train", "boxes_train"):
        (part / f"answers/{name}.json").write_text(answers)
    shutil.rmtree(part / "crowd")
    part.rename(root)


def _write(root: Path, content: Content, annotations: str, images: str) -> None:
    """One split: its annotation file and its images."""
    for folder in ((root / annotations).parent, root / images):
        folder.mkdir(parents=True, exist_ok=True)
    (root / annotations).write_text(json.dumps(content))
    for image in content["images"]:
        shutil.copy(root / "crowd/images" / image["file_name"], root / images)


def _box(person: Content) -> Content:
    return {key: person[key] for key in ("id", "image_id", "category_id", "bbox")}


def _in_joints_of(skeleton: Skeleton, person: Content) -> Content:
    """A person's joints by name; those that the crowds lack are not labelled."""
    given = dict(zip(CROWDPOSE.joints, _triples(person["keypoints"]), strict=True))
    joints = [given.get(joint, (0.0, 0.0, 0.0)) for joint in skeleton.joints]
    _, _, width, height = person["bbox"]
    return {
        **person,
        "keypoints": [value for joint in joints for value in joint],
        "num_keypoints": sum(joint[2] > 0 for joint in joints),
        "area": 0.53 * width * height,
    }


def _triples(values: Sequence[float]) -> list[tuple[float, float, float]]:
    return list(zip(values[::3], values[1::3], values[2::3], strict=True))


def _answer(person: Content) -> Content:
    """A teacher that knows the labels."""
    joints = _triples(_in_joints_of(COCO, person)["keypoints"])
    placed = [value for x, y, seen in joints for value in (x, y, _SCORE * (seen > 0))]
    keys = ("id", "image_id", "category_id", "bbox")
    return {**{key: person[key] for key in keys}, "keypoints": placed, "score": _SCORE}
