import json
import sys

import numpy as np
import pytest
from PIL import Image

import kdpose.inference.worker
import kdpose.predict
from kdpose.data.sources.images import open_image
from kdpose.inference.predictor import load

RNG = np.random.default_rng(0)


def photo(path, size=(120, 80)):
    Image.fromarray(RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Three photographs, the second one broken, with two persons in 7, none in 8, one in 10."""
    root = tmp_path / "photos"
    root.mkdir()
    for name in ("7", "8", "10"):
        photo(root / f"{name}.png")
    (root / "9.jpg").write_text("no picture")
    rows = [
        {"image_id": 7, "bbox": [0, 0, 50, 80], "score": 0.9},
        {"image_id": 7, "bbox": [60, 10, 90, 60], "score": 0.8},
        {"image_id": 10, "bbox": [5, 5, 100, 70], "score": 0.7},
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(rows))
    return root


@pytest.fixture
def predict(monkeypatch, tiny_checkpoints, tmp_path, capsys):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # main raises it

    def run(*overrides, ckpt="refined"):
        out = f"out={tmp_path}/out"
        argv = ["kdpose", f"ckpt={tiny_checkpoints[ckpt]}", out, "flip=false", *overrides]
        monkeypatch.setattr(sys, "argv", argv)
        kdpose.predict.main()
        return " ".join(capsys.readouterr().out.split())

    return run


def results(tmp_path):
    return json.loads((tmp_path / "out/predictions.json").read_text())


def same(found, expected):
    """The same persons; a network's last digits depend on who shares its batch."""
    assert [p.keys() for p in found] == [p.keys() for p in expected]
    for person, other in zip(found, expected, strict=True):
        for key, value in other.items():
            near = value if isinstance(value, str) else pytest.approx(value, rel=1e-3, abs=0.01)
            assert person[key] == near


def test_a_folder(folder, tmp_path, predict, tiny_checkpoints):
    said = predict(f"source={folder}", f"boxes={tmp_path}/boxes.json", "crops=true")
    assert "3 persons in 3 images, 1 skipped" in said
    assert f"cannot read the image {folder}/9.jpg: " in said
    found = results(tmp_path)
    expected = load(tiny_checkpoints["refined"], "cpu")
    boxes = [[0, 0, 50, 80], [60, 10, 90, 60]]
    poses = expected(folder / "7.png", boxes, [0.9, 0.8])
    wanted = [{**person, "file_name": "7.png"} for person in poses.to_coco(7)]
    same([person for person in found if person["image_id"] == 7], wanted)
    assert sorted({person["image_id"] for person in found}) == [7, 10]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"predictions.json", "7.jpg", "8.jpg", "10.jpg", "crops"}
    sizes = {p.name: open_image(p).size for p in (tmp_path / "out/crops").iterdir()}
    assert sizes == {"7_0.jpg": (50, 80), "7_1.jpg": (60, 60), "10_0.jpg": (100, 70)}


def test_an_interrupted_run_goes_on(folder, tmp_path, predict, monkeypatch):
    whole = [f"source={folder}", f"boxes={tmp_path}/boxes.json"]
    predict(*whole)
    undisturbed = results(tmp_path)
    (tmp_path / "out/predictions.json").unlink()
    asked = []

    def stops_at_the_second(path, **options):
        asked.append(path)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return open_image(path)

    monkeypatch.setattr(kdpose.inference.worker, "open_image", stops_at_the_second)
    whole.append("batch_size=1")
    with pytest.raises(SystemExit) as stopped:
        predict(*whole)
    assert stopped.value.code == 130
    part = tmp_path / "out/predictions.part.jsonl"
    assert len(part.read_text().splitlines()) == 2  # settings and the first picture
    part.write_text(part.read_text() + '["8 ')  # the power went off
    assert "1 images were done before" in predict(*whole)
    assert len(asked) == 2 + 3
    same(results(tmp_path), undisturbed)
    assert not part.exists()


def test_other_settings_begin_anew(folder, tmp_path, predict):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/predictions.part.jsonl").write_text('{"flip": true}\n["7 x", []]\n')
    assert "done before" not in predict(f"source={folder}", "boxes=whole")
    assert len(results(tmp_path)) == 3


def test_stage_1_beside_the_refined_pose(folder, tmp_path, predict, tiny_checkpoints):
    predict(f"source={folder}/7.png", "boxes=whole", "compare=true")
    drawn = np.asarray(open_image(tmp_path / "out/7.jpg")).astype(int)
    assert drawn.shape == (80 + 22, 240, 3)
    refined = load(tiny_checkpoints["refined"], "cpu")
    for predictor, left in ((refined.stage1(), 0), (refined, 120)):
        own = predictor(folder / "7.png").draw().astype(int)
        other = (refined if left == 0 else refined.stage1())(folder / "7.png").draw().astype(int)
        shown = drawn[22:, left : left + 120]
        assert np.abs(shown - own).mean() < np.abs(shown - other).mean()


def test_compare_needs_a_refiner(folder, predict, capsys):
    with pytest.raises(SystemExit):
        predict(f"source={folder}", "boxes=whole", "compare=true", ckpt="student")
    assert "this checkpoint has no refiner to compare stage 1 with" in capsys.readouterr().err


def test_pictures_of_one_name_are_kept_apart(tmp_path, predict):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        photo(tmp_path / name / "x.png")
    predict(f"source='{tmp_path}/*/x.png'", "boxes=whole")
    assert sorted(p.name for p in (tmp_path / "out").glob("*.jpg")) == ["x_1.jpg", "x_2.jpg"]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["source={0}", "boxes=whole", "out={0}"], "holds the source's images, which would be ov"),
        (["source={0}/9.jpg", "boxes=whole"], "error: none of the 1 images can be read"),
        (["source={0}/none.mp4", "boxes=whole"], "error: no image, video or folder at "),
        (["source=97", "boxes=whole"], "error: camera 97"),
        (["source={0}", "boxes=whole", "engine=spark"], "engine must be local or ray, got spark"),
        (["source={0}/9.jpg", "boxes=whole", "shard=2"], "none of the 1 images can be read"),
    ],
)
def test_errors(folder, predict, capsys, overrides, line):
    with pytest.raises(SystemExit):
        predict(*(override.format(folder) for override in overrides))
    assert line in capsys.readouterr().err


def test_an_annotation_file_with_its_images(crowd, tmp_path, predict):
    annotations = crowd / "annotations/crowdpose_test.json"
    predict(f"source={annotations}", f"boxes={annotations}", "draw=false")
    truth = json.loads(annotations.read_text())
    found = results(tmp_path)
    assert len(found) == len(truth["annotations"])
    by_id = {image["id"]: image["file_name"] for image in truth["images"]}
    assert all(person["file_name"] == by_id[person["image_id"]] for person in found)
    assert not list((tmp_path / "out").glob("*.jpg"))


def test_real_photographs(real_data, tmp_path, predict):
    annotations = real_data / "coco_mini/annotations/person_keypoints_val2017.json"
    said = predict(f"source={annotations}", f"boxes={annotations}")
    assert "in 32 images" in said
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 32
    boxes = real_data / "crowdpose/annotations/test_crowdpose_det_AP_40.json"
    assert "in 2 images" in predict(f"source={real_data}/crowdpose/images", f"boxes={boxes}")
    assert {person["image_id"] for person in results(tmp_path)} == {103319, 106848}


def test_a_video_with_people_coming_and_going(tmp_path, predict):
    av = pytest.importorskip("av", reason="the extra kdpose[video] is not installed")
    with av.open(str(tmp_path / "a.mp4"), "w") as video:
        stream = video.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(30):
            frame = np.full((120, 160, 3), 5 * number, np.uint8)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        video.mux(stream.encode())
    left = {f: [2.0 * f, 10, 40, 90] for f in range(12)}  # leaves
    right = {f: [110.0 - f, 10, 40, 90] for f in [*range(5, 10), *range(13, 25)]}  # hidden 10-12
    rows = [{"image_id": f, "bbox": b} for boxes in (left, right) for f, b in boxes.items()]
    (tmp_path / "boxes.json").write_text(json.dumps(rows))
    said = predict(f"source={tmp_path}/a.mp4", f"boxes={tmp_path}/boxes.json")
    assert f"{len(rows)} persons in 30 frames" in said
    lines = [json.loads(s) for s in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(30))
    assert lines[20]["time"] == pytest.approx(2.0)
    assert [len(line["persons"]) for line in lines] == [
        (f in left) + (f in right) for f in range(30)
    ]
    tracks = {}
    for line in lines:
        for person in line["persons"]:
            assert person["image_id"] == line["frame"]
            name = "left" if person["bbox"] == left.get(line["frame"]) else "right"
            tracks.setdefault(name, set()).add(person["track_id"])
    assert len(tracks["left"]) == 1  # its id is there from the first frame on
    assert lines[0]["persons"][0]["track_id"] in tracks["left"]
    assert None in tracks["right"]  # who comes later has none in the first of its frames
    assert len(tracks["right"]) == 2
    assert len(tracks["left"] | tracks["right"]) == 3
    with av.open(str(tmp_path / "out/drawn.mp4")) as video:
        assert [frame.width for frame in video.decode(video=0)] == [160] * 30


def test_shards_on_one_machine_need_no_ray(folder, tmp_path, predict, monkeypatch):
    whole = [f"source={folder}", f"boxes={tmp_path}/boxes.json", "draw=false"]
    predict(*whole)
    expected = results(tmp_path)
    (tmp_path / "out/predictions.json").unlink()
    monkeypatch.setitem(sys.modules, "ray", None)  # cannot be imported
    said = " ".join(predict(*whole, "shard=3").split())
    assert "3 persons in 3 images, 1 skipped" in said
    assert "9.jpg" in said.partition("skipped: cannot read the image")[2]
    files = sorted((tmp_path / "out/shards").iterdir())
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert len(files) == 2
    assert [line["file_name"] for line in lines] == ["10.png", "7.png", "8.png", "9.jpg"]
    assert "cannot read the image" in lines[3]["error"]
    same([person for line in lines for person in line["persons"]], expected)
    assert not (tmp_path / "out/predictions.json").exists()
    files[1].unlink()
    written = files[0].stat().st_mtime_ns
    assert "1 of 2 shards were done before" in predict(*whole, "shard=3")
    assert (files[0].stat().st_mtime_ns, files[1].exists()) == (written, True)


def test_a_picture_that_links_to_itself_is_skipped(folder, tmp_path, predict):
    (folder / "11.png").symlink_to(folder / "11.png")
    said = predict(f"source={folder}", f"boxes={tmp_path}/boxes.json", "draw=false")
    assert "3 persons in 3 images, 2 skipped" in said
    assert f"{folder}/11.png" in said
