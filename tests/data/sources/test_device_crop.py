import math

import numpy as np
import pytest
import torch

from kdpose.data.annotations import load_persons
from kdpose.data.dataset import PoseDataset, collate
from kdpose.data.sources.device_crop import SourceDataset, cut, pack_sources, warp_sources
from kdpose.data.transforms import Augmentation, CropPlan, inverse_affine, warp
from kdpose.skeletons.known import COCO, CROWDPOSE

SIZE, LARGE = (48, 64), (96, 128)


def interpolated(pixels, inverse, size):
    """Each crop pixel by the definition, in double precision, unrounded."""
    crop = np.zeros((size[1], size[0], 3))
    for v in range(size[1]):
        for u in range(size[0]):
            x, y = inverse @ [u, v, 1]
            for i in (math.floor(x), math.floor(x) + 1):
                for j in (math.floor(y), math.floor(y) + 1):
                    if 0 <= i < pixels.shape[1] and 0 <= j < pixels.shape[0]:
                        crop[v, u] += (1 - abs(x - i)) * (1 - abs(y - j)) * pixels[j, i]
    return crop


def some_sources(count=5):
    rng = np.random.default_rng(0)
    shapes = rng.integers(20, 60, (count, 2))
    images = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    centers = (shapes[:, ::-1] / 2).astype(np.float32)
    sizes = rng.uniform(15, 70, (count, 1)) * [1, 4 / 3]
    plan = CropPlan(centers, sizes, rng.uniform(-90, 90, count), rng.random(count) < 0.5)
    return images, plan.matrix(SIZE)


def test_crops_are_the_definitions():
    images, matrix = some_sources()
    inverse = inverse_affine(matrix)
    crops = warp_sources(pack_sources(images), torch.from_numpy(inverse), SIZE)
    assert crops.shape == (5, 3, 64, 48)
    assert crops.dtype == torch.uint8
    for image, one, crop in zip(images, inverse, crops, strict=True):
        expected = interpolated(image.astype(float), one, SIZE).transpose(2, 0, 1)
        # noise of 255 a pixel: 0.02 of a grey value beyond rounding is 1e-4 pixel
        assert np.abs(crop.numpy() - expected).max() <= 0.52


def test_crops_are_the_hosts():
    images, matrix = some_sources()
    crops = warp_sources(pack_sources(images), torch.from_numpy(inverse_affine(matrix)), SIZE)
    for image, one, crop in zip(images, matrix, crops, strict=True):
        host = warp(image, one, SIZE).transpose(2, 0, 1)
        error = crop.numpy().astype(int) - host
        assert np.abs(error).mean() < 1  # on noise; the host counts in steps of 1/32 pixel
        assert abs(error.mean()) < 0.1


def test_whole_and_mirrored_images():
    image = np.random.default_rng(1).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    center, size = np.array([24, 32]), np.array([48, 64])
    same = CropPlan(center, size).matrix(SIZE)
    mirror = CropPlan(center - (1, 0), size, flip=True).matrix(SIZE)
    inverse = torch.from_numpy(inverse_affine(np.stack([same, mirror])))
    crops = warp_sources(pack_sources([image, image]), inverse, SIZE).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(crops[0], image)
    np.testing.assert_array_equal(crops[1], image[:, ::-1])


def both(data, indices):
    return collate(data.__getitems__(indices)), cut(SourceDataset(data).__getitems__(indices), data)


def assert_same_batch(host, device, mean):
    for field in host._fields[1:8]:
        assert torch.equal(getattr(host, field), getattr(device, field))
    for a, b in ((host.image, device.image), (host.teacher_image, device.teacher_image)):
        if a is None:
            assert b is None
            continue
        assert a.shape == b.shape
        assert (a.int() - b.int()).abs().float().mean() < mean


@pytest.mark.parametrize("teacher_size", [None, LARGE])
def test_batches_are_the_hosts(crowd, teacher_size):
    persons = load_persons(crowd / "annotations" / "crowdpose_trainval.json", CROWDPOSE)
    data = PoseDataset(
        persons, crowd / "images", CROWDPOSE, SIZE, teacher_size, Augmentation(), seed=4
    )
    host, device = both(data, [(3, row) for row in range(len(data))])
    assert_same_batch(host, device, mean=1)


def test_only_what_is_shown_is_handed_over(crowd):
    persons = load_persons(crowd / "annotations" / "crowdpose_trainval.json", CROWDPOSE)
    data = PoseDataset(persons, crowd / "images", CROWDPOSE, SIZE)
    batch = SourceDataset(data).__getitems__(range(len(data)))
    regions = collate(data.__getitems__(range(len(data)))).size
    extent = batch.sources.extent
    assert (extent <= regions + 4).all()
    assert (extent[:, 0] < 160).any()  # the images' width
    assert len(batch.sources.pixels) == extent.prod(1).sum()


def test_a_person_beside_the_image_is_black(crowd):
    persons = load_persons(crowd / "annotations" / "crowdpose_trainval.json", CROWDPOSE)
    persons.box[0] = 1000, 1000, 20, 30
    data = PoseDataset(persons, crowd / "images", CROWDPOSE, SIZE)
    host, device = both(data, [0])
    assert not host.image.any()
    assert not device.image.any()


def test_real_photographs(real_data):
    root = real_data / "coco_mini"
    persons = load_persons(root / "annotations" / "person_keypoints_train2017.json", COCO)
    data = PoseDataset(persons, root / "train2017", COCO, SIZE, LARGE, Augmentation())
    assert_same_batch(*both(data, [(1, row) for row in range(0, 86, 3)]), mean=1)
