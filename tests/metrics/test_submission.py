import json
import zipfile

import pytest

from kdpose.metrics.submission import write_submission

RESULT = {"image_id": 9, "category_id": 1, "keypoints": [1.5] * 51, "score": 0.25}


@pytest.mark.parametrize(
    ("split", "testset"),
    [("image_info_test-dev2017", "test-dev2017"), ("person_keypoints_val2017", "val2017")],
)
def test_the_servers_file_in_a_zip(tmp_path, split, testset):
    results = [RESULT | {"region": [0, 0, 1, 1]}, RESULT | {"score": 0.5}]
    path = write_submission(tmp_path / "new" / "a.zip", results, split, "coco_stage2 (mine)")
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        (name,) = file.namelist()
        content = json.loads(file.read(name))
    assert name == f"person_keypoints_{testset}_coco-stage2-mine_results.json"
    assert content == [RESULT, RESULT | {"score": 0.5}]


def test_another_suffix(tmp_path):
    with pytest.raises(
        ValueError, match=rf"{tmp_path}/a.json \(from submission\) must end in .zip"
    ):
        write_submission(tmp_path / "a.json", [], "val", "a")
