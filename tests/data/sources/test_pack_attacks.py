"""A stranger's pack is refused in one line that names it, and nothing happens."""

import copy
import json
import os
import re

import numpy as np
import pytest

from kdpose.data.sources.packed import FORMAT, Pack

SECRET = "a-value-of-the-environment"


@pytest.fixture(autouse=True)
def canary(monkeypatch, tmp_path, capfd):
    """The file that an attack would write; it must never exist, and no secret be printed."""
    monkeypatch.setenv("KDPOSE_CANARY", SECRET)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    path = tmp_path / "canary"
    yield path
    assert not path.exists()
    assert SECRET not in "".join(capfd.readouterr())


def refused(path, read, *arguments):
    """Refused in one line that names the file; returns the line."""
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        read(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 800
    assert SECRET not in line
    return line


class Touch:
    """A pickle that writes."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pack_of_pickles(tmp_path, canary):
    (tmp_path / "pack.json").write_text(json.dumps({"format": FORMAT, "encoding": "jpeg"}))
    evil = np.array([Touch(canary)], dtype=object)
    np.savez(tmp_path / "index.npz", start=evil, extent=evil, frame=evil, length=evil)
    refused(tmp_path / "index.npz", Pack, tmp_path)


INDEX = {
    "chunks": [{"filename": "chunk-0-0.bin"}],
    "config": {
        "data_format": ["int", "bytes", "no_header_numpy:10"],
        "data_spec": json.dumps(
            [
                1,
                {
                    "type": "builtins.dict",
                    "context": '["row", "jpeg", "frame"]',
                    "children_spec": [{"type": None, "context": None, "children_spec": []}] * 3,
                },
            ]
        ),
        "item_loader": "PyTreeLoader",
        "compression": None,
        "encryption": None,
    },
}
IMPORTS = json.dumps([1, {"type": "x", "context": '{"__enum__": "os:x"}', "children_spec": []}])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data_format", ["int", "pickle", "no_header_numpy:10"]),
        ("data_format", ["int", "bytes", "x:pickle"]),
        ("data_format", ["int", "bytes", "graph:pickle"]),
        ("data_spec", IMPORTS),
        ("data_spec", None),
        ("item_loader", "ParquetLoader"),
        ("compression", "zstd"),
        ("chunks", [{"filename": "../../chunk-0-0.bin"}]),
    ],
)
def test_shards(tmp_path, key, value):
    shards = pytest.importorskip("kdpose.data.sources.streamed")
    index = copy.deepcopy(INDEX)
    (tmp_path / "pack.json").write_text("{}")
    (tmp_path / "index.json").write_text(json.dumps(index))
    shards.Shards(str(tmp_path))
    (index if key == "chunks" else index["config"])[key] = value
    (tmp_path / "index.json").write_text(json.dumps(index))
    refused(tmp_path / "index.json", shards.Shards, str(tmp_path))
