import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hydra.core.singleton import Singleton
from PIL import Image

import kdpose.evaluate
import kdpose.pack
import kdpose.predict
import kdpose.publish
import kdpose.train
from kdpose.cli import CONF, one_line

REPOSITORY = Path(__file__).parents[1]


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
        ("+experiment=stag1", "error: conf/experiment has no 'stag1'; did you mean stage1"),
        (
            "+experiment=lspet_stage1",
            "error: lspet_stage1 is now +experiment=stage1 dataset=lspet",
        ),
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
    line = said(monkeypatch, capsys, kdpose.publish.main)
    assert line == "error: ckpt must be given: ckpt=VALUE"


@pytest.mark.parametrize(
    ("main", "overrides", "message"),
    [
        (
            kdpose.train.main,
            ["dataset=coco", "+experiment=baseline"],
            "from dataset.train.annotations",
        ),
        (
            kdpose.train.main,
            ["dataset=lspet", "+experiment=stage2"],
            "train it by `kdpose train +experiment=stage1 dataset=lspet`",
        ),
        (
            kdpose.train.main,
            ["dataset=lspet", "+experiment=stage1"],
            "train it by `kdpose train +experiment=teacher dataset=lspet`",
        ),
        (
            kdpose.train.main,  # before the data, which are missing too
            ["dataset=coco", "+experiment=baseline", "start=none.onnx"],
            "none.onnx (from start)",
        ),
        (
            kdpose.train.main,
            ["dataset=coco", "+experiment=full", "student.pretrained_file=none.pth"],
            "none.pth (from student.pretrained_file)",
        ),
        (kdpose.evaluate.main, ["ckpt=/nowhere/best.ckpt"], "no checkpoint at /nowhere/best.ckpt"),
        (
            kdpose.predict.main,
            ["ckpt=README.md", "source=docs/images/coco_photographs.jpg"],
            "is not a checkpoint",
        ),
    ],
)
def test_errors_are_one_helpful_line(
    monkeypatch, capsys, main, overrides, message, tmp_path, crowd
):
    if "lspet" in overrides[0]:  # the data are there, the earlier stage is not
        file = f"{crowd}/annotations/crowdpose_test.json"
        overrides = [*overrides, *(f"dataset.{s}.annotations={file}" for s in ("train", "val"))]
    if main is kdpose.train.main:
        overrides = [*overrides, f"runs={tmp_path}", "data_dir=/nowhere"]
    line = said(monkeypatch, capsys, main, *overrides)
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("predict", "crops: false                  # also write the crop of each box to crops/"),
        ("predict", "  address: null               # of a cluster; null is $RAY_ADDRESS, or this"),
        ("export", "license: null                 # of the weights, for the card in the file"),
        ("doctor", "data_dir: ${oc.env:KDPOSE_DATA,data}"),
    ],
)
def test_help_says_what_each_key_means(monkeypatch, capsys, name, line):
    monkeypatch.setattr(sys, "argv", ["kdpose", "--help"])
    before = Singleton.get_state()  # Hydra keeps the last command's configuration
    with pytest.raises(SystemExit):
        importlib.import_module(f"kdpose.{name}").main()
    Singleton.set_state(before)
    text = capsys.readouterr().out
    assert line in text
    assert not any(word in text for word in ("defaults:", "hydra:", "$CONFIG"))


def test_without_a_command_all_are_listed(monkeypatch, capsys):
    from kdpose.__main__ import main

    monkeypatch.setattr(sys, "argv", ["kdpose"])
    main()
    text = capsys.readouterr().out
    with (Path(CONF).parent / "pyproject.toml").open("rb") as file:
        scripts = tomllib.load(file)["project"]["scripts"]
    names = [name.replace("-", " ") for name in scripts if name != "kdpose"]
    assert all(name in text for name in names)
    assert "kdpose predict      Find poses in images and videos" in text


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trian"], "error: kdpose has no command 'trian'; did you mean `kdpose train`?"),
        (["kdpose.predict"], "did you mean `kdpose predict`?"),
        (["source=x.jpg"], "error: kdpose has no command 'source=x.jpg'; `kdpose` alone lists"),
    ],
)
def test_an_unknown_command_is_answered_by_the_nearest(monkeypatch, capsys, words, line):
    from kdpose.__main__ import main

    monkeypatch.setattr(sys, "argv", ["kdpose", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert line in capsys.readouterr().err


def test_debug_shows_the_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["kdpose", f"ckpt={tmp_path}/none", "debug=true"])
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        kdpose.evaluate.main()


def test_a_fault_of_ours_is_no_line():
    assert one_line(TypeError("ours")) is None
    assert one_line(ValueError("yours")) == "yours"


def test_a_full_disk_is_one_line_with_a_remedy():
    assert one_line(OSError(28, "No space left on device", "/runs/a.json")) == (
        "/runs/a.json cannot be written (No space left on device): free space there or write "
        "elsewhere (out, runs), and repeat the command"
    )


def test_a_killed_data_worker_is_one_line():
    error = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. \nMore.")
    line = one_line(error)
    assert line.startswith("DataLoader worker (pid 7) is killed by signal: Killed, which")
    assert "data.num_workers" in line


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("+experiment=st", "+experiment=stage1"),
        ("dataset=cr", "dataset=crowdpose"),
        ("trainer.max_e", "trainer.max_epochs="),
    ],
)
def test_the_shell_completes(monkeypatch, capsys, typed, offered):
    line = f"kdpose-train {typed}"
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    monkeypatch.setattr(sys, "argv", ["kdpose-train", "-sc", "query=bash"])
    kdpose.train.main()
    assert offered in capsys.readouterr().out.split()


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_consoles_of_other_encodings_and_names_that_look_like_markup(tmp_path, encoding):
    folder = tmp_path / "[old]" / "写真 \U0001f642 :smile:"
    folder.mkdir(parents=True)
    (folder / "a[").mkdir()
    (folder / "a[" / "b].png").write_bytes(b"nothing")  # "[/b]" in its path
    Image.new("RGB", (64, 64)).save(folder / "a[" / "left [red].png")
    words = ["source=.", "boxes=whole", "out=../out", "device=cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "kdpose", "predict", *words],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(REPOSITORY)},
        cwd=folder / "a[",
        capture_output=True,
        check=False,
    )
    said = done.stdout.decode(encoding) + done.stderr.decode(encoding)
    assert done.returncode == 0, said
    assert "skipped: cannot read the image" in said
    assert "/a[/b].png: " in said
    assert "/[old]/" in said
    assert ":smile:" in said
    assert ("写真" in said) == (encoding == "utf-8")
    assert "1 persons in 1 images, 1 skipped: " in said


def test_a_pack_of_several_sets_is_refused(monkeypatch, capsys):
    line = said(monkeypatch, capsys, kdpose.pack.main, "dataset=stanford40_lspet")
    assert "dataset.train lists several sets" in line


@pytest.mark.parametrize("group", ["backbone", "callbacks", "logger"])
def test_a_group_takes_names(kdpose_here, group):
    done = kdpose_here("train", f"{group}=[1,2]", check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: {group} must be names of conf/{group}, got [1,2]\n"
