import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from kdpose.data.annotations import Persons, concatenate, load_persons
from kdpose.data.dataset import PoseDataset, check_images, collate
from kdpose.data.sources.device_crop import SourceDataset, cut
from kdpose.data.sources.images import ImageFiles
from kdpose.data.transforms import Augmentation
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.types import PoseBatch

SIZE = (96, 128)
BOTH = pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=["coco", "crowdpose"])


def joint_colors(count):
    """A colour per joint, none alike: the joint's number is written in three digits of base 3."""
    digits = [[(k // 9) % 3, (k // 3) % 3, k % 3] for k in range(1, count + 1)]
    return 55 + 100 * np.array(digits, dtype=np.uint8)


def paint(folder, skeleton, size=(200, 160), name="dots.png"):
    """One picture in which every joint is a disc of its own colour, and its annotation."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    cells = rng.permutation(20)[: len(skeleton)]
    joints = np.stack([60 + 18 * (cells % 5), 40 + 22 * (cells // 5)], -1) + rng.uniform(-1, 1)
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for (x, y), color in zip(joints, joint_colors(len(skeleton)), strict=True):
        pixels[(columns - x) ** 2 + (rows - y) ** 2 < 36] = color
    Image.fromarray(pixels).save(folder / name)
    joints = joints.astype(np.float32)[None]
    return Persons(
        files=np.array([name]),
        image_id=np.array([42]),
        image_size=np.array([size], dtype=np.float32),
        box=np.array([[52, 32, 90, 84]], dtype=np.float32),
        box_score=np.array([0.5], dtype=np.float32),
        joints=joints,
        visible=np.full((1, len(skeleton)), 2, np.float32),
    )


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a[:8], b[:8], strict=True))


@BOTH
def test_item(tmp_path, skeleton):
    item = PoseDataset(paint(tmp_path, skeleton), tmp_path, skeleton, SIZE)[0]
    k = len(skeleton)
    shapes = [(3, 128, 96), (k, 2), (k,), (2,), (2,), (), (), ()]
    assert [tuple(field.shape) for field in item[:8]] == shapes
    kinds = [torch.uint8, *[torch.float32] * 4, torch.int64, torch.int64, torch.float32]
    assert [field.dtype for field in item[:8]] == kinds
    assert (item.image_id, item.person, item.box_score) == (42, 0, 0.5)
    assert item.teacher_image is None
    assert item.center.tolist() == [97, 74]
    assert item.size.tolist() == [112.5, 150]  # 90 x 84 is wider than 3:4


def found(item, colors):
    """Share of the joints inside the crop that lie on a pixel of their colour."""
    hits = [
        np.abs(item.image[:, round(y), round(x)].numpy() - color).max() <= 2
        for (x, y), color in zip(item.joints.tolist(), colors.astype(int), strict=True)
        if 1 < x < SIZE[0] - 2 and 1 < y < SIZE[1] - 2
    ]
    assert len(hits) > 3
    return np.mean(hits)


@BOTH
@pytest.mark.parametrize("flip", [None, 0, 1])
def test_joints_lie_on_the_pixels_they_were_on(tmp_path, skeleton, flip):
    augmentation = None if flip is None else Augmentation(flip_probability=flip)
    data = PoseDataset(
        paint(tmp_path, skeleton), tmp_path, skeleton, SIZE, augmentation=augmentation
    )
    colors = joint_colors(len(skeleton))
    swapped = colors[list(skeleton.flip_order)]  # a mirrored left wrist is a right wrist
    for epoch in range(12):
        item = data[epoch, 0]
        assert found(item, swapped if flip else colors) == 1
        assert found(item, colors if flip else swapped) < 0.5


def test_augmentation_depends_on_seed_epoch_and_row_alone(tmp_path):
    persons = paint(tmp_path, COCO)
    persons = concatenate(persons, persons)

    def data(seed):
        return PoseDataset(persons, tmp_path, COCO, SIZE, augmentation=Augmentation(), seed=seed)

    first, again = data(1), data(1)
    view = first[3, 0]
    _ = again[0, 1], again[2, 0]  # what was drawn before does not matter
    assert same(view, again[3, 0])
    for other in (first[4, 0], first[3, 1], data(2)[3, 0]):
        assert not torch.equal(view.image, other.image)
    assert same(first[0], first[0, 0])


def test_without_augmentation_all_epochs_are_alike(tmp_path):
    data = PoseDataset(paint(tmp_path, COCO), tmp_path, COCO, SIZE)
    assert same(data[0, 0], data[7, 0])


def test_the_teachers_crop_shows_the_same_view(tmp_path):
    data = PoseDataset(
        paint(tmp_path, COCO), tmp_path, COCO, SIZE, (192, 256), augmentation=Augmentation()
    )
    item = data[5, 0]
    assert item.teacher_image.shape == (3, 256, 192)
    larger = item.teacher_image[:, ::2, ::2].int()  # pixel centre (i, j) of one is (2 i, 2 j)
    assert ((larger - item.image.int()).abs().amax(0) > 2).float().mean() < 0.01
    alone = PoseDataset(
        paint(tmp_path, COCO), tmp_path, COCO, SIZE, SIZE, augmentation=Augmentation()
    )
    assert alone[5, 0].teacher_image is None
    assert same(item, alone[5, 0])


def test_unlabelled_joints_keep_their_mark(tmp_path):
    persons = paint(tmp_path, COCO)
    persons.visible[0, [5, 9]] = 0, 1
    always = Augmentation(flip_probability=1)
    data = PoseDataset(persons, tmp_path, COCO, SIZE, augmentation=always)
    visible = data[0].visible
    assert (visible[6], visible[10]) == (0, 1)  # mirrored, the right shoulder and wrist
    assert (visible[[5, 9]] == 2).all()


def test_changing_an_item_leaves_the_annotations_alone(tmp_path):
    persons = paint(tmp_path, COCO)
    data = PoseDataset(persons, tmp_path, COCO, SIZE)
    item = data[0]
    for field in item[:8]:
        field.zero_()
    again = data[0]
    assert (again.visible == 2).all()
    assert again.center.tolist() == [97, 74]
    assert (again.box_score, again.image_id) == (0.5, 42)
    assert (again.joints != 0).all()


def test_grey_pictures_and_exif(tmp_path):
    persons = paint(tmp_path, COCO)
    with Image.open(tmp_path / "dots.png") as picture:
        grey, turned = picture.convert("L"), picture.copy()
    before = PoseDataset(persons, tmp_path, COCO, SIZE)[0].image
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me": the annotations speak of the pixels as they are stored
    turned.save(tmp_path / "dots.png", exif=exif)
    assert torch.equal(PoseDataset(persons, tmp_path, COCO, SIZE)[0].image, before)
    grey.save(tmp_path / "dots.png")
    image = PoseDataset(persons, tmp_path, COCO, SIZE)[0].image
    assert image.shape == (3, 128, 96)
    assert torch.equal(image[0], image[2])


def test_unreadable_picture(tmp_path, caplog):
    """It teaches nothing and is scored last, and the others of its batch are what they were."""
    persons = paint(tmp_path, COCO)
    whole = PoseDataset(persons, tmp_path, COCO, SIZE)[0]
    two = concatenate(persons[:1], dataclasses.replace(persons[:1], files=np.array(["bad.png"])))
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    for data in (
        PoseDataset(two, tmp_path, COCO, SIZE),
        SourceDataset(PoseDataset(two, tmp_path, COCO, SIZE)),
    ):
        found = data.__getitems__([0, 1])
        batch = found if isinstance(data, PoseDataset) else cut(found, data.dataset)
        assert torch.equal(batch.visible[0], whole.visible)
        assert not batch.visible[1].any()
        assert batch.box_score.tolist() == [whole.box_score, 0]
        assert batch.image[0].any()
        assert not batch.image[1].any()
    assert f"skipped: cannot read the image {tmp_path}/bad.png" in caplog.text
    assert len(caplog.records) == 1


def test_missing_images_are_counted(tmp_path):
    persons = paint(tmp_path, COCO)
    check_images(persons, tmp_path, "dataset.val.images")
    (tmp_path / "dots.png").unlink()
    match = rf"1 of 1 images are missing in {tmp_path} \(from dataset.val.images\), .*dots.png"
    with pytest.raises(FileNotFoundError, match=match):
        check_images(persons, tmp_path, "dataset.val.images")
    match = rf"no image folder at {tmp_path}/none \(from dataset.val.images\); set dataset.root"
    with pytest.raises(FileNotFoundError, match=match):
        check_images(persons, tmp_path / "none", "dataset.val.images")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("teacher_size", [None, (48, 64)])
def test_collate(tmp_path, count, teacher_size):
    data = PoseDataset(paint(tmp_path, COCO), tmp_path, COCO, SIZE, teacher_size)
    batch = collate([data[0]] * count)
    assert isinstance(batch, PoseBatch)
    assert all(len(field) == count for field in batch[:8])
    assert torch.equal(batch.joints[-1], data[0].joints)
    if teacher_size is None:
        assert batch.teacher_image is None
    else:
        assert batch.teacher_image.shape == (count, 3, 64, 48)


def test_an_index_is_a_few_arrays(tmp_path):
    """What workers share without copies: no Python object a person, and less than 350 bytes."""
    count = 3000
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": 64, "height": 48} for i in range(9)]
    people = [
        {"image_id": i % 9, "bbox": [1, 2, 30, 40], "keypoints": [5, 6, 2] * 17, "area": 9}
        for i in range(count)
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": images, "annotations": people}))
    tracemalloc.start()
    persons = load_persons(path, COCO)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    arrays = [getattr(persons, field.name) for field in dataclasses.fields(persons)]
    assert len(persons) == count
    arrays = [array for array in arrays if array is not None]
    assert not any(array.dtype.hasobject for array in arrays)
    assert sum(array.nbytes for array in arrays) < 350 * count
    assert most < 700 * count  # while reading; a million stay well under a gigabyte


def test_coco_mini(real_data):
    root = real_data / "coco_mini"
    persons = load_persons(root / "annotations" / "person_keypoints_val2017.json", COCO)
    check_images(persons, root / "val2017", "dataset.val.images")
    data = PoseDataset(persons, root / "val2017", COCO, SIZE)
    assert len(data) == 68
    items = [data[row] for row in range(0, 68, 8)]
    for item in items:
        labelled = item.joints[item.visible > 0]
        assert (labelled > -1).all()  # the padded box holds its person
        assert (labelled < torch.tensor(SIZE)).all()
        assert item.image.float().std() > 5


class Whole(ImageFiles):
    """Images that are always decoded to their last row."""

    def read(self, row, height=None):
        return super().read(row)


def test_rows_below_a_crop_are_not_missed(real_data):
    root = real_data / "coco_mini"
    persons = load_persons(root / "annotations" / "person_keypoints_val2017.json", COCO)
    rows = [(1, row) for row in range(0, 68, 3)]
    files, whole = (
        PoseDataset(persons, pixels, COCO, SIZE, (48, 64), Augmentation())
        for pixels in (root / "val2017", Whole(persons.files, root / "val2017"))
    )
    a, b = files.__getitems__(rows), whole.__getitems__(rows)
    assert same(a, b)
    assert torch.equal(a.teacher_image, b.teacher_image)
    a, b = (SourceDataset(data).__getitems__(rows).sources for data in (files, whole))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_crowdposes_two_pictures(real_data):
    root = real_data / "crowdpose"
    persons = load_persons(root / "annotations" / "test_crowdpose.json", CROWDPOSE)
    check_images(persons, root / "images", "dataset.val.images")
    data = PoseDataset(persons, root / "images", CROWDPOSE, SIZE, augmentation=Augmentation())
    assert len(set(persons.image_id.tolist())) == 2
    for row in range(len(data)):
        item = data[1, row]
        assert item.joints.shape == (14, 2)
        assert item.joints.isfinite().all()
