"""One planted fault each; what is clean is called clean."""

import shutil
from dataclasses import replace

import pytest
from PIL import Image, ImageOps

from kdpose.checks.findings import exit_code
from kdpose.checks.inspect import inspect
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton


def only(found, kind, severity, count, match="", split="train"):
    """The one finding is this one."""
    assert list(found) == [kind]
    finding = found[kind]
    assert (finding.severity, finding.count, finding.split) == (severity, count, split)
    assert match in " ".join([finding.message, *map(str, finding.examples)])
    return finding


def first(planted, split="train"):
    return planted.data[split]["annotations"][0]


def test_clean_data_is_clean(planted):
    assert planted.findings() == {}


@pytest.mark.parametrize(
    ("changes", "kind", "severity", "match"),
    [
        ({"keypoints": [0] * 42, "num_keypoints": 0}, "no_joints", "note", "no labelled joint"),
        ({"bbox": [5, 5, 0, 80]}, "box_without_area", "error", "0.png, person 0: box [5.0"),
        ({"bbox": None}, "mended", "warning", "persons have no bbox: derived from their joints"),
        ({"bbox": [5, 5, 3]}, "malformed_person", "error", "0 must have bbox"),
        ({"bbox": [5, 5, float("nan"), 3]}, "malformed_person", "error", "0 must have bbox"),
        ({"keypoints": [1, 2]}, "malformed_person", "error", "must have finite keypoints"),
        ({"keypoints": [float("inf"), 2, 2] * 14}, "malformed_person", "error", "finite keypoints"),
        ({"image_id": 77}, "unknown_image", "error", "image_id 77 is not listed"),
        ({"id": 1}, "duplicate_person_id", "warning", "id 1 is given 2 times"),
        ({"num_keypoints": 3}, "num_keypoints", "note", "num_keypoints 3, labelled 14"),
        ({"area": None}, "no_area", "note", "0.png, person 0"),
        ({"area": 0}, "zero_area", "error", "area 0"),
        ({"keypoints": [1, 2, 2] * 17}, "joint_count", "unusable", "0 has 17 joints"),
    ],
)
def test_a_planted_person(planted, changes, kind, severity, match):
    first(planted).update(changes)
    only(planted.findings(), kind, severity, 1, match)


def test_a_few_faults_of_many_persons_are_warnings(planted):
    persons = planted.data["train"]["annotations"]
    for number in range(40):  # others, each a little elsewhere
        moved = dict(persons[number % 8], id=1000 + number)
        moved["keypoints"] = [
            v + 0.01 * number * (k % 3 != 2) for k, v in enumerate(moved["keypoints"])
        ]
        moved["keypoints"][0] += 0.001 * (number + 1)
        persons.append(moved)
    persons[0]["bbox"] = [5, 5, 0, 80]
    only(planted.findings(), "box_without_area", "warning", 1)


def test_boxes_outside_the_image(planted):
    first(planted)["bbox"] = [130, 5, 40, 80]
    found = planted.findings()
    assert found["box_outside"].count == 1
    assert "in 120 x 90" in str(found["box_outside"].examples[0])
    first(planted)["bbox"] = [-5, 5, 40, 80]
    assert list(planted.findings()) == ["box_over_edge"]


def test_boxes_as_corners(planted):
    for person in planted.data["train"]["annotations"]:
        x, y, w, h = person["bbox"]
        person["bbox"] = [x, y, x + w, y + h]
    finding = planted.findings()["box_format"]
    assert finding.severity == "error"
    assert "x1, y1, x2, y2" in finding.message


def test_swapped_width_and_height(planted):
    for image in planted.data["train"]["images"]:
        image.update(width=90, height=120)
    only(planted.findings(), "swapped_size", "warning", 4, "in 90 x 120")


def test_images_of_another_size(planted):
    image = Image.new("RGB", (60, 45), "red")
    image.save(planted.root / "train" / "0.png")
    only(planted.findings(), "image_size", "error", 1, "0.png: 60 x 45, not 120 x 90")


def test_images_that_exif_turns(planted):
    path = planted.root / "train" / "0.jpg"
    planted.data["train"]["images"][0]["file_name"] = "0.jpg"
    picture = Image.open(planted.root / "train" / "0.png").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6
    picture.save(path, exif=exif)
    assert ImageOps.exif_transpose(Image.open(path)).size == (120, 90)
    only(planted.findings(), "exif_rotation", "note", 1, "90 x 120, not 120 x 90")


@pytest.mark.parametrize("kind", ["missing_image", "empty_image", "unreadable_image"])
def test_image_files(planted, kind):
    path = planted.root / "train" / "2.png"
    if kind == "missing_image":
        path.unlink()
    else:
        path.write_bytes(b"" if kind == "empty_image" else path.read_bytes()[:200])
    only(planted.findings(), kind, "error", 1, "2.png")


def test_no_image_at_all(planted):
    planted.where["train"]["images"] = str(planted.root)
    only(planted.findings(), "missing_image", "unusable", 4, "set the folder")


def test_nobody_is_labelled(planted):
    for person in planted.data["train"]["annotations"]:
        person.update(keypoints=[0] * 42, num_keypoints=0)
    only(planted.findings(), "no_persons", "unusable", 8, "none of 8 persons")


def test_ids_and_names_of_images(planted):
    extra = dict(planted.data["train"]["images"][0], width=121)
    planted.data["train"]["images"].append(extra)
    found = planted.findings(open_images=0)
    assert found["duplicate_image_id"].severity == "error"
    assert found["duplicate_file_name"].severity == "warning"


def test_visibilities(planted):
    first(planted)["keypoints"][2] = 3
    only(planted.findings(), "visibility", "error", 1, "v = [2.0, 3.0]")


def test_confidences_in_the_place_of_v(planted):
    first(planted)["keypoints"][2] = 0.7
    only(planted.findings(), "mended", "warning", 1, "joints have a confidence as v")


def test_a_person_twice(planted):
    persons = planted.data["train"]["annotations"]
    persons.append(persons[0] | {"id": 999})
    only(
        planted.findings(), "duplicate_person", "error", 1, "person 999: has the joints of person 0"
    )


def test_shares_instead_of_pixels(planted):
    for person in planted.data["train"]["annotations"]:
        person["keypoints"] = [
            v / 120 if k % 3 < 2 else v for k, v in enumerate(person["keypoints"])
        ]
    assert planted.findings()["fractions"].severity == "error"


def test_stray_joints(planted):
    first(planted)["keypoints"][:2] = [500, 10]
    only(planted.findings(), "joint_outside_image", "error", 1, "joint 0 at [500.0, 10.0]")
    first(planted)["keypoints"][:2] = [115, 10]
    only(planted.findings(), "joint_far_from_box", "error", 1, "joint 0 at [115.0, 10.0]")


def test_a_joint_that_nobody_has(planted):
    for person in planted.data["train"]["annotations"]:
        person["keypoints"][-1] = 0
        person["num_keypoints"] = 13
    only(planted.findings(), "unused_joint", "warning", 1, "neck")


@pytest.mark.parametrize("pair", [("knee",), ("elbow",), ("elbow", "wrist")])
def test_left_and_right_of_one_person_exchanged(planted, pair):
    points = first(planted)["keypoints"]
    for joint in pair:
        a, b = (3 * CROWDPOSE.joints.index(f"{side}_{joint}") for side in ("left", "right"))
        points[a : a + 3], points[b : b + 3] = points[b : b + 3], points[a : a + 3]
    found = only(planted.findings(), "crossed_limbs", "warning", 1, "person 0: limbs shorter by")
    assert [example.person for example in found.examples] == [0]


def test_sides_as_the_viewer_sees_them(planted):
    """Everybody's left is on the left; persons of both kinds are fine."""
    everybody = planted.data["train"]["annotations"]
    for number in range(50):
        everybody.append(_moved(everybody[number % 8], 1000 + number, number))
    assert "viewers_sides" not in planted.findings()
    for person in everybody:
        points = person["keypoints"]
        triples = [points[3 * k : 3 * k + 3] for k in CROWDPOSE.flip_order]
        person["keypoints"] = [value for triple in triples for value in triple]
    assert planted.findings()["viewers_sides"].count == 58 * 6


def _moved(person, number, shift):
    points = [v + 0.01 * shift * (k % 3 == 0) for k, v in enumerate(person["keypoints"])]
    return {**person, "id": number, "keypoints": points}


def test_leakage_of_files(planted):
    shutil.copy(planted.root / "train" / "1.png", planted.root / "val" / "101.png")
    only(planted.findings(), "leakage", "error", 1, "101.png: is training's 1.png", split="")


def test_leakage_of_copies(planted):
    picture = Image.open(planted.root / "train" / "1.png")
    picture.save(planted.root / "val" / "101.jpg", quality=80)
    planted.data["val"]["images"][1]["file_name"] = "101.jpg"
    only(planted.findings(), "look_alike", "warning", 1, "looks like training's 1.png", split="")


def test_leakage_of_paths_needs_no_image_opened(planted):
    planted.where["val"] = planted.where["train"]
    found = planted.findings(open_images=0)
    assert (found["leakage"].severity, found["leakage"].count) == ("error", 4)


def test_the_same_image_twice_in_a_split(planted):
    shutil.copy(planted.root / "train" / "1.png", planted.root / "train" / "2.png")
    only(planted.findings(), "duplicate_image", "warning", 1, "2.png: the same file as 1.png")


def test_joints_of_another_order(planted):
    category = planted.data["train"]["categories"][0]
    category["keypoints"] = list(reversed(category["keypoints"]))
    only(planted.findings(), "skeleton_mismatch", "error", 14, "joint 0 is neck, not left_shoulder")


def test_another_skeleton(planted):
    planted.skeleton = COCO
    found = planted.findings()
    assert found["joint_count"].severity == found["skeleton_mismatch"].severity == "unusable"


def test_what_a_skeleton_lacks(planted):
    names = tuple(f"point {k}" for k in range(14))
    planted.skeleton = Skeleton("bare", names, (), (0.079,) * 14, sigma_source="default")
    for data in planted.data.values():
        data["categories"] = []
    found = planted.findings()
    assert set(found) == {"default_sigmas", "no_limbs", "no_flip_pairs", "unnamed_joints"}
    assert exit_code(list(found.values())) == 0
    planted.skeleton = replace(CROWDPOSE, sigma_source="estimated")
    assert set(planted.findings()) == {"unnamed_joints"}


@pytest.mark.parametrize("text", ["{", "[]", '{"images": []}'])
def test_no_coco_file(planted, text):
    planted.write()
    (planted.root / "train.json").write_text(text)
    found = inspect(planted.where, CROWDPOSE)
    assert [(f.kind, f.severity, f.split) for f in found.findings] == [
        ("annotations", "unusable", "train")
    ]
    assert list(found.splits) == ["val"]


def test_real_public_data_has_no_errors(real_data):
    crowd = {"annotations": real_data / "crowdpose" / "annotations" / "crowdpose_val.json"}
    assert exit_code(inspect({"": {**crowd, "images": None}}, CROWDPOSE).findings) == 0
    root = real_data / "coco_mini"
    coco = {
        split: {
            "annotations": root / "annotations" / f"person_keypoints_{split}2017.json",
            "images": root / f"{split}2017",
        }
        for split in ("train", "val")
    }
    found = inspect(coco, COCO)
    assert found.opened == {"train": 28, "val": 32}
    assert {f.kind for f in found.findings} == {"no_joints"}
