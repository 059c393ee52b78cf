"""Several categories: read alike by every command, and scored as pycocotools scores them."""

import contextlib
import io
import json
import logging
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO as Truth
from pycocotools.cocoeval import COCOeval

import kdpose.convert
import kdpose.doctor
import kdpose.evaluate
from kdpose.data.annotations import load_persons
from kdpose.data.detections import load_detections, read_boxes
from kdpose.evaluation.score import score_file
from kdpose.formats import coco
from kdpose.metrics.keypoint_ap import category_ap, keypoint_ap
from kdpose.runtime.annotation_file import AnnotationFile
from kdpose.skeletons.files import read_skeleton

JOINTS = ["top", "left_tip", "right_tip", "tail"]
KITE = {"id": 1, "name": "kite", "keypoints": JOINTS, "skeleton": [[1, 2]], "sigmas": [0.08] * 4}
DRAGON = {**KITE, "id": 2, "name": "dragon"}
STRING = {"id": 3, "name": "string", "keypoints": ["start", "end"], "skeleton": []}
BALL = {"id": 4, "name": "ball"}
POINTS = [80, 30, 2, 40, 90, 2, 120, 90, 2, 80, 160, 1]


def person(number, kind, keypoints=POINTS):
    return {
        "id": number, "image_id": number, "category_id": kind, "bbox": [30, 20, 100, 150],
        "area": 8000, "iscrowd": 0, "num_keypoints": len(keypoints) // 3, "keypoints": keypoints,
    }  # fmt: skip


def result(number, kind, moved=2.0, score=0.9):
    keypoints = [v + moved * (k % 3 < 2) for k, v in enumerate(POINTS)]
    return {"image_id": number, "category_id": kind, "keypoints": keypoints, "score": score}


@pytest.fixture
def write(tmp_path):
    """Writes annotations of these persons, and returns the path."""

    def _write(persons, categories=(KITE, DRAGON), name="a.json"):
        size = {"width": 160, "height": 200}
        images = [{"id": n, "file_name": f"{n}.png", **size} for n in range(1, 9)]
        content = {"images": images, "annotations": persons, "categories": list(categories)}
        (tmp_path / name).write_text(json.dumps(content))
        return tmp_path / name

    return _write


def run(monkeypatch, capsys, module, *words):
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, words)])
    monkeypatch.setenv("COLUMNS", "200")
    code = 0
    try:
        module.main()
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    return code, " ".join((said.out + said.err).split())


def pycocotools(path, results):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = Truth(str(path))
        run = COCOeval(truth, truth.loadRes(results), "keypoints")
        run.params.kpt_oks_sigmas = np.array(KITE["sigmas"])
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_pycocotools_mean_over_categories(write, seed):
    rng = np.random.default_rng(seed)
    kinds = rng.integers(1, 4, 8).tolist()  # of the third there may be nobody
    third = {**KITE, "id": 3, "name": "third"}
    path = write([person(n, k) for n, k in enumerate(kinds, 1)], (KITE, DRAGON, third))
    found = [
        result(n, int(k), float(rng.uniform(0, 25)), float(rng.random()))
        for n, k in zip(rng.integers(1, 9, 30).tolist(), rng.choice(kinds, 30), strict=True)
    ]
    figures = keypoint_ap(path, found, protocol="coco", sigmas=KITE["sigmas"])
    stats = pycocotools(path, found)
    for name, place in (("AP", 0), ("AP50", 1), ("AP75", 2), ("APM", 3), ("APL", 4), ("AR", 5)):
        expected = None if stats[place] < 0 else pytest.approx(stats[place], abs=1e-12)
        assert figures[name] == expected, name


def test_each_category_is_told(monkeypatch, capsys, write, tmp_path):
    path = write([person(1, 1), person(2, 1), person(3, 1), person(4, 2)])
    results = [result(n, 1, score=0.9 - n / 100) for n in (1, 2, 3)]
    (tmp_path / "p.json").write_text(json.dumps(results))
    record = score_file(tmp_path / "p.json", path, protocol="coco")
    assert record["categories"] == {"kite": pytest.approx(1), "dragon": 0}
    assert record["AP"] == pytest.approx(0.5)
    words = (f"predictions={tmp_path}/p.json", f"annotations={path}", "protocol=coco")
    _, text = run(monkeypatch, capsys, kdpose.evaluate, *words)
    assert "mean of 2 categories (AP of kite 100.0, dragon 0.0)" in text
    _, text = run(monkeypatch, capsys, kdpose.evaluate, *words, "category=kite")
    assert "mean of" not in text
    assert "p 100.0" in text


def test_results_of_unknown_categories(write, tmp_path, caplog):
    path = write([person(1, 1), person(2, 2)])
    with pytest.raises(ValueError, match="1 of 1 results have a category_id that is none of"):
        keypoint_ap(path, [result(1, 7)], protocol="coco", sigmas=KITE["sigmas"])
    (tmp_path / "p.json").write_text(json.dumps([result(1, 1), result(2, 2), result(2, 7)]))
    with caplog.at_level(logging.WARNING):
        assert score_file(tmp_path / "p.json", path, protocol="coco")["AP"] == pytest.approx(1)
    assert "1 results are left out" in caplog.text
    one = write([person(1, 3)], [{**KITE, "id": 3}])  # one category, and results of another number
    (tmp_path / "p.json").write_text(json.dumps([result(1, 1)]))
    assert score_file(tmp_path / "p.json", one, protocol="coco")["AP"] == pytest.approx(1)


def test_other_joints_are_left_out_by_every_reader(monkeypatch, capsys, write, tmp_path, caplog):
    rows = [person(1, 1), person(1, 3, [10, 10, 2, 20, 20, 2]), person(2, 2)]
    path = write(rows, (KITE, STRING, DRAGON, BALL))
    skeleton = read_skeleton(path)
    with caplog.at_level(logging.WARNING):
        for source in (path, AnnotationFile.read(path)):
            persons = load_persons(source, skeleton)
            assert persons.category.tolist() == [1, 2]
    assert "left out: 1 of string (3); category=NAME takes one" in caplog.text
    assert AnnotationFile.read(path).counts() == (8, 2)
    assert list(category_ap(path, [], protocol="coco", sigmas=KITE["sigmas"])) == ["kite", "dragon"]
    code, text = run(monkeypatch, capsys, kdpose.doctor, f"annotations={path}")
    assert code == 0
    assert "other_categories" in text
    assert "2 labelled persons" in text
    code, text = run(monkeypatch, capsys, kdpose.doctor, f"annotations={path}", "category=string")
    assert code == 0
    assert "1 labelled persons" in text
    code, text = run(monkeypatch, capsys, kdpose.doctor, f"annotations={path}", "category=cow")
    assert code == 2
    assert "has no category 'cow': it has kite (1), string (3), dragon (2), ball (4)" in text


def test_convert_keeps_categories_and_leaves_things_out(monkeypatch, capsys, write, tmp_path):
    ball = {"id": 9, "image_id": 1, "category_id": 4, "bbox": [5, 5, 40, 30], "area": 1200}
    string = person(3, 3, [10, 10, 2, 20, 20, 2])
    path = write([person(1, 1), ball, person(2, 2), string], (KITE, DRAGON, STRING, BALL))
    made = coco.read(path, None, None)
    assert [(p["id"], p["category_id"]) for p in made["annotations"]] == [(1, 1), (2, 2)]
    assert [c["name"] for c in made["categories"]] == ["kite", "dragon"]
    assert {tuple(c["keypoints"]) for c in made["categories"]} == {tuple(JOINTS)}
    out = tmp_path / "out.json"
    words = ("from=coco", f"source={path}", "category=string", f"out={out}")
    code, text = run(monkeypatch, capsys, kdpose.convert, *words)
    assert code == 0
    assert "1 persons of 2 joints" in text
    assert json.loads(out.read_text())["categories"][0]["name"] == "string"
    code, text = run(monkeypatch, capsys, kdpose.convert, "from=lsp", *words[1:])
    assert code == 1
    assert "category=string is of from=coco" in text


def test_boxes_of_every_category_with_keypoints(write, tmp_path, caplog):
    ball = {"id": 9, "image_id": 1, "category_id": 4, "bbox": [5, 5, 40, 30]}
    rows = [person(1, 1), person(2, 2), person(3, 3, [1, 1, 2, 5, 5, 2]), ball]
    path = write(rows, (KITE, DRAGON, STRING, BALL))
    with caplog.at_level(logging.WARNING):
        assert read_boxes(path, annotated=True).category.tolist() == [1, 2, 3]
    assert "1 of ball (4); category=NAME takes one" in caplog.text
    assert read_boxes(path, annotated=True, category="ball").category.tolist() == [4]
    things = write([ball | {"category_id": k} for k in (4, 5)], (BALL, {"id": 5, "name": "person"}))
    assert read_boxes(things, annotated=True).category.tolist() == [5]
    assert len(read_boxes(write([ball], (BALL,)), annotated=True)) == 1
    boxes = tmp_path / "d.json"
    boxes.write_text(json.dumps([{"image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 40]}]))
    with pytest.raises(ValueError, match=r"must be 1, it has \[3\]; category=ID takes another"):
        read_boxes(boxes)
    assert len(read_boxes(boxes, category=3)) == 1
    kites = write([person(1, 3)], [{**KITE, "id": 3}])
    assert load_detections(boxes, kites, read_skeleton(kites)).category.tolist() == [3]


def test_predict_finds_all_of_them_in_their_categories(monkeypatch, write, tmp_path, capsys):
    import kdpose.predict

    for n in range(1, 9):
        Image.new("RGB", (160, 200)).save(tmp_path / f"{n}.png")
    path = write([person(1, 1), person(2, 2)])
    words = (f"source={path}", f"images={tmp_path}", f"boxes={path}", "draw=false", "device=cpu")
    run(monkeypatch, capsys, kdpose.predict, *words, f"out={tmp_path}/all")
    found = json.loads((tmp_path / "all/predictions.json").read_text())
    assert [(p["image_id"], p["category_id"]) for p in found] == [(1, 1), (2, 2)]
    run(monkeypatch, capsys, kdpose.predict, *words, f"out={tmp_path}/one", "category=dragon")
    found = json.loads((tmp_path / "one/predictions.json").read_text())
    assert [(p["image_id"], p["category_id"]) for p in found] == [(2, 2)]


def test_joints_without_names_are_not_counted_but_asked_for(monkeypatch, capsys, write, tmp_path):
    for n in range(1, 9):
        Image.new("RGB", (160, 200)).save(tmp_path / f"{n}.png")
    path = write([person(1, 1, POINTS * 4 + [1, 1, 2])], [{"id": 1, "name": "person"}])
    words = (f"annotations={path}", f"images={tmp_path}", "protocol=coco", "device=cpu")
    code, text = run(monkeypatch, capsys, kdpose.evaluate, *words)
    assert code == 1
    assert "no category names its joints, so their order is unknown: set skeleton=coco" in text
    code, text = run(monkeypatch, capsys, kdpose.evaluate, *words, "skeleton=coco")
    assert code == 0


def test_results_of_another_order_are_matched_by_name(write, tmp_path):
    """``skeleton`` is of the results."""
    order = [3, 1, 0, 2]
    turned = [POINTS[3 * k + i] for k in order for i in range(3)]
    path = write([person(1, 1, turned)], [{**KITE, "keypoints": [JOINTS[k] for k in order]}])
    (tmp_path / "p.json").write_text(json.dumps([result(1, 1)]))
    (tmp_path / "kite.yaml").write_text(f"joints: {JOINTS}")
    assert score_file(tmp_path / "p.json", path, protocol="coco")["AP"] == 0
    given = str(tmp_path / "kite.yaml")
    figures = score_file(tmp_path / "p.json", path, protocol="coco", skeleton=given)
    assert figures["AP"] == pytest.approx(1)
