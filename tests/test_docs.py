"""The README and every page of docs/ hold what they promise.

A page's blocks are taken in their order, in a folder of their own: files are written, Python is
run, and so is every command that ends within seconds; of the others the configuration is composed.
A command that is neither fails its page.
"""

import importlib
import io
import itertools
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image

import kdpose
from kdpose.cli import CONF

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"\A# ((?:kdpose|conf|tests|scripts)/\S+\.(?:py|yaml))\n")  # a block's first line
RUN = re.compile(r"runs/([\w/]+)/best\.ckpt")
TINY = (
    "backbone=mobilenetv4_tiny",
    "head.init=projection",
    "codec.input_size=[48,64]",
    "data.batch_size=4",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=1",
    "callbacks.pictures.persons=2",
)
# what a command is given besides, so that it ends within seconds on a processor
QUICK = {
    "evaluate": ("device=cpu", "num_workers=0"),
    "predict": ("device=cpu",),
    "complexity": (),
    "pack": ("data.num_workers=0",),
    "export": ("gate.persons=4", "latency.rounds=1", "latency.batch=[1]"),
    "publish": ("device=cpu", "budget=100"),
    "report": ("resamples=20",),
}
# commands that are composed alone: (module, word that it has or "", why)
LONG = (
    ("train", "", "trains for minutes to days"),
    ("benchmark", "", "measures for minutes"),
    ("demo", "", "shows its page until it is stopped"),
    ("predict", "boxes=detector", "downloads a detector's weights"),
    ("predict", "source=0", "needs a camera"),
    ("evaluate", "teachers/", "needs a published checkpoint"),
    ("predict", "teachers/", "needs a published checkpoint"),
    ("export", "precision=int8", "measures layer by layer, as tests/deploy does"),
    ("export", "format=openvino", "tests/deploy covers it"),
    ("evaluate", "test-dev", "needs the images of COCO's test-dev"),
)
TRAINED = re.compile(r"synthetic_(?:baseline|stage1|stage2)$")  # experiments quick enough to train


@dataclass(frozen=True)
class Block:
    """What stands between a page's fences, and in which line it begins."""

    language: str
    text: str
    line: int


def blocks(page):
    text = (ROOT / page).read_text()
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in BLOCK.finditer(text)]


def commands(text):
    """The words of each command, pipes and comments taken off."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        pipe = [list(part) for bar, part in itertools.groupby(words, "|".__eq__) if not bar]
        if pipe:
            yield pipe


# --- the folder that a page's reader stands in ---------------------------------------------------


def quick_main(module, *words):
    """Run an entry point in this process, as its command line would."""
    before, sys.argv = sys.argv, [f"kdpose.{module}", *words]
    try:
        importlib.import_module(f"kdpose.{module}").main()
    finally:
        sys.argv = before


def lay_out(crowd, root):
    """Data sets in their layouts, and a reader's own files; all are the same few crowds."""
    names = {"lspet": ("lspet_train", "lspet_val"), "mine": ("train", "val")}
    for name in ("synthetic", "crowdpose", *names):
        folder = root / "data" / name
        (folder / "annotations").mkdir(parents=True)
        (folder / "images").symlink_to(crowd / "images")
        new = names.get(name, ("crowdpose_trainval", "crowdpose_test"))
        for old, file in zip(("crowdpose_trainval", "crowdpose_test"), new, strict=True):
            shutil.copy(
                crowd / "annotations" / f"{old}.json", folder / "annotations" / f"{file}.json"
            )
    lspet = root / "data" / "lspet" / "images"
    lspet.unlink()
    lspet.mkdir()
    for split in ("train", "val"):
        (lspet / split).symlink_to(crowd / "images")
    shutil.copy(crowd / "annotations" / "crowdpose_test.json", root / "A.json")
    (root / "photos").mkdir()
    truth = json.loads((root / "A.json").read_text())
    for image in truth["images"][:2]:
        shutil.copy(crowd / "images" / image["file_name"], root / "photos")
    shutil.copy(next((root / "photos").iterdir()), root / "photo.jpg")
    found = [
        {k: a[k] for k in ("image_id", "bbox", "category_id")} | {"score": 0.9}
        for a in truth["annotations"]
    ]
    (root / "DETECTIONS.json").write_text(json.dumps(found))
    guessed = [
        {**row, "keypoints": np.array(a["keypoints"], float).tolist()}
        for row, a in zip(found, truth["annotations"], strict=True)
    ]
    (root / "RESULTS.json").write_text(json.dumps(guessed))
    video(root / "video.mp4")


def video(path):
    av = pytest.importorskip("av", reason="the extra kdpose[video] is not installed")
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for shade in (0, 100, 200):
            pixels = np.full((120, 160, 3), shade, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())


@pytest.fixture(scope="module")
def trained(crowd, tmp_path_factory):
    """A folder with data, and two networks of one step: a student and the same one refined."""
    root = tmp_path_factory.mktemp("reader")
    lay_out(crowd, root)
    where = (f"data_dir={root}/data", f"runs={root}/trained", *TINY)
    quick_main("train", "+experiment=lspet_baseline", *where)
    student = f"stage1_ckpt={root}/trained/lspet_baseline/best.ckpt"
    labels = ("loss=[refine_label]", "~teacher")
    quick_main("train", "+experiment=lspet_stage2", student, *labels, *where)
    return root


@pytest.fixture
def reader(trained, tmp_path, monkeypatch):
    """A copy of that folder, entered."""
    root = tmp_path / "reader"
    shutil.copytree(trained, root, symlinks=True)
    monkeypatch.chdir(root)
    for name in ("KDPOSE_DATA", "KDPOSE_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # predict raises it
    for package in ("losses", "heads", "codecs", "refiners"):  # where a page's files are found
        module = importlib.import_module(f"kdpose.{package}")
        monkeypatch.setattr(module, "__path__", [*module.__path__, str(root / "kdpose" / package)])
    return root


def earlier_run(root, name):
    """What an earlier command would have left in ``runs/NAME``."""
    folder = root / "runs" / name
    if not folder.exists():
        refined = "stage2" in name or "igp" in name
        source = root / "trained" / ("lspet_stage2" if refined else "lspet_baseline")
        shutil.copytree(source, folder)
        checkpoint = torch.load(folder / "best.ckpt", weights_only=True)
        checkpoint["kdpose"]["experiment"] = name
        torch.save(checkpoint, folder / "best.ckpt")
        cfg = OmegaConf.load(folder / "config.yaml")
        OmegaConf.save(OmegaConf.merge(cfg, {"name": name}), folder / "config.yaml")
        (folder / "last.ckpt").unlink()


# --- what a command is ---------------------------------------------------------------------------


def own_command(words):
    """The module and the rest of ``python -m kdpose.MODULE ...`` or ``kdpose-MODULE ...``."""
    if words[:2] == ["python", "-m"] and words[2].startswith("kdpose."):
        return words[2].removeprefix("kdpose."), words[3:]
    if words[0].startswith("kdpose-"):
        return words[0].removeprefix("kdpose-"), words[1:]
    return None


def composed(module, words):
    """The configuration of each job that the words ask for."""
    overrides = [word for word in words if word not in ("-m", "--multirun")]
    parsed = OverridesParser.create().parse_overrides(overrides)
    choices = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        if "-m" in words and o.is_sweep_override()
        else [o.input_line]
        for o in parsed
    ]
    path = f"hydra.searchpath=[file://{Path.cwd()}/conf]"  # of a page's own files
    with initialize_config_dir(CONF, version_base="1.3"):
        for job in itertools.product(*choices):
            cfg = compose(module, overrides=[*job, path], return_hydra_config=False)
            yield OmegaConf.to_container(cfg, resolve=True)


def why_long(module, words):
    if module == "train":
        name = next((w.partition("=")[2] for w in words if w.startswith("+experiment=")), "")
        if TRAINED.match(name) and "-m" not in words or "dataset=custom" in words:
            return None
    return next(
        (why for name, word, why in LONG if name == module and word in " ".join(words)), None
    )


def follow_own(root, module, words):
    """A command of kdpose: its configuration composes, and it runs where that is quick."""
    for name in RUN.findall(" ".join(words)):
        earlier_run(root, name)
    if any(word.startswith("runs=runs/") for word in words):  # a report's
        folder = next(w for w in words if w.startswith("runs=")).removeprefix("runs=runs/")
        for run in ("baseline_s0", "stage2_s0"):
            earlier_run(root, f"{folder}/{run}")
    assert list(composed(module, words))
    if why_long(module, words):
        return
    more = QUICK.get(module, ())
    if module == "train":
        path = f"hydra.searchpath=[file://{root}/conf]"
        given = {word.partition("=")[0] for word in words}
        more = (path, *(o for o in TINY if o.partition("=")[0] not in given))
        taught = any("stage" in word for word in words)
        more += ("teacher.force=true",) * taught
        for name in ("teacher", "stage1"):
            earlier_run(root, f"synthetic_{name}")
    elif module not in QUICK:
        pytest.fail(f"kdpose.{module} is in neither QUICK nor LONG")
    quick_main(module, *words, *more)


def follow(root, words, stdin):
    """Run or check one command; returns what it printed for the next one of a pipe."""
    own = own_command(words)
    if own is not None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            follow_own(root, *own)
        return ""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    match words:
        case ["make", *targets]:
            subprocess.run(["make", "-n", *targets], cwd=ROOT, check=True, capture_output=True)
        case ["source", ".venv/bin/activate"]:
            assert "BIN := .venv/bin" in (ROOT / "Makefile").read_text()
        case ["pip", "install", *wanted]:
            for extra in re.findall(r"[\w]+", "".join(re.findall(r"\[(.*?)\]", " ".join(wanted)))):
                assert extra in project["optional-dependencies"]
        case ["python", "-m", "pytest", *files]:
            for file in files:
                run_tests(root / file)
        case ["python", script, *_] if (root / script).is_file():
            done = subprocess.run(
                [sys.executable, *words[1:]], check=False, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            return done.stdout
        case ["find" | "ls", *_]:
            return subprocess.run(words, check=True, capture_output=True, text=True).stdout
        case _:
            pytest.fail(f"no test knows what to do with: {shlex.join(words)}")
    return ""


def run_tests(file):
    """The tests of a page's own file, which take no fixtures."""
    found = {k: v for k, v in runpy.run_path(str(file)).items() if k.startswith("test_")}
    assert found
    for test in found.values():
        test()


# --- the tests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page, reader):
    for block in blocks(page):
        name = FILE.match(block.text)
        try:
            if name:
                path = reader / name[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
            elif block.language == "bash":
                for pipe in commands(block.text):
                    said = ""
                    for words in pipe:
                        said = follow(reader, words, said)
            elif block.language == "python":
                for run in RUN.findall(block.text):
                    earlier_run(reader, run)
                exec(compile(block.text, f"{page}:{block.line}", "exec"), {"__name__": page})
            elif block.language == "json":
                json.loads(block.text)
            elif block.language == "yaml":
                OmegaConf.create(block.text)
            else:
                assert block.language in ("", "text"), block.language
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{page}, block in line {block.line}: {error}") from error


def helped():
    """The commands that ``--help`` shows, with the module that shows them."""
    for config in sorted(Path(CONF).glob("*.yaml")):
        text = config.read_text().replace("\\\n", " ")
        for line in re.findall(r"^\s+(?:.* \| )?(python -m kdpose\..*)$", text, re.MULTILINE):
            yield config.stem, re.split(r"\s{3,}", line)[0]


@pytest.mark.parametrize("config", sorted({config for config, _ in helped()}))
def test_help_shows_commands_that_compose(config, reader):
    for name, line in helped():
        if name == config:
            module, words = own_command(shlex.split(line))
            assert module == config
            assert list(composed(module, words)), line


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = BLOCK.sub("", (ROOT / page).read_text())
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), target
    for path in re.findall(r"`((?:kdpose|conf|docs|results|tests|notebooks)/[\w/.]+\w)`", text):
        assert (ROOT / path).exists(), path


def test_a_command_that_is_unknown_fails(tmp_path):
    for text in ("rm -rf /", "python -m kdpose.nothing a=b", "curl x | sh"):
        (pipe, *_) = commands(text)
        with pytest.raises((pytest.fail.Exception, Exception), match=r"no test|missing|nothing"):
            follow(tmp_path, pipe[0], "")


def test_pages_are_in_the_index():
    readme = (ROOT / "README.md").read_text()
    assert [page for page in PAGES[1:] if f"]({page})" not in readme] == []
    assert kdpose.__doc__
