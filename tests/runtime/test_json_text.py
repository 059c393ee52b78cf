import math

import pytest

from kdpose.runtime.json_text import read_json

TEXT = '{"a": "é", "b": [1, 2.5]}'


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-mark", "utf-16-be-mark", "utf-32"]
)
def test_encodings(tmp_path, encoding):
    path = tmp_path / "a.json"
    if encoding.endswith("mark"):
        path.write_bytes(("\ufeff" + TEXT).encode(encoding.removesuffix("-mark")))
    else:
        path.write_text(TEXT, encoding=encoding)
    assert read_json(path, "annotations") == {"a": "é", "b": [1, 2.5]}


def test_what_python_writes_for_no_number(tmp_path):
    (tmp_path / "a.json").write_text("[NaN, -Infinity]")
    nan, low = read_json(tmp_path / "a.json", "boxes")
    assert math.isnan(nan)
    assert low == -math.inf


@pytest.mark.parametrize(
    "data", [b"", b"{", b"<html>", b"\xff\xfe{", b"\xff\xd8\xff\xe0", b"[" * 9999]
)
def test_what_is_no_json_is_named(tmp_path, data):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"^{path} \(from boxes\) is not JSON: ") as error:
        read_json(path, "boxes")
    assert "\n" not in str(error.value)
