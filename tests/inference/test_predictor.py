from dataclasses import replace

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image, ImageColor
from torch import nn

from kdpose.checkpoints.load import Loaded
from kdpose.codecs.simcc import SimCC
from kdpose.display.drawing import PERSON_COLORS
from kdpose.inference.predictor import Predictor, load, open_image
from kdpose.skeletons.known import CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton
from kdpose.types import Pose

LIGHTS = Skeleton("lights", ("red", "green", "blue"), ((0, 1), (1, 2)), (0.1,) * 3)


class BrightestPixel(nn.Module):
    """A net that can be wrong in nothing: joint k is where channel k is brightest."""

    codec = SimCC((48, 64))
    skeleton = LIGHTS

    def __init__(self):
        super().__init__()
        self.sizes, self.flips = [], []

    def pose(self, image, flip=False):
        assert image.dtype == torch.uint8
        self.sizes.append(len(image))
        self.flips.append(flip)
        value, place = image.float().flatten(2).max(-1)
        width = image.shape[-1]
        return Pose(torch.stack([place % width, place // width], -1).float(), value / 255)


def make(**options):
    return Predictor(Loaded(BrightestPixel(), {"experiment": "test"}), "cpu", **options)


def picture(persons, size=(240, 200)):
    """One smooth spot of each colour per person, ``(P, 3, 2)``, on black."""
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    pixels = np.zeros((size[1], size[0], 3))
    for spots in persons:
        for channel, (x, y) in enumerate(spots):
            pixels[..., channel] += 250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18)
    return pixels.clip(0, 255).astype(np.uint8)


TWO = np.array([[[30, 40], [50, 90], [70, 60]], [[140, 60], [200, 150], [170, 100]]], float)
BOXES = [[20, 30, 60, 70], [130, 50, 80, 110]]


@pytest.mark.parametrize("kind", ["array", "pillow", "path"])
def test_joints_come_back_in_image_pixels(tmp_path, kind):
    pixels = picture(TWO)
    Image.fromarray(pixels).save(tmp_path / "lights.png")
    image = {
        "array": pixels,
        "pillow": Image.fromarray(pixels),
        "path": tmp_path / "lights.png",
    }[kind]
    poses = make()(image, BOXES, [0.9, 0.5])
    assert len(poses) == 2
    # a crop pixel is 90 / 48 and 103 / 48 image pixels wide
    assert np.abs(poses.keypoints - TWO).max() < 1.6
    assert (poses.scores > 0.8).all()
    assert poses.boxes.tolist() == BOXES
    np.testing.assert_allclose(poses.box_scores, [0.9, 0.5])
    np.testing.assert_array_equal(poses.image, pixels)
    for values in (poses.keypoints, poses.scores, poses.boxes, poses.box_scores):
        assert values.dtype == np.float32


def test_without_boxes_the_whole_image_is_one_person():
    poses = make()(picture(TWO[1:]))
    assert poses.boxes.tolist() == [[0, 0, 240, 200]]
    assert poses.box_scores.tolist() == [1]
    assert np.abs(poses.keypoints - TWO[1:]).max() < 4


def test_batches_and_flip():
    image, boxes = picture(TWO), BOXES * 3 + BOXES[:1]
    small, large = make(batch_size=3, flip=True), make()
    a, b = small(image, boxes), large(image, boxes)
    assert small.net.sizes == [3, 3, 1]
    assert small.net.flips == [True] * 3
    assert (large.net.sizes, large.net.flips) == ([7], [False])
    np.testing.assert_array_equal(a.keypoints, b.keypoints)
    np.testing.assert_array_equal(a.keypoints[::2], np.repeat(a.keypoints[:1], 4, 0))


def test_nobody():
    poses = make()(picture(TWO), np.zeros((0, 4)))
    assert (len(poses), poses.keypoints.shape, poses.scores.shape) == (0, (0, 3, 2), (0, 3))
    assert poses.to_coco(1) == []
    np.testing.assert_array_equal(poses.draw(), picture(TWO))


@pytest.mark.parametrize("wrong", [[[10, 10, 0, 5]], [[10, 10, 20, 20], [10, 10, 5, -1]]])
def test_boxes_need_an_area(wrong):
    with pytest.raises(ValueError, match="boxes must be x, y, width, height with an area, got"):
        make()(picture(TWO), wrong)


def test_one_score_per_box():
    with pytest.raises(ValueError, match=r"box_scores must be one per box, \(2,\), got \(1,\)"):
        make()(picture(TWO), BOXES, [0.5])


def test_several_images_share_batches():
    images = [picture(TWO), picture(TWO[1:]), picture(TWO)]
    boxes = [BOXES, np.zeros((0, 4)), BOXES[1:]]
    predictor = make(batch_size=2)
    found = predictor(images, boxes, [[0.9, 0.5], [], None])
    assert predictor.net.sizes == [2, 1]
    assert [len(poses) for poses in found] == [2, 0, 1]
    for poses, image, where in zip(found, images, boxes, strict=True):
        np.testing.assert_array_equal(poses.keypoints, make()(image, where).keypoints)
        np.testing.assert_array_equal(poses.image, image)
    np.testing.assert_allclose(found[0].box_scores, [0.9, 0.5])
    assert [poses.boxes.tolist() for poses in make()(images)] == [[[0, 0, 240, 200]]] * 3
    with pytest.raises(ValueError, match=r"3 images need as many lists of boxes .* got 1 and 3"):
        make()(images, BOXES[:1])
    assert make()([]) == []


def test_crops_are_what_lies_in_the_boxes():
    pixels = picture(TWO)
    boxes = [[20, 30, 60, 70], [-10, 190, 40, 50], [300, 10, 20, 20]]
    first, corner, outside = make()(pixels, boxes).crops()
    np.testing.assert_array_equal(first, pixels[30:100, 20:80])
    np.testing.assert_array_equal(corner, pixels[190:, :30])
    assert outside.size == 0


def test_boxes_are_drawn_in_the_persons_colours():
    pixels = np.zeros((100, 120, 3), np.uint8)
    drawn = make()(pixels, [[10, 20, 50, 60], [-20, 5, 400, 30]]).draw(threshold=2, boxes=True)
    colors = [ImageColor.getrgb(color) for color in PERSON_COLORS[:2]]
    assert tuple(drawn[20, 40]) == colors[0]
    assert tuple(drawn[5, 100]) == colors[1]
    assert tuple(drawn[20, 119]) == colors[1]  # a box that leaves the image ends at its edge


def test_supervision_takes_the_poses():
    supervision = pytest.importorskip("supervision", reason="kdpose[video] is not installed")
    poses = make()(picture(TWO), BOXES, [0.9, 0.5])
    found = poses.to_supervision()
    np.testing.assert_array_equal(found.xy, poses.keypoints)
    np.testing.assert_array_equal(found.keypoint_confidence, poses.scores)
    np.testing.assert_allclose(found.detection_confidence, [0.9, 0.5])
    annotator = supervision.VertexAnnotator(color=supervision.Color(255, 0, 255), radius=2)
    drawn = annotator.annotate(picture(TWO), found)
    x, y = poses.keypoints[0, 0].round().astype(int)
    assert drawn[y, x].tolist() == [255, 0, 255]
    assert len(make()(picture(TWO), np.zeros((0, 4))).to_supervision()) == 0


def test_coco_results():
    poses = make()(picture(TWO), BOXES, [0.9, 0.5])
    first, second = poses.to_coco(17)
    assert (first["image_id"], first["category_id"]) == (17, 1)
    assert second["bbox"] == BOXES[1]
    triplets = np.array(second["keypoints"]).reshape(3, 3)
    np.testing.assert_allclose(triplets[:, :2], poses.keypoints[1], atol=1e-3)
    np.testing.assert_allclose(triplets[:, 2], poses.scores[1], atol=1e-3)
    assert second["score"] == pytest.approx(0.5 * poses.scores[1].mean(), abs=1e-5)


def test_drawing_marks_the_joints_and_spares_the_picture():
    pixels = picture(TWO)
    poses = make()(pixels, BOXES)
    drawn = poses.draw()
    assert drawn.shape == pixels.shape
    assert drawn.dtype == np.uint8
    changed = (drawn != pixels).any(-1)
    for x, y in poses.keypoints.reshape(-1, 2).round().astype(int):
        assert changed[y, x]
    np.testing.assert_array_equal(poses.image, pixels)
    np.testing.assert_array_equal(poses.draw(threshold=1.1), pixels)


def test_weak_persons_are_not_drawn():
    """A person whose mean score is below the threshold is left out whole."""
    pixels = picture(TWO)
    poses = make()(pixels, BOXES)
    scores = np.stack([np.full(3, 0.6), [0.9, 0.0, 0.0]]).astype(np.float32)
    poses = replace(poses, scores=scores, least_score=0.5)
    alone = replace(poses, keypoints=poses.keypoints[:1], scores=scores[:1])
    np.testing.assert_array_equal(poses.draw(), alone.draw())
    assert (poses.draw(threshold=0.2) != alone.draw()).any()


def test_joints_beyond_the_border_are_drawn_on_it():
    """The results keep what the network says."""
    pixels = picture(TWO)
    poses = make()(pixels, BOXES)
    outside = replace(poses, keypoints=poses.keypoints - np.float32([0, 1000]))
    drawn = (outside.draw() != pixels).any(-1)
    assert drawn[0].any()
    assert not drawn[pixels.shape[0] // 2 :].any()
    assert outside.to_coco(1)[0]["keypoints"][1] < 0


def test_calibrated_scores_have_a_threshold_by_default():
    predictor = make()
    assert predictor(picture(TWO), BOXES).least_score == 0
    predictor.net.calibration = (1.0, 0.0)
    again = Predictor(Loaded(predictor.net, {}), "cpu")
    assert again(picture(TWO), BOXES).least_score == 0.3


def test_pictures_are_seen_as_a_person_sees_them(tmp_path):
    pixels = picture(TWO, (240, 160))
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright: turned by a quarter when shown
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    expected = np.rot90(pixels, -1)
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "turned.png")), expected)
    with Image.open(tmp_path / "turned.png") as opened:
        np.testing.assert_array_equal(np.asarray(open_image(opened)), expected)
    grey = Image.fromarray(pixels).convert("L")
    assert open_image(grey).mode == "RGB"
    assert open_image(np.asarray(grey)).size == (240, 160)


def test_files_that_are_no_pictures(tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(OSError, match=r"a\.jpg"):
        make()(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError, match=r"b\.jpg"):
        make()(str(tmp_path / "b.jpg"))


def test_a_checkpoint_is_all_it_takes(tmp_path, tiny_student):
    torch.manual_seed(0)
    net = instantiate(tiny_student, _convert_="all").eval()
    nn.init.normal_(net.head.final_layer.weight)
    weights = {f"net.{name}": value for name, value in net.state_dict().items()}
    described = {"net": tiny_student, "dataset": {}, "experiment": "tiny", "versions": {}}
    torch.save({"kdpose": described, "state_dict": weights}, tmp_path / "tiny.ckpt")
    predictor = load(tmp_path / "tiny.ckpt", "cpu")
    assert predictor.skeleton == CROWDPOSE
    assert predictor.description["experiment"] == "tiny"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    poses = predictor(pixels, [[4.8, 6.4, 38.4, 51.2]])  # padded by 1.25: the picture itself
    with torch.no_grad():
        expected = net.pose(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    np.testing.assert_allclose(poses.keypoints, expected.joints, atol=1e-4)
    np.testing.assert_allclose(poses.scores, expected.scores, atol=1e-5)


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no checkpoint at {tmp_path}/none.ckpt"):
        load(tmp_path / "none.ckpt")


def test_stage_1_needs_a_refined_net(tiny_checkpoints):
    refined, student = (load(tiny_checkpoints[name], "cpu") for name in ("refined", "student"))
    pixels = picture(TWO)
    before = refined.stage1()(pixels, BOXES)
    assert np.abs(before.keypoints - refined(pixels, BOXES).keypoints).max() > 1
    with torch.no_grad():
        assert type(refined.stage1().net) is type(student.net)
    with pytest.raises(ValueError, match="no refiner to compare stage 1 with"):
        student.stage1()


def test_a_stream_answers_in_order_in_full_batches():
    asked = []

    def images():
        for number in range(9):
            asked.append(number)
            yield number, picture(TWO), BOXES[: (2, 1, 0)[number % 3]], None

    predictor = make(batch_size=4)
    waited = [(tag, len(poses), len(asked)) for tag, poses in predictor.stream(images())]
    assert [(tag, count) for tag, count, _ in waited] == [(n, (2, 1, 0)[n % 3]) for n in range(9)]
    assert predictor.net.sizes == [4, 4, 1]
    assert waited[0][2] == 4  # the first batch is full when the fourth image has come


def test_a_stream_holds_few_pixels():
    large = np.zeros((10_000, 10_000, 3), np.uint8)
    images = iter([(0, large, BOXES[:1], None), (1, picture(TWO), BOXES[:1], None)])
    assert next(make(batch_size=50).stream(images))[0] == 0
    assert next(images)[0] == 1  # 300 MB do not wait
