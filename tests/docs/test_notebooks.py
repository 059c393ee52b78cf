"""The notebooks run from top to bottom, define nothing, and hold no outputs."""

import ast
import json
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
CHECKS = {  # what a notebook's names must hold in the end
    "quickstart": lambda names: names["poses"].keypoints.shape == (len(names["boxes"]), 14, 2),
    "own_data": lambda names: 0 <= names["metrics"]["AP"] <= 1 and len(names["poses"]) > 0,
    "compare_runs": lambda names: [row.label for row in names["rows"]] == ["baseline", "stage2"],
}


def cells(path, kind="code"):
    notebook = json.loads(path.read_text())
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_has_no_outputs_and_defines_nothing(path):
    assert cells(path)
    assert cells(path, "markdown")
    for cell in cells(path):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        tree = ast.parse("".join(cell["source"]))
        assert not [node for node in ast.walk(tree) if isinstance(node, defined)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, reader, monkeypatch):
    for name in ("synthetic_stage2", "lspet_ablation/baseline_s0", "lspet_ablation/stage2_s0"):
        reader.earlier_run(name)
    table = reader.root / "runs" / "synthetic_full"  # what the pipeline leaves
    table.mkdir(exist_ok=True)
    (table / "table.md").write_text("| model | AP |\n")
    Image.new("RGB", (8, 8)).save(table / "poses.jpg")
    (reader.root / "notebooks").mkdir(exist_ok=True)
    monkeypatch.chdir(reader.root / "notebooks")
    names = {"__name__": path.stem}
    for number, cell in enumerate(cells(path)):
        code = compile("".join(cell["source"]), f"{path.name}, code cell {number}", "exec")
        exec(code, names)
    assert CHECKS[path.stem](names)
