import pytest

from benchmarks.startup import _start, cases


def test_all_are_compared_with_torch(tmp_path):
    first, *others = cases(tmp_path)
    assert first.name == "import torch"
    assert {case.reference for case in others} == {"import torch"}
    assert next(case for case in others if case.name == "import kdpose").run() == 1


def test_what_fails_is_no_figure(tmp_path):
    with pytest.raises(RuntimeError, match="no_such_module"):
        _start(["-c", "import no_such_module"], tmp_path)
