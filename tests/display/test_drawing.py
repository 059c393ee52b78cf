import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from kdpose.display.drawing import (
    PERSON_COLORS,
    _shades,
    draw_poses,
    labelled,
    pose_grid,
    save_jpeg,
)
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton

PAIR = Skeleton("pair", ("a", "b", "c"), ((0, 1),), (0.1,) * 3)


def rgb(index):
    return torch.tensor(ImageColor.getrgb(PERSON_COLORS[index]), dtype=torch.uint8)


def has(image, color):
    return (image == color[:, None, None]).all(0)


def test_joints_and_limbs_in_each_persons_colour():
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    joints = torch.tensor([[[10, 10], [50, 10], [10, 40]], [[20, 50], [70, 50], [70, 30]]]).float()
    drawn = draw_poses(image, joints, torch.ones(2, 3), PAIR)
    assert drawn.dtype == torch.uint8
    assert drawn.shape == image.shape
    for person in (0, 1):
        mine = has(drawn, rgb(person))
        for x, y in joints[person].int().tolist():
            assert mine[y, x]
        y = int(joints[person, 0, 1])
        assert mine[y, 20:51].all()  # the limb
        assert mine.sum() < 200
    assert set(map(tuple, drawn.flatten(1).T.tolist())) == {
        (0, 0, 0), tuple(rgb(0).tolist()), tuple(rgb(1).tolist()),
    }  # fmt: skip
    assert not image.any()


def test_left_is_lighter_and_right_darker():
    """By hand: half way to white, six tenths of each channel; the middle has the colour itself."""
    names = ("nose", "left_ear", "right_ear", "left_eye", "right_eye")
    face = Skeleton("face", names, ((1, 3), (2, 4), (0, 1)), (0.1,) * 5)
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    pose = torch.tensor([[[40.0, 50], [10, 10], [10, 30], [70, 10], [70, 30]]])
    drawn = draw_poses(image, pose, torch.ones(1, 5), face, colors=["#ff6400"])
    assert drawn[:, 10, 40].tolist() == [255, 178, 128]
    assert drawn[:, 30, 40].tolist() == [153, 60, 0]
    assert drawn[:, 50, 40].tolist() == [255, 100, 0]


def test_weak_joints_and_their_limbs_are_left_out():
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    joints = torch.tensor([[[10, 10], [50, 10], [10, 40]]]).float()
    drawn = has(draw_poses(image, joints, torch.tensor([[0.5, 0.2, 0.3]]), PAIR, 0.3), rgb(0))
    assert drawn[10, 10]
    assert drawn[40, 10]
    assert not drawn[:, 20:].any()


def limb_and_joint(image, pose):
    """How many rows the limb's middle has, and the columns of its left joint."""
    drawn = has(draw_poses(image, torch.tensor([pose]).float(), torch.ones(1, 3), PAIR), rgb(0))
    (x1, y), (x2, _), _ = pose
    return int(drawn[:, (x1 + x2) // 2].sum()), int(drawn[y, :x1].sum())


def test_lines_are_as_thick_as_the_person_is_large():
    image = torch.zeros(3, 800, 1000, dtype=torch.uint8)
    large = [[300, 400], [750, 400], [300, 420]]  # spans 450 pixels
    small = [[100, 100], [145, 100], [100, 110]]  # spans 45
    assert limb_and_joint(image, large) == (5, 6)
    assert limb_and_joint(image, small) == (1, 1)
    both = torch.tensor([large, small]).float()
    drawn = draw_poses(image, both, torch.ones(2, 3), PAIR)
    assert has(drawn, rgb(0))[:, 525].sum() == 5
    assert has(drawn, rgb(1))[:, 122].sum() == 1


def test_a_joint_far_outside_makes_no_thick_line():
    image = torch.zeros(3, 90, 90, dtype=torch.uint8)
    limb, _ = limb_and_joint(image, [[10, 40], [60, 40], [40, 90_000]])
    assert limb == 1


def test_nobody_gives_a_copy():
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    drawn = draw_poses(image, torch.zeros(0, 3, 2), torch.zeros(0, 3), PAIR)
    assert torch.equal(drawn, image)
    drawn += 1
    assert not image.any()


def test_more_persons_than_colours_and_joints_far_outside():
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    count = len(PERSON_COLORS) + 1
    joints = torch.full((count, 3, 2), -500.0)
    joints[-1] = 30.0
    drawn = draw_poses(image, joints, torch.ones(count, 3), PAIR)
    assert has(drawn, rgb(0))[30, 30]


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=["coco", "crowdpose"])
@pytest.mark.parametrize("count", [1, 3])
def test_grid(skeleton, count):
    crops = torch.zeros(count, 3, 64, 48, dtype=torch.uint8)
    poses = [torch.full((count, len(skeleton), 2), v) for v in (10.0, 30.0)]
    grid = pose_grid(crops, poses, skeleton, columns=2)
    columns, rows = min(count, 2), -(-count // 2)
    frame = 0 if count == 1 else 4  # torchvision hands a single picture on as it is
    assert grid.shape == (3, rows * (256 + frame) + frame, columns * (192 + frame) + frame)
    for index in range(count):
        top, left = index // 2 * (256 + frame) + frame, index % 2 * (192 + frame) + frame
        for pose, at in ((0, 40), (1, 120)):  # crops are enlarged four times
            tints = _shades(PERSON_COLORS[pose])
            assert tuple(grid[:, top + at, left + at].tolist()) in tints
    assert np.prod(grid.shape) > 0


def test_a_label_stands_above_the_untouched_picture():
    picture = torch.randint(0, 255, (3, 30, 90), dtype=torch.uint8)
    drawn = labelled(picture, "stage1", height=20)
    assert drawn.shape == (3, 50, 90)
    assert torch.equal(drawn[:, 20:], picture)
    assert (drawn[:, :20] < 128).any()
    assert not torch.equal(drawn[:, :20], labelled(picture, "stage2", height=20)[:, :20])


def test_a_picture_is_written_or_the_error_names_its_file(tmp_path):
    picture = torch.zeros(3, 16, 24, dtype=torch.uint8)
    save_jpeg(picture, tmp_path / "a.jpg", quality=90)
    with Image.open(tmp_path / "a.jpg") as read:
        assert (read.format, read.size) == ("JPEG", (24, 16))
    with pytest.raises(FileNotFoundError, match=r"none/a\.jpg"):
        save_jpeg(picture, tmp_path / "none" / "a.jpg", quality=90)
