import dataclasses
import json
import pickle
import shutil

import numpy as np
import pytest
import torch

from kdpose.data.annotations import load_persons
from kdpose.data.dataset import PoseDataset, collate
from kdpose.data.sources.device_crop import RowBatch, SourceDataset, cut
from kdpose.data.sources.packed import Pack, default_folder, reach
from kdpose.data.sources.packing import write_pack
from kdpose.data.sources.resident import Resident, RowDataset
from kdpose.data.transforms import Augmentation, CropPlan, augmented, box_region, draw
from kdpose.runtime.provenance import sha256
from kdpose.skeletons.known import COCO, CROWDPOSE

SIZE = (48, 64)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def annotations(crowd):
    return crowd / "annotations" / "crowdpose_trainval.json"


@pytest.fixture(scope="module")
def persons(annotations):
    return load_persons(annotations, CROWDPOSE)


@pytest.fixture(scope="module")
def packs(crowd, persons, annotations, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    about = {"annotations": str(annotations), "annotations_sha256": sha256(annotations)}
    return {
        name: write_pack(
            folder / name,
            persons,
            crowd / "images",
            CROWDPOSE,
            size,
            Augmentation(),
            encoding=encoding,
            about=about,
        )
        for name, encoding, size in (
            ("raw", "raw", (480, 640)),
            ("jpeg", "jpeg", (480, 640)),
            ("reduced", "raw", (24, 32)),
        )
    }


def batch(persons, pixels, size=SIZE):
    data = PoseDataset(persons, pixels, CROWDPOSE, size, augmentation=Augmentation(), seed=1)
    return collate(data.__getitems__([(2, row) for row in range(len(data))]))


@pytest.mark.parametrize("name", ["raw", "jpeg"])
def test_a_pack_shows_what_the_images_show(crowd, persons, packs, name):
    assert packs[name].about["reduced"] == 0
    files, packed = batch(persons, crowd / "images"), batch(persons, packs[name])
    for a, b in zip(files[1:8], packed[1:8], strict=True):
        assert torch.equal(a, b)
    error = (files.image.int() - packed.image.int()).abs().float()
    if name == "raw":
        # the same pixels; OpenCV may round a position that lies between two of its steps otherwise
        assert (error > 0).float().mean() < 0.01
    assert error.mean() < 2.5


def test_reduced_crops_stay_in_place(crowd, persons, packs):
    assert packs["reduced"].about["reduced"] > 0.3
    assert packs["reduced"].raw_bytes < 0.9 * packs["raw"].raw_bytes
    small = (24, 32)
    files, packed = batch(persons, packs["raw"], small), batch(persons, packs["reduced"], small)
    a, b = (x.image.float() - x.image.float().mean() for x in (files, packed))

    def product(dx, dy):
        moved = torch.roll(b, (dy, dx), (2, 3))
        return (a * moved).mean().item()

    shifts = {(dx, dy): product(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)}
    assert max(shifts, key=shifts.get) == (0, 0)
    assert abs(shifts[1, 0] - shifts[-1, 0]) < 0.2 * (shifts[0, 0] - shifts[1, 0])
    assert abs(shifts[0, 1] - shifts[0, -1]) < 0.2 * (shifts[0, 0] - shifts[0, 1])


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(),
        Augmentation(rotation=15),
        Augmentation(scale=0, rotation=0),
        Augmentation(half_body_probability=1),
    ],
)
def test_no_view_shows_more_than_is_stored(persons, augmentation):
    count = len(persons)
    bounds, smallest = reach(persons, CROWDPOSE, 0.75, augmentation)
    corners = np.array([(0, 0), (48, 0), (0, 64), (48, 64)])
    touched = 0.0
    for epoch in range(200):
        plan = augmented(
            CropPlan(*box_region(persons.box, 0.75)),
            persons.joints,
            persons.visible,
            CROWDPOSE,
            augmentation,
            draw(0, epoch, count),
        )
        matrix = plan.matrix(SIZE)
        shown = np.linalg.solve(matrix[..., :2], corners.T - matrix[..., 2:]).swapaxes(1, 2)
        room = np.concatenate([shown.min(1) - bounds[:, :2], bounds[:, 2:] - shown.max(1)], 1)
        assert room.min() > -1e-3
        touched = max(touched, (room.min(1) < 0.05 * plan.size[:, 0]).mean())
        whole = plan.size[:, 0] > 0.5 * box_region(persons.box, 0.75)[1][:, 0]
        assert (plan.size[:, 0] >= smallest - 1e-3)[whole].all()
    assert touched > 0.02  # and no more is stored than some view shows


def test_reach_by_hand(persons):
    one = dataclasses.replace(
        persons,
        box=np.tile(np.array([[100, 100, 24, 32]], np.float32), (len(persons), 1)),
        visible=np.zeros_like(persons.visible),
    )
    bounds, smallest = reach(one, CROWDPOSE, 0.75, Augmentation(scale=0.5, rotation=45))
    # 30 x 40 padded, 45 x 60 at most; turned by up to 90 degrees within its diagonal of 75
    np.testing.assert_allclose(bounds[0], [74.5, 78.5, 149.5, 153.5], rtol=1e-6)
    assert smallest[0] == pytest.approx(15)
    bounds, smallest = reach(one, CROWDPOSE, 0.75, Augmentation(scale=0.5, rotation=0))
    np.testing.assert_allclose(bounds[0], [89.5, 86, 134.5, 146], rtol=1e-6)


def test_a_pack_in_another_process(packs):
    again = pickle.loads(pickle.dumps(packs["jpeg"]))
    assert len(pickle.dumps(packs["jpeg"])) < 1000
    np.testing.assert_array_equal(again.read(3), packs["jpeg"].read(3))
    assert len(again) == len(packs["jpeg"])


def test_crops_can_keep_the_images_pixels(crowd, persons, packs, tmp_path):
    options = (persons, crowd / "images", CROWDPOSE, (24, 32), Augmentation())
    whole = write_pack(tmp_path / "p", *options, encoding="raw", reduce=False)
    assert whole.about["reduced"] == 0
    np.testing.assert_array_equal(whole.read(5), packs["raw"].read(5))


def test_workers_write_the_same(crowd, persons, packs, tmp_path):
    helped = write_pack(
        tmp_path / "p",
        persons,
        crowd / "images",
        CROWDPOSE,
        (480, 640),
        Augmentation(),
        workers=1,
    )
    both = [(p.folder / "pixels.bin").read_bytes() for p in (helped, packs["jpeg"])]
    assert both[0] == both[1]


def test_what_a_pack_serves(packs, annotations, tmp_path):
    pack = packs["raw"]
    pack.check(annotations, CROWDPOSE, (480, 640), Augmentation())
    pack.check(annotations, CROWDPOSE, (48, 64), Augmentation(scale=0.1, half_body_probability=0))
    for arguments, match in (
        ((CROWDPOSE, (960, 1280), Augmentation()), "does not serve inputs of 960x1280; .*480x640"),
        ((CROWDPOSE, (64, 64), Augmentation()), "does not serve inputs of 64x64"),
        ((CROWDPOSE, SIZE, Augmentation(scale=0.5)), "augmentation.scale 0.5; .*`kdpose pack`, or"),
        ((CROWDPOSE, SIZE, Augmentation(rotation=50)), "augmentation.rotation 50"),
        ((CROWDPOSE, SIZE, Augmentation(half_body_joints=5)), "these half bodies"),
        ((COCO, SIZE, Augmentation()), "skeleton 'coco'"),
    ):
        with pytest.raises(ValueError, match=match):
            pack.check(annotations, *arguments)
    other = tmp_path / "other.json"
    other.write_text(annotations.read_text() + " ")
    with pytest.raises(ValueError, match=r"was made of .*trainval.json, and .*other.json differs"):
        pack.check(other, CROWDPOSE, SIZE, None)


def test_errors(crowd, persons, packs, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"no pack at {tmp_path}/none \(from data.pack\)"):
        Pack(tmp_path / "none")
    options = (persons, crowd / "images", CROWDPOSE, SIZE, Augmentation())
    with pytest.raises(FileExistsError, match="raw exists: remove it"):
        write_pack(packs["raw"].folder, *options)
    with pytest.raises(ValueError, match="encoding must be jpeg or raw, got png"):
        write_pack(tmp_path / "p", *options, encoding="png")
    missing = dataclasses.replace(persons, files=np.array(["no.jpg"] * len(persons)))
    with pytest.raises(FileNotFoundError, match=r"no image at .*no\.jpg"):
        write_pack(tmp_path / "p", missing, *options[1:])
    assert list(tmp_path.iterdir()) == []  # nothing half done is left
    about = tmp_path / "old" / "pack.json"
    about.parent.mkdir()
    about.write_text(json.dumps({"format": 0}))
    with pytest.raises(ValueError, match="has format 0 and this version reads 1"):
        Pack(about.parent)


def test_default_folder(tmp_path):
    expected = tmp_path / "train_192x256.pack"
    assert default_folder(tmp_path / "train.json", (192, 256)) == expected


@pytest.mark.parametrize("name", ["raw", "jpeg"])
@pytest.mark.parametrize("teacher_size", [None, (96, 128)])
def test_resident_crops_are_the_devices(persons, packs, name, teacher_size):
    data = PoseDataset(persons, packs[name], CROWDPOSE, SIZE, teacher_size, Augmentation())
    resident = Resident(data, CPU)
    for epoch in (0, 1, 0):
        indices = [(epoch, row) for row in (5, 2, 9)]
        rows = RowDataset(len(data)).__getitems__(indices)
        assert isinstance(rows, RowBatch)
        here, there = resident(rows), cut(SourceDataset(data).__getitems__(indices), data)
        assert here.person.tolist() == [5, 2, 9]
        for a, b in zip(here[1:8], there[1:8], strict=True):
            assert torch.equal(a, b)
        # the sources begin elsewhere, so float32 rounds positions otherwise
        assert (here.image.int() - there.image.int()).abs().max() <= 1
        assert (here.image != there.image).float().mean() < 0.01
        if teacher_size:
            assert here.teacher_image.shape == (3, 3, 128, 96)


def test_only_packs_can_be_resident(crowd, persons):
    data = PoseDataset(persons, crowd / "images", CROWDPOSE, SIZE)
    with pytest.raises(ValueError, match=r"data.resident needs packed crops: .*data.pack=auto"):
        Resident(data, CPU)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_named_and_teaches_nothing(
    crowd, persons, annotations, tmp_path, capsys, workers
):
    images = tmp_path / "images"
    shutil.copytree(crowd / "images", images)
    bad = str(persons.files[3])
    (images / bad).write_bytes((images / bad).read_bytes()[:300])
    lost = np.flatnonzero(persons.files == bad)
    made = write_pack(
        tmp_path / "p", persons, images, CROWDPOSE, SIZE, Augmentation(), workers=workers
    )
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("skipped: cannot read the image") == 1
    assert bad in said
    assert made.about["unreadable"] == len(lost) > 0
    from_files, packed = batch(persons, images), batch(persons, made)
    for shown in (from_files, packed):
        assert (shown.visible[lost] == 0).all()
        assert (shown.box_score[lost] == 0).all()
        assert (shown.image[lost] == 0).all()
    assert torch.equal(from_files.visible, packed.visible)
    data = PoseDataset(persons, made, CROWDPOSE, SIZE, augmentation=Augmentation(), seed=1)
    assert cut(SourceDataset(data).__getitems__([(0, int(lost[0])), (0, 0)]), data).image.any()
    there = Resident(data, CPU)(RowDataset(len(data)).__getitems__([(2, int(lost[0]))]))
    assert not there.image.any()
    assert not there.visible.any()


def test_nothing_readable_is_an_error(crowd, persons, tmp_path):
    (tmp_path / "images").mkdir()
    for name in set(persons.files.tolist()):
        (tmp_path / "images" / name).write_bytes(b"none")
    with pytest.raises(ValueError, match=r"none of the \d+ images can be read"):
        write_pack(tmp_path / "p", persons, tmp_path / "images", CROWDPOSE, SIZE, Augmentation())
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
