"""A stranger's pack is refused in one line that names it, and nothing happens."""

import copy
import json

import numpy as np
import pytest

from kdpose.data.sources.packed import FORMAT, Pack

pytestmark = pytest.mark.usefixtures("canary")


def test_a_pack_of_pickles(tmp_path, canary, refused, touch):
    (tmp_path / "pack.json").write_text(json.dumps({"format": FORMAT, "encoding": "jpeg"}))
    evil = np.array([touch(canary)], dtype=object)
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
def test_shards(tmp_path, key, value, refused):
    shards = pytest.importorskip("kdpose.data.sources.streamed")
    index = copy.deepcopy(INDEX)
    (tmp_path / "pack.json").write_text("{}")
    (tmp_path / "index.json").write_text(json.dumps(index))
    shards.Shards(str(tmp_path))
    (index if key == "chunks" else index["config"])[key] = value
    (tmp_path / "index.json").write_text(json.dumps(index))
    refused(tmp_path / "index.json", shards.Shards, str(tmp_path))
