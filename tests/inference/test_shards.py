import json
from collections import Counter
from pathlib import Path

import pytest

from kdpose.inference.images import ImageFile
from kdpose.inference.shards import Count, count, divide, remove_unfinished, write
from kdpose.inference.worker import ImageResult

IMAGES = [ImageFile(Path(f"/photos/{n}.jpg"), n, str(n)) for n in range(10)]
SETTINGS = {"flip": True, "changed": [1.5]}


def predict(images):
    """As many persons as the id says; the seventh cannot be read."""
    for image in images:
        persons = [{"image_id": image.image_id, "score": 0.5}] * image.image_id
        yield ImageResult(image, *([], "damaged") if image.image_id == 7 else (persons,))


def test_every_image_lies_in_one_shard(tmp_path):
    shards = divide(IMAGES, 4, tmp_path, SETTINGS)
    assert [len(shard.images) for shard in shards] == [4, 4, 2]
    assert [image for shard in shards for image in shard.images] == IMAGES
    assert [shard.path.name[:7] for shard in shards] == ["000000-", "000001-", "000002-"]
    assert divide(IMAGES, 4, tmp_path, SETTINGS) == shards


def test_a_shards_name_tells_what_decides_its_content(tmp_path):
    first = divide(IMAGES, 4, tmp_path, SETTINGS)[0]
    others = {
        "settings": divide(IMAGES, 4, tmp_path, {**SETTINGS, "flip": False})[0],
        "images": divide(IMAGES[1:], 4, tmp_path, SETTINGS)[0],
        "size": divide(IMAGES, 3, tmp_path, SETTINGS)[0],
    }
    assert len({first.path, *(shard.path for shard in others.values())}) == 4


def test_a_line_for_each_image(tmp_path):
    shards = divide(IMAGES, 4, tmp_path, SETTINGS)
    for shard in shards:
        written = write(shard, predict)
        assert count(shard)[0] == written
    assert written == Count(2, 8 + 9, 0)
    lines = [json.loads(x) for shard in shards for x in shard.path.read_text().splitlines()]
    assert [line["image_id"] for line in lines] == list(range(10))
    assert lines[7] == {"image_id": 7, "file_name": "7.jpg", "persons": [], "error": "damaged"}
    assert lines[2].keys() == {"image_id", "file_name", "persons"}
    assert Counter(p["image_id"] for line in lines for p in line["persons"])[9] == 9
    assert count(shards[1]) == (Count(4, 4 + 5 + 6, 1), ["damaged"])


def test_a_shard_appears_whole_and_replaces_itself(tmp_path):
    (shard,) = divide(IMAGES, 10, tmp_path, SETTINGS)

    def lost(images):
        yield from list(predict(images))[:5]
        assert not shard.path.exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(shard, lost)
    assert not shard.path.exists()
    assert len(list(tmp_path.iterdir())) == 1  # what was begun
    write(shard, predict)
    before = shard.path.read_bytes()
    write(shard, predict)
    assert shard.path.read_bytes() == before
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == [shard.path]


def test_what_else_lies_there_is_not_mixed_in(tmp_path):
    write(divide(IMAGES, 10, tmp_path, SETTINGS)[0], predict)
    with pytest.raises(ValueError, match=rf"{tmp_path} \(from out\) holds 1 shards of other set"):
        divide(IMAGES, 10, tmp_path, {**SETTINGS, "flip": False})
    assert len(divide(IMAGES, 10, tmp_path, SETTINGS)) == 1


@pytest.mark.parametrize("size", [0, -3])
def test_a_shard_needs_images(tmp_path, size):
    with pytest.raises(ValueError, match=f"shard must be a number of images >= 1, got {size}"):
        divide(IMAGES, size, tmp_path, SETTINGS)
