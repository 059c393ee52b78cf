"""The whole command on real photographs, tiny, and its page in a browser."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import kdpose.distill
from kdpose.checkpoints.load import load_net
from kdpose.deploy.runner import open_model
from kdpose.inference.multipose import FILE
from kdpose.pose_net import RefinedPoseNet
from kdpose.reports.student.page import write_page
from kdpose.runtime.provenance import sha256

SECTIONS = ("files", "results", "training", "pictures", "data", "teacher", "gate", "speed")
SECTIONS += ("lineage", "use")
TINY = (
    "name=tiny",
    "student=resnet10_narrow",
    "teacher_backbone=resnet10_narrow",
    "+scale=cpu",
    "data.batch_size=4",
    "optimizer.lr=0.005",  # so that few joints are left undecided
    "codec.sigma=2",
    "data.num_workers=0",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "teacher.force=true",  # after so few steps no teacher is better than chance
    """pipeline.stages.stage2.overrides=['refiner.hidden=16','refiner.widths=[16,16,16]']""",
    "export.gate.persons=10",
    "export.latency.rounds=1",
    "export.calibration.persons=4",
    "export.calibration.scored=8",
    "export.calibration.share=null",  # integers move an untrained network's joints far: let AP
    "export.gate.share.int8=null",  # judge, which is too low to
    "speed.repeats=1",
)


def first_images(annotations, count, path):
    """A copy of the file with its first images alone, to keep the test short."""
    data = json.loads(annotations.read_text())
    data["images"] = data["images"][:count]
    kept = {image["id"] for image in data["images"]}
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in kept]
    path.write_text(json.dumps(data))


def command(*overrides):
    """Run it in this process; the status it ends with."""
    before, sys.argv = sys.argv, ["kdpose.distill", *map(str, overrides)]
    try:
        kdpose.distill.main()
    except SystemExit as ended:
        return ended.code
    finally:
        sys.argv = before
    return 0


@pytest.fixture(scope="module")
def own(real_data, tmp_path_factory):
    """Overrides that name own data and a folder for runs; that folder."""
    folder = tmp_path_factory.mktemp("distill")
    coco = real_data / "coco_mini"
    named = []
    for split, count in (("train", 10), ("val", 6)):
        path = folder / f"{split}.json"
        first_images(coco / "annotations" / f"person_keypoints_{split}2017.json", count, path)
        named += [f"dataset.{split}.annotations={path}"]
        named += [f"dataset.{split}.images={coco}/{split}2017"]
    return (*named, f"runs={folder}/runs"), folder / "runs"


@pytest.fixture(scope="module")
def made(own):
    """The command's folder, the teacher trained as well, and how it ended."""
    where, runs = own
    code = command(*where, *TINY, "pipeline.baseline=true")
    return runs / "tiny", code


def read(folder, name):
    return json.loads((folder / name).read_text())


@pytest.mark.slow
def test_a_rejected_file_loses_nothing_else_and_fails_the_command(made):
    folder, code = made
    assert code == 1
    fp32, int8 = read(folder, "exports.json")["files"]
    assert fp32["passed"] is True
    says, _ = open_model(fp32["path"], 1)
    assert says["precision"] == "fp32"
    assert int8["passed"] is False  # nobody can see an AP of nothing fall
    assert "too low to show a loss" in int8["fault"]
    assert Path(int8["path"]).parent.name == "rejected"
    page = (folder / "report.html").read_text()
    assert "1 of 2 exported files must not be used" in page
    assert "too low to show a loss" in page
    assert {"head", "refiner.graph"} <= set(int8["train_cost_by_group"])
    for group in int8["train_cost_by_group"]:
        assert f'<th scope="row">{group}</th>' in page


@pytest.mark.slow
def test_stage_1_is_exported_and_the_refinement_weighed(made):
    folder, _ = made
    exports, found = read(folder, "exports.json"), read(folder, "refinement.json")
    plain = exports["stage1"][0]
    assert Path(plain["path"]).parent == folder / "exported" / "stage1"
    assert plain["bytes"] < exports["files"][0]["bytes"]
    rows = read(folder, "table.json")
    assert found["gain"] == pytest.approx(rows["stage2"]["AP"] - rows["stage1"]["AP"], abs=1e-4)
    assert found["low"] <= found["gain"] <= found["high"]
    assert found["times"] > 0
    assert found["pays"] == (found["low"] > 0)
    page = (folder / "report.html").read_text()
    assert "The refinement takes" in page
    assert ("use stage 1" in page) == (not found["pays"])


@pytest.mark.slow
def test_the_student_is_of_the_backbone_that_was_named(made):
    folder, _ = made
    rows = read(folder, "table.json")
    assert list(rows) == ["teacher", "baseline", "stage1", "stage2"]
    refined = load_net(rows["stage2"]["ckpt"])
    assert isinstance(refined.net, RefinedPoseNet)
    student = refined.description["net"]["student"]
    assert student["backbone"]["name"] == "resnet10t"
    assert refined.description["dataset"]["name"] == "custom"


@pytest.mark.slow
def test_every_figure_of_the_page_is_in_its_files(made):
    folder, _ = made
    page = (folder / "report.html").read_text()
    rows, speed = read(folder, "table.json"), read(folder, "speed.json")
    for row in rows.values():
        assert f"<td>{row['params'] / 1e6:.2f}</td>" in page
    for row in speed["rows"]:
        assert f"<td>{row['ms']:.2f}</td>" in page
    fp32 = read(folder, "exports.json")["files"][0]
    assert f"{fp32['bytes'] / 1e6:.2f} MB" in page
    about = read(folder, "distill.json")
    for sha in (about["data"]["train"]["sha256"], *about["teacher"]["sha256"]):
        assert sha in page
    assert about["config_sha256"] in page


@pytest.mark.slow
def test_started_again_it_goes_on_and_takes_a_teacher_as_it_is(made, own, capsys):
    folder, _ = made
    where, _ = own
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/best.ckpt")}
    teacher = f"teacher.ckpt={folder}/teacher/best.ckpt"
    assert command(*where, *TINY, "export.files=[onnx/fp32]", teacher) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/best.ckpt")} == before
    assert capsys.readouterr().out.count("finished already") == 2
    assert list(read(folder, "table.json")) == ["teacher", "stage1", "stage2"]
    page = (folder / "report.html").read_text()
    assert "must not be used" not in page
    assert "not trained without a teacher (pipeline.baseline=true)" in page


@pytest.mark.slow
def test_a_part_without_data_says_so(made, tmp_path):
    folder, _ = made
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("table.json", "distill.json"):
        shutil.copy(folder / name, bare)
    page = write_page(bare).read_text()
    for said in ("there is no doctor.json", "there is no speed.json", "No file was exported"):
        assert said in page


@pytest.mark.slow
def test_a_foreign_teacher_on_photographs_without_boxes(real_data, own, tmp_path, capsys):
    """Only the validation split is labelled; the detector and an ONNX file do the rest."""
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for photo in sorted((real_data / "coco_mini/train2017").iterdir())[:6]:
        shutil.copy(photo, photographs)
    where = [word for word in own[0] if "dataset.train" not in word]
    words = ["dataset.train.annotations=null", f"dataset.train.images={photographs}"]
    words += ["teacher=onnx", f"teacher.file={FILE}", "teacher.input_size=[192,256]"]
    words += ["name=photographs", "trainer.max_epochs=1", "export.files=[]"]
    assert command(*where, *TINY, *words) == 0
    folder = own[1] / "photographs"
    boxes = read(folder, "boxes.json")
    assert (len(boxes["images"]), len(boxes["categories"][0]["keypoints"])) == (6, 17)
    assert f"boxes of {len(boxes['annotations'])} persons in 6 images" in (
        " ".join(capsys.readouterr().out.split())
    )
    rows = read(folder, "table.json")
    assert list(rows) == ["teacher", "stage1", "stage2"]
    assert rows["teacher"]["AP"] > 0.1
    assert rows["teacher"]["guest"] == f"{FILE} (from teacher.file)"
    about = read(folder, "distill.json")
    assert about["teacher"]["sha256"] == [sha256(FILE)]
    assert about["data"]["train"]["annotations"] == str(folder / "boxes.json")
    page = (folder / "report.html").read_text()
    assert f"{100 * rows['teacher']['AP']:.1f}" in page
    assert page.count("pose: teacher") > 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.slow
def test_the_page_in_a_browser(made, scheme):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no browser: neither chromium nor google-chrome is on the PATH")
    address = (made[0] / "report.html").as_uri()
    asked, complaints = [], []
    with playwright.sync_playwright() as start:
        browser = start.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(color_scheme=scheme, viewport={"width": 360, "height": 740})
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(address)
        for section in SECTIONS:
            assert tab.locator(f"section#{section} h2").count() == 1, section
        assert tab.locator("section#training svg").count() >= 5
        assert tab.locator("section#pictures img").count() >= 4
        assert tab.evaluate("[...document.images].every(i => i.naturalWidth > 0 && i.alt)")
        for width in (360, 1200):
            tab.set_viewport_size({"width": width, "height": 740})
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
        ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(ids) == len(set(ids))
        assert tab.evaluate(CONTRAST) >= 4.5
        browser.close()
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert complaints == []


# least contrast of any text with the page, by WCAG's formula
CONTRAST = """() => {
  const channels = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => channels(c).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if (channels(c)[3] !== 0) return c; } };
  const texts = [...document.body.querySelectorAll('*')].filter(e => !e.closest('svg') &&
    [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()));
  return Math.min(...texts.map(e => {
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05); }));
}"""


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["student=resnet10_narow"],
            "conf/backbone has no 'resnet10_narow'; did you mean resnet10",
        ),
        (["export.files=[onnx/int4]"], "precision one of fp32, fp16, int8, got onnx and int4"),
        (["teacher.ckpt=/nowhere/t.pth"], "no checkpoint at /nowhere/t.pth (from teacher.ckpt)"),
        (["dataset.val.annotations=/nowhere/val.json"], "needs a second file beside it for valid"),
    ],
)
def test_refused_before_any_work(own, capsys, overrides, message):
    where, _ = own
    assert command(*where, *TINY, "name=refused", *overrides) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
