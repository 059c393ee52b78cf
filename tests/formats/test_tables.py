"""DeepLabCut's, Lightning Pose's and SLEAP's tables, as the tools document them."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from kdpose.formats import deeplabcut, sleap
from kdpose.skeletons.files import category_skeleton

NAMES = ("nose", "earL", "earR")


def picture(path, size=(100, 80)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "gray").save(path)


def triples(data):
    return [np.array(p["keypoints"]).reshape(-1, 3).tolist() for p in data["annotations"]]


def table(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def project(tmp_path):
    """One animal, labelled in the first of two frames."""
    folder = tmp_path / "labeled-data" / "run1"
    for n in (0, 7):
        picture(folder / f"img{n:03d}.png")
    table(
        folder / "CollectedData_ann.csv",
        "scorer,,," + ",".join(["ann"] * 6),
        "bodyparts,,,nose,nose,earL,earL,earR,earR",
        "coords,,,x,y,x,y,x,y",
        "labeled-data,run1,img000.png,10.5,20,30,40.25,,",
        "labeled-data,run1,img007.png,,,,,,",
    )
    (tmp_path / "config.yaml").write_text("skeleton: [[nose, earL], [nose, earR], [a, b]]\n")
    return tmp_path


def test_deeplabcut_project(project):
    data = deeplabcut.read(project, None, None)
    assert triples(data) == [[[10.5, 20, 2], [30, 40.25, 2], [0, 0, 0]]]
    assert [i["file_name"] for i in data["images"]] == [
        "labeled-data/run1/img000.png",
        "labeled-data/run1/img007.png",
    ]
    assert (data["images"][0]["width"], data["images"][0]["height"]) == (100, 80)
    skeleton = category_skeleton(data["categories"][0])
    assert (skeleton.joints, skeleton.limbs) == (NAMES, ((0, 1), (0, 2)))
    assert skeleton.flip_order == (0, 2, 1)


def test_deeplabcut_two_annotators(project, caplog):
    first = project / "labeled-data" / "run1" / "CollectedData_ann.csv"
    first.with_name("CollectedData_bob.csv").write_text(first.read_text().replace("10.5", "99"))
    assert triples(deeplabcut.read(project, None, None))[0][0] == [10.5, 20, 2]
    assert "2 entries are of images that an earlier entry has" in caplog.text


def test_deeplabcut_table_of_version_2(project):
    path = table(
        project / "labeled-data" / "run1" / "CollectedData_ann.csv",
        "scorer,ann,ann,ann,ann",
        "bodyparts,nose,nose,earL,earL",
        "coords,x,y,x,y",
        r"labeled-data\run1\img007.png,1,2,3,4",
    )
    data = deeplabcut.read(path, project / "labeled-data" / "run1", None)
    assert data["images"][0]["file_name"] == "img007.png"
    assert triples(data) == [[[1, 2, 2], [3, 4, 2]]]
    with pytest.raises(FileNotFoundError, match="set images=FOLDER"):
        deeplabcut.read(table(project / "a.csv", path.read_text().replace("07", "99")), None, None)
    bad = table(project / "c.csv", path.read_text().replace(",1,2,", ",1,two,"))
    with pytest.raises(ValueError, match="'two' is no number"):
        deeplabcut.read(bad, None, None)
    with pytest.raises(ValueError, match="must begin with the rows scorer"):
        deeplabcut.read(table(project / "b.csv", "x,y", "1,2"), project, None)


def test_deeplabcut_individuals(project, caplog):
    path = table(
        project / "labeled-data" / "run1" / "CollectedData_ann.csv",
        "scorer,,," + ",".join(["ann"] * 6),
        "individuals,,,m1,m1,m2,m2,single,single",
        "bodyparts,,,nose,nose,nose,nose,corner,corner",
        "coords,,,x,y,x,y,x,y",
        "labeled-data,run1,img000.png,10,20,30,40,5,5",
        "labeled-data,run1,img007.png,,,50,60,,",
    )
    data = deeplabcut.read(path, None, None)
    assert triples(data) == [[[10, 20, 2]], [[30, 40, 2]], [[50, 60, 2]]]
    assert [p["image_id"] for p in data["annotations"]] == [1, 1, 2]
    assert data["categories"][0]["keypoints"] == ["nose"]
    assert "1 points are of body parts without an individual" in caplog.text


def test_deeplabcut_hdf5(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "tables", None)
    path = project / "labeled-data" / "run1" / "CollectedData_ann.h5"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"pip install kdpose\[hdf5\]`, or give the CSV"):
        deeplabcut.read(path, None, None)


def test_deeplabcut_hdf5_is_read(project):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    csv = project / "labeled-data" / "run1" / "CollectedData_ann.csv"
    frame = pandas.read_csv(csv, header=[0, 1, 2], index_col=[0, 1, 2])
    path = csv.with_suffix(".h5")
    frame.to_hdf(path, key="df_with_missing", mode="w")
    assert triples(deeplabcut.read(path, None, None)) == triples(deeplabcut.read(csv, None, None))


def test_lightning_pose_predictions(tmp_path, caplog):
    for n in (0, 2):
        picture(tmp_path / "frames" / f"img{n:08d}.png")
    path = table(
        tmp_path / "predictions.csv",
        "scorer," + ",".join(["heatmap_tracker"] * 6) + ",set",
        "bodyparts,nose,nose,nose,earL,earL,earL,",
        "coords,x,y,likelihood,x,y,likelihood,",
        "0,10,20,0.9,30,40,0.2,train",
        "1,11,20,0.9,31,40,0.9,train",
        "2,12,20,0.9,32,40,0.9,train",
    )
    data = deeplabcut.read(path, tmp_path / "frames", None)
    assert triples(data) == [[[10, 20, 2], [0, 0, 0]], [[12, 20, 2], [32, 40, 2]]]
    assert "1 points have a confidence below 0.5" in caplog.text
    assert "1 rows are of frames" in caplog.text
    with pytest.raises(ValueError, match="set images=FOLDER of its frames"):
        deeplabcut.read(path, None, None)


def test_sleap_analysis_csv(tmp_path, caplog):
    picture(tmp_path / "frames" / "f_3.jpg")
    path = table(
        tmp_path / "labels.v001.analysis.csv",
        "track,frame_idx,instance.score,nose.x,nose.y,nose.score,earL.x,earL.y,earL.score",
        "track_0,3,1.9,10,20,0.95,,,",
        "track_1,3,1.8,30,40,0.9,50,60,0.1",
        "track_1,4,1.8,30,40,0.9,50,60,0.8",
    )
    data = sleap.read(path, tmp_path / "frames", None)
    assert triples(data) == [[[10, 20, 2], [0, 0, 0]], [[30, 40, 2], [0, 0, 0]]]
    assert "1 persons are of frames that the folder of images does not have" in caplog.text
    assert "1 points have a confidence below 0.5" in caplog.text
    with pytest.raises(ValueError, match="frame_idx and"):
        sleap.read(table(tmp_path / "a.csv", "a,b", "1,2"), tmp_path, None)


def slp_metadata():
    """Three nodes, in another order than the skeleton's; a kind of link is written once."""
    edge = {"py/reduce": [{"py/type": "sleap.skeleton.EdgeType"}, {"py/tuple": [1]}]}
    mirror = {"py/reduce": [{"py/type": "sleap.skeleton.EdgeType"}, {"py/tuple": [2]}]}
    return {
        "nodes": [{"name": n, "weight": 1.0} for n in ("earL", "earR", "nose")],
        "skeletons": [
            {
                "nodes": [{"id": 2}, {"id": 0}, {"id": 1}],
                "links": [
                    {"source": 2, "target": 0, "type": edge},
                    {"source": 2, "target": 1, "type": {"py/id": 1}},
                    {"source": 0, "target": 1, "type": mirror},
                    {"source": 1, "target": 0, "type": {"py/id": 2}},
                ],
            }
        ],
    }


def slp(path, image, videos, version=1.2):
    """A person drawn and predicted in frame 0, one predicted in frame 4."""
    h5py = pytest.importorskip("h5py")
    point = [("x", "f8"), ("y", "f8"), ("visible", "?"), ("complete", "?")]
    instance = [("instance_id", "i8"), ("instance_type", "u1"), ("frame_id", "u8"),
                ("point_id_start", "u8"), ("point_id_end", "u8")]  # fmt: skip
    frame = [("frame_id", "u8"), ("video", "u4"), ("frame_idx", "u8"),
             ("instance_id_start", "u8"), ("instance_id_end", "u8")]  # fmt: skip
    with h5py.File(path, "w") as file:
        group = file.create_group("metadata")
        group.attrs["format_id"], group.attrs["json"] = version, json.dumps(slp_metadata())
        file["points"] = np.array(
            [(10, 20, True, True), (30, 40, True, True), (np.nan, np.nan, False, False)], point
        )
        file["pred_points"] = np.array(
            [(1, 2, True, False, 0.9), (3, 4, True, False, 0.3), (5, 6, True, False, 0.8)] * 2,
            [*point, ("score", "f8")],
        )
        file["instances"] = np.array([(0, 0, 0, 0, 3), (1, 1, 0, 0, 3), (2, 1, 1, 3, 6)], instance)
        file["frames"] = np.array([(0, 0, 0, 0, 2), (1, 0, 4, 2, 3)], frame)
        file["videos_json"] = [json.dumps(video) for video in videos]
        if image is not None:
            stored = np.zeros((2, len(image)), np.int8)
            stored[:] = np.frombuffer(image, np.int8)
            held = file.create_group("video0")
            held["video"], held["frame_numbers"] = stored, [0, 4]
            held["video"].attrs["format"] = "png"
    return path


def test_sleap_package(tmp_path, caplog):
    picture(tmp_path / "a.png")
    path = slp(tmp_path / "a.pkg.slp", (tmp_path / "a.png").read_bytes(), [{"filename": "."}])
    data = sleap.read(path, tmp_path / "out", None)
    assert triples(data) == [
        [[10, 20, 2], [30, 40, 2], [0, 0, 0]],
        [[1, 2, 2], [0, 0, 0], [5, 6, 2]],
    ]
    assert [i["file_name"] for i in data["images"]] == ["video0_000000.png", "video0_000004.png"]
    assert (tmp_path / "out" / "video0_000004.png").is_file()
    skeleton = category_skeleton(data["categories"][0])
    assert (skeleton.joints, skeleton.limbs) == (NAMES, ((0, 1), (0, 2)))
    assert "1 predictions are of frames with persons labelled by hand" in caplog.text
    with pytest.raises(ValueError, match="holds its pictures: set images=FOLDER"):
        sleap.read(path, None, None)


def test_sleap_project(tmp_path):
    picture(tmp_path / "frames" / "f0.png")
    picture(tmp_path / "frames" / "f4.png")
    video = {"backend": {"filename": "C:/videos/run.mp4"}}
    path = slp(tmp_path / "a.slp", None, [video], version=1.0)
    data = sleap.read(path, tmp_path / "frames", None)
    assert triples(data)[0][:2] == [[9.5, 19.5, 2], [29.5, 39.5, 2]]  # counted from a corner
    path = slp(tmp_path / "two.slp", None, [video, {"backend": {"filename": "other.mp4"}}])
    with pytest.raises(FileNotFoundError, match="frames/run"):
        sleap.read(path, tmp_path / "frames", None)
    (tmp_path / "b.slp").write_text("no HDF5")
    with pytest.raises(ValueError, match=r"no \.slp of SLEAP"):
        sleap.read(tmp_path / "b.slp", None, None)


def test_sleap_without_h5py(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.slp").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pip install kdpose\[hdf5\]`, or export an analysis CSV"):
        sleap.read(tmp_path / "a.slp", None, None)


def test_csvs_need_no_extra(project, tmp_path, monkeypatch):
    for name in ("h5py", "pandas", "tables"):
        monkeypatch.setitem(sys.modules, name, None)
    assert len(deeplabcut.read(project, None, None)["annotations"]) == 1
    picture(tmp_path / "frames" / "f_3.jpg")
    path = table(tmp_path / "a.csv", "frame_idx,nose.x,nose.y", "3,10,20")
    assert triples(sleap.read(path, tmp_path / "frames", None)) == [[[10, 20, 2]]]
