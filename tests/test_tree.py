"""Files and functions stay short."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [file for name in ("kdpose", "benchmarks", "tests") for file in (ROOT / name).rglob("*.py")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_over_300_lines_and_no_function_over_40(file):
    text = file.read_text()
    assert text.count("\n") <= 300
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    lines = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, functions)
    }
    assert {name: count for name, count in lines.items() if count > 40} == {}
