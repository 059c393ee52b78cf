from rich.console import Console

from kdpose.display.tables import caption, metrics_table

RECORD = {
    "AP": 0.6534,
    "AP50": 1.0,
    "AP_easy": None,
    "split": "crowdpose_test",
    "annotations_sha256": "1234567890",
    "images": 20,
    "persons": 70,
    "box_source": "gt",
    "boxes_sha256": None,
    "flip": True,
    "flip_shift_bins": 0.5,
    "skeleton": "crowdpose",
    "version": "0.1.0",
    "commit": "abcdef0123456789",
    "dirty": True,
}
DETECTED = RECORD | {"box_source": "/data/det.json", "boxes_sha256": "fedcba9876", "AP": 0.5}


def printed(rows):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(metrics_table("title", rows))
    return [line.split() for line in capture.get().splitlines() if line.strip()]


def test_what_is_not_defined_is_not_a_number():
    _, header, _, row, other = printed({"net": RECORD, "det": DETECTED | {"AP_easy": 0.25}})
    assert header == ["model", "AP", "AP50", "AP_E"]
    assert row == ["net", "65.3", "100.0", "n/a"]
    assert other == ["det", "50.0", "100.0", "25.0"]


def test_80_columns_keep_every_digit():
    figures = {f"AP{end}": 0.667 for end in ("50", "75", "M", "L", "_easy", "_medium", "_hard")}
    row = RECORD | figures | {"APM": 0.667, "APL": 0.667, "AR": 1.0}
    rows = {"a_run_of_a_long_name/with_a_folder": row | {"params": 31_289_521, "gmacs": 7.69179}}
    console = Console(width=80)
    with console.capture() as capture:
        console.print(metrics_table("title", rows))
    text = capture.get()
    assert "…" not in text
    assert text.count("66.7") == 7
    assert "31.29" in text
    assert "7.692" in text
    assert "a_run_of" in text


def test_cost_where_it_is_known():
    cost = {"params": 31_289_521, "gmacs": 7.69179}
    rows = printed({"net": RECORD | cost})
    assert rows[1][-3:] == ["params", "M", "GFLOPs"]
    assert rows[3][-2:] == ["31.29", "7.692"]


def test_caption_says_what_was_measured():
    assert caption(RECORD) == (
        "crowdpose_test (12345678): 70 persons in 20 images, ground-truth boxes, "
        "flip test on (shift 0.5), sigmas of crowdpose, kdpose 0.1.0 abcdef01+"
    )
    plain = caption(DETECTED | {"flip": False, "commit": None, "dirty": None})
    assert "boxes of det.json (fedcba98), flip test off," in plain
    assert plain.endswith("kdpose 0.1.0")
    both = caption(RECORD | {"sources": {"gt": RECORD, "det.json": DETECTED}})
    assert "ground-truth boxes and boxes of det.json (fedcba98), flip" in both


def test_caption_of_a_file_says_no_more_than_is_known():
    file = {"predictions": "/a/r.json", "predictions_sha256": "0011223344", "results": 5}
    unknown = dict.fromkeys(("box_source", "boxes_sha256", "flip", "flip_shift_bins"))
    line = caption(RECORD | unknown | file)
    assert "5 results of r.json (00112233), sigmas of crowdpose" in line
    assert "flip" not in line
    assert "boxes" not in line


def test_caption_of_sigmas_that_nobody_gave():
    doubt = {"sigma_source": "default", "AP_half_sigma": 0.1, "AP_double_sigma": None}
    assert ", default sigmas (AP 10.0 at half, n/a at double the sigmas), " in caption(
        RECORD | doubt
    )
