"""A small clean data set on disk, in which each test plants one fault."""

import json

import numpy as np
import pytest
from PIL import Image

from kdpose.checks.inspect import inspect
from kdpose.skeletons.known import CROWDPOSE

# a person who stands and faces us, in shares of the box: left is on the right
STANDING = [
    (0.7, 0.25), (0.3, 0.25), (0.8, 0.4), (0.2, 0.4), (0.85, 0.55), (0.15, 0.55), (0.65, 0.55),
    (0.35, 0.55), (0.65, 0.75), (0.35, 0.75), (0.65, 0.95), (0.35, 0.95), (0.5, 0.05), (0.5, 0.2),
]  # fmt: skip


class Planted:
    """Two splits of four images, two persons each."""

    def __init__(self, root):
        self.root, self.skeleton = root, CROWDPOSE
        rng = np.random.default_rng(0)
        self.data, self.where = {}, {}
        for split, start in (("train", 0), ("val", 100)):
            folder = root / split
            folder.mkdir()
            images, persons = [], []
            for n in range(start, start + 4):
                images.append({"id": n, "file_name": f"{n}.png", "width": 120, "height": 90})
                coarse = Image.fromarray(rng.integers(0, 255, (9, 12, 3), np.uint8))
                coarse.resize((120, 90), Image.Resampling.BICUBIC).save(folder / f"{n}.png")
                persons += [person(n, 2 * n + i, (5 + 55 * i, 5, 40 + n % 3, 80)) for i in (0, 1)]
            self.data[split] = {
                "images": images,
                "annotations": persons,
                "categories": [CROWDPOSE.to_category()],
            }
            self.where[split] = {"annotations": str(root / f"{split}.json"), "images": str(folder)}

    def write(self):
        for split, data in self.data.items():
            (self.root / f"{split}.json").write_text(json.dumps(data))

    def findings(self, **options):
        """What the doctor finds now, by kind."""
        self.write()
        return {f.kind: f for f in inspect(self.where, self.skeleton, **options).findings}


def person(image_id, number, box):
    x, y, w, h = box
    points = [(x + w * u, y + h * v, 2) for u, v in STANDING]
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": list(box),
        "area": 0.5 * w * h,
        "num_keypoints": len(points),
        "keypoints": [value for point in points for value in point],
    }


@pytest.fixture
def planted(tmp_path):
    return Planted(tmp_path)
