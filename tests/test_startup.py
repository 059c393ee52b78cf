"""Commands answer before anything slow is imported."""

import subprocess
import sys

import pytest

_REPORT = """
import atexit, sys
slow = ("torch", "lightning", "timm", "torchvision", "matplotlib", "cv2")
atexit.register(lambda: print("slow:", *[name for name in slow if name in sys.modules]))
"""
_FOLDER = "data_dir=/nowhere"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--help"], 0, "kdpose train "),
        (["train", "--help"], 0, "Train a pose network"),
        (["train", "--cfg", "job"], 0, "backbone:"),
        (["train", "data.batchsize=3"], 1, "did you mean data.batch_size"),
        (["train", "+experiment=stag1"], 1, "did you mean stage1"),
        (["train", "dataset=coco", _FOLDER], 1, "(from dataset.train.annotations)"),
        (["train", "resume=/nowhere/last.ckpt", "data_dir=/nowhere"], 1, "(from resume)"),
        (["predict", "--help"], 0, "Find poses"),
        (["predict", "source=/nowhere.jpg"], 1, "(from source)"),
        (["predict", "ckpt=/nowhere.ckpt", "source=-"], 1, "(from ckpt)"),
        (["evaluate", "annotations=/nowhere.json"], 1, "(from annotations)"),
        (["evaluate", "predictions=/nowhere.json"], 1, "(from predictions)"),
        (["distill", "teacher.ckpt=/nowhere.ckpt"], 1, "(from teacher.ckpt)"),
        (["export", "ckpt=/nowhere.ckpt"], 1, "(from ckpt)"),
        (["publish", "ckpt=/nowhere.ckpt"], 1, "(from ckpt)"),
        (["complexity", "ckpt=/nowhere.ckpt"], 1, "(from ckpt)"),
        (["demo", "ckpt=/nowhere.ckpt"], 1, "(from ckpt)"),
        (["doctor", "annotations=/nowhere.json", "images=/"], 2, "no annotations at"),
        (["pack", "dataset=coco", _FOLDER], 1, "(from dataset.train.annotations)"),
        (["sigmas", "annotations=[/a.json,/b.json]", "out=/s"], 1, "no annotations at /a.json"),
        (["report", "runs=/nowhere"], 1, "(from runs)"),
        (["convert", "from=coco", "source=/nowhere", "out=/s"], 1, "(from source)"),
        (["benchmark", "--help"], 0, "Measure on this machine"),
    ],
)
def test_nothing_slow_is_imported_before_an_answer(words, status, said):
    code = f"{_REPORT}\nsys.argv = ['kdpose', *{words}]\nfrom kdpose.__main__ import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert said in " ".join((done.stdout + done.stderr).split())
    assert "slow:" in done.stdout
    assert done.stdout.strip().endswith("slow:")
