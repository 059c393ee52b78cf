"""Which boxes an evaluation takes."""

import shutil

import pytest

from kdpose.data.detections import box_sources


def test_boxes_by_themselves(truth, detections, tmp_path, caplog):
    assert box_sources("gt", truth) == {"gt": "gt"}
    assert box_sources(str(detections), truth) == {"det.json": str(detections)}
    assert list(box_sources(["gt", str(detections)], truth)) == ["gt", "det.json"]
    with pytest.raises(ValueError, match="files of different names, got"):
        box_sources([str(detections), "elsewhere/det.json"], truth)
    with pytest.raises(ValueError, match="must name one or more"):
        box_sources([], truth)
    copied = tmp_path / "annotations" / "crowdpose_test.json"
    copied.parent.mkdir()
    shutil.copy(truth, copied)
    assert box_sources("auto", copied) == {"gt": "gt"}
    assert "no det_for_crowd_test_0.1_0.5.json in" in caplog.text
    usual = copied.parent / "det_for_crowd_test_0.1_0.5.json"
    shutil.copy(detections, usual)
    assert box_sources("auto", copied) == {"gt": "gt", usual.name: str(usual)}
