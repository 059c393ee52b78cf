import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdpose.inference.demo_page import _UPLOAD, Demo, build_page, launch_options
from kdpose.inference.predictor import load
from kdpose.skeletons.known import CROWDPOSE

ROWS, COLUMNS = np.mgrid[0:240, 0:320]
PIXELS = np.stack([ROWS, COLUMNS * 0.7, ROWS * 0.5 + COLUMNS * 0.3], -1).astype(np.uint8)


def two_persons(picture, image_id):
    boxes = np.array([[20, 20, 100, 200], [160, 40, 120, 180]], np.float32)
    return boxes, np.array([0.9, 0.8], np.float32)


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def test_the_answer_is_the_predictors(photo, tiny_checkpoints):
    net = load(tiny_checkpoints["refined"], "cpu")
    demo = Demo(net, two_persons)  # its files go when it goes
    (before, after), rows, path = demo.answer(photo, True, 0.0)
    expected = net(PIXELS, *two_persons(None, 1))
    with open(path) as file:
        assert json.load(file) == expected.to_coco(1)
    np.testing.assert_array_equal(after, expected.draw(boxes=True))
    assert (before != after).any()
    assert [row[0] for row in rows] == list(CROWDPOSE.joints)
    np.testing.assert_allclose([row[1:] for row in rows], expected.scores.T, atol=6e-4)


def test_the_slider_is_a_share_of_the_best_score(photo, tiny_checkpoints):
    net = load(tiny_checkpoints["student"], "cpu")
    for weight in net.net.head.parameters():
        weight.data /= 1000  # bins all but share the probability, as a small network's do
    poses = net(PIXELS, *two_persons(None, 1))
    best = float(poses.scores.max())
    assert best < 0.5  # as an absolute score the slider would hide every joint
    drawn, _, _ = Demo(net, two_persons).answer(photo, True, 0.9)
    np.testing.assert_array_equal(drawn, poses.draw(0.9 * best, boxes=True))
    assert (drawn != poses.draw(1.0, boxes=True)).any()


def test_without_refiner_or_detector(photo, tiny_checkpoints):
    demo = Demo(load(tiny_checkpoints["student"], "cpu"), None)
    drawn, rows, _ = demo.answer(photo, True, 0.0)
    assert drawn.shape == PIXELS.shape
    assert len(rows[0]) == 2
    assert demo.answer(None, True, 0.0) == (None, [], None)


@pytest.mark.slow
def test_large_files_and_other_sites_are_refused(tiny_checkpoints):
    pytest.importorskip("gradio", reason="the extra kdpose[demo] is not installed")
    httpx = pytest.importorskip("httpx", reason="comes with gradio")
    demo = Demo(load(tiny_checkpoints["student"], "cpu"), None)
    page = build_page(demo, "tiny")
    options = launch_options("127.0.0.1") | {"quiet": True}
    _, address, _ = page.launch(prevent_thread_lock=True, **options)
    try:
        statuses = {
            size: httpx.post(
                f"{address}gradio_api/upload",
                files={"files": ("picture.png", b"0" * size)},
                timeout=60,
            ).status_code
            for size in (1000, _UPLOAD + 1)
        }
        other = [{"host": "evil.example"}, {"origin": "http://evil.example"}]
        refused = [httpx.get(address, headers=headers).status_code for headers in other]
        kept = list(Path(demo.folder).rglob("picture.png"))
    finally:
        page.close()
    assert statuses == {1000: 200, _UPLOAD + 1: 413}
    assert refused == [403, 403]
    assert kept


@pytest.mark.slow
def test_in_a_browser(photo, tmp_path, tiny_checkpoints):
    """Upload; see both poses and the scores, leave the persons to the picture, download."""
    pytest.importorskip("gradio", reason="the extra kdpose[demo] is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no browser: neither chromium nor google-chrome is on the PATH")
    demo = Demo(load(tiny_checkpoints["refined"], "cpu"), two_persons)
    page = build_page(demo, "tiny")
    options = launch_options("127.0.0.1") | {"quiet": True}
    _, address, _ = page.launch(prevent_thread_lock=True, **options)
    try:
        with playwright.sync_playwright() as start:
            browser = start.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            tab = browser.new_page(accept_downloads=True)
            tab.goto(address)
            tab.locator("input[type=file]").first.set_input_files(photo)
            tab.get_by_text("person 2").first.wait_for(timeout=60_000)
            expected, _, _ = demo.answer(photo, True, 0.0)
            pictures = [shown(tab, image) for image in tab.locator("img.preview").all()]
            assert len(pictures) == 2
            far = [[np.abs(p - drawn).mean() for p in pictures] for drawn in expected]
            assert sorted(np.argmin(far, axis=1)) == [0, 1]  # each pose is shown by one of them
            assert max(map(min, far)) < 6  # grey levels; the browser gets them compressed
            assert len(downloaded(tab, tmp_path)) == 2
            tab.get_by_label("find persons first").uncheck()
            tab.get_by_text("person 2").first.wait_for(state="detached", timeout=60_000)
            assert len(downloaded(tab, tmp_path)) == 1
            browser.close()
    finally:
        page.close()


def shown(tab, image):
    sent = tab.request.get(image.get_attribute("src")).body()
    return np.asarray(Image.open(io.BytesIO(sent)).convert("RGB")).astype(float)


def downloaded(tab, folder):
    with tab.expect_download() as download:
        tab.get_by_text("COCO results (JSON)").click()
    download.value.save_as(folder / "poses.json")
    return json.loads((folder / "poses.json").read_text())
