"""Small files that are whole or not there."""

import json
import os

import pytest

from kdpose.runtime.whole import write_json


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_json(path, {"AP": 1})

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"AP": 2})
    assert json.loads(path.read_text()) == {"AP": 1}
    assert os.listdir(tmp_path) == ["metrics.json"]
