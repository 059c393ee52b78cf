import json

import pytest

from kdpose.runtime.annotation_file import AnnotationFile

IMAGE = {"id": 7, "file_name": "a.png", "width": 160, "height": 200}


def write(folder, content):
    path = folder / "a.json"
    path.write_text(json.dumps(content))
    return path


def test_what_was_derived_is_said_once(tmp_path, caplog):
    persons = [{"id": n, "image_id": 7, "keypoints": [80, 30, 2]} for n in range(3)]
    path = write(tmp_path, {"images": [IMAGE], "annotations": persons})
    for _ in range(2):
        file = AnnotationFile.read(path)
    assert [person["bbox"] for person in file.content["annotations"]] == [[79, 29, 2, 2]] * 3
    (line,) = caplog.messages
    assert line.startswith(f"{path} (from annotations): 3 persons have no bbox: derived")


def test_null_lists_are_absent(tmp_path):
    path = write(tmp_path, {"images": [IMAGE], "annotations": None, "categories": None})
    assert AnnotationFile.read(path).counts() == (1, 0)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([{"image_id": 1}], "is a list: of detections or results, not an annotation file"),
        ("text", "must be an object, got a str"),
        ({"images": {}, "annotations": 5}, "'annotations' must be a list, got 5"),
        ({"images": [], "categories": ["cat"]}, "'categories' must be a list of objects"),
        ({"images": [5, IMAGE]}, "image number 0 is not an object"),
        (
            {"images": [IMAGE], "annotations": [{"id": 3, "image_id": 7, "bbox": [1]}] * 2},
            r"annotation 3 must have bbox .*\(and 1 more; `kdpose doctor` lists them\)",
        ),
    ],
)
def test_files_that_cannot_be_used(tmp_path, content, match):
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=match) as error:
        AnnotationFile.read(path, "source")
    assert str(error.value).startswith(f"{path} (from source)")
