import sys

import pytest

import kdpose.evaluate
import kdpose.train
from kdpose.cli import one_line


def said(monkeypatch, capsys, main, *overrides):
    """The one line that a command ends with."""
    monkeypatch.setattr(sys, "argv", ["kdpose", *overrides])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("data.batchsize=3", "error: Could not override 'data.batchsize'; did you mean data.batch"),
        ("+experiment=lspet_stag1", "error: conf/experiment has no 'lspet_stag1'; did you mean ls"),
        ("backbone=hrnet_w23", "error: conf/backbone has no 'hrnet_w23'; did you mean hrnet_w32"),
        ("batch_size=3", "error: Could not override 'batch_size'; did you mean data.batch_size?"),
        ("qqqqqq=3", "error: Could not override 'qqqqqq'; --help lists what there is"),
        ("name=a=b", "error: cannot read name=a=b: a value with signs in it is quoted, as in"),
    ],
)
def test_a_misspelt_override_is_answered_by_the_nearest(monkeypatch, capsys, override, line):
    assert said(monkeypatch, capsys, kdpose.train.main, override).startswith(line)


def test_a_key_of_the_experiment_alone_is_known(monkeypatch, capsys):
    overrides = ("+experiment=coco_stage1", "teacher.ckp=x")
    assert "did you mean teacher.ckpt" in said(monkeypatch, capsys, kdpose.train.main, *overrides)


def test_what_must_be_given_is_named(monkeypatch, capsys):
    line = said(monkeypatch, capsys, kdpose.evaluate.main)
    assert line == "error: ckpt must be given: ckpt=VALUE"


def test_debug_shows_the_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["kdpose", f"ckpt={tmp_path}/none", "debug=true"])
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        kdpose.evaluate.main()


def test_a_fault_of_ours_is_no_line():
    assert one_line(TypeError("ours")) is None
    assert one_line(ValueError("yours")) == "yours"
