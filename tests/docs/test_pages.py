"""The README and every page of docs/ hold what they promise.

A page's blocks are taken in order, in a folder of their own: files are written, Python and quick
commands are run, other commands are composed alone. A command that is neither fails its page.
"""

import io
import itertools
import json
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from kdpose.cli import CONF, spelt_out

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
]
TRAINING = (
    "README.md",
    *(f"docs/{name}.md" for name in ("deploy", "distil_teacher", "extend", "own_data", "train")),
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"\A# ([\w/]+\.(?:py|yaml))\n")  # a block's first line
RUN = re.compile(r"runs/([\w/]+)/best\.ckpt")
# what a command is given besides, so that it ends within seconds on a processor
QUICK = {
    "evaluate": ("device=cpu", "num_workers=0"),
    "predict": ("device=cpu",),
    "complexity": (),
    "pack": ("data.num_workers=0",),
    "doctor": (),
    "sigmas": (),
    "export": ("gate.persons=10", "latency.rounds=1", "latency.batch=[1]"),
    "publish": ("device=cpu", "budget=100"),
    "report": ("resamples=20",),
}
LONG = (  # commands that are composed alone: (module, word that it has or "", why)
    ("train", "", "trains for minutes to days"),
    ("distill", "", "trains for hours; tests/test_distill.py runs it small"),
    ("benchmark", "", "measures for minutes"),
    ("report", "s=[", "needs runs of an hour"),
    ("report", "costs=", "needs what a benchmark measured: tests/reports has both"),
    ("convert", "", "needs files of other tools; tests/formats runs it on such"),
    ("demo", "", "shows its page until it is stopped"),
    ("predict", "boxes=detector", "downloads a detector's weights"),
    ("predict", "source=0", "needs a camera"),
    ("pack", "shards=/", "writes where a reader has his large disk"),
    ("evaluate", "teachers/", "needs a published checkpoint"),
    ("predict", "teachers/", "needs a published checkpoint"),
    ("export", "precision=int8", "measures layer by layer, as tests/deploy does"),
    ("export", "format=openvino", "tests/deploy covers it"),
    ("evaluate", "test-dev", "needs the images of COCO's test-dev"),
)
QUICK_TO_TRAIN = ("+scale=synthetic", "refiner=pose_mlp", "dataset=custom", "dataset=mixed")


class Block(NamedTuple):
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


# --- what a command is ---------------------------------------------------------------------------


def own_command(words):
    """Module and arguments of ``kdpose MODULE``, ``python -m kdpose.MODULE``, ``kdpose-MODULE``."""
    if words[0] == "srun":
        words = words[1:]
    if words[0].rpartition("/")[2] == "kdpose":
        return words[1], words[2:]
    if words[0].startswith("kdpose-"):
        return words[0].removeprefix("kdpose-"), words[1:]
    if words[0] in ("python", "torchrun") and "-m" in words:
        module, *rest = words[words.index("-m") + 1 :]
        if module.startswith("kdpose."):
            return module.removeprefix("kdpose."), rest
    return None


def composed(module, words):
    """The configuration of each job that the words ask for."""
    keys = [word for word in words if word not in ("-m", "--multirun")]
    parsed = OverridesParser.create().parse_overrides(spelt_out(module, keys))
    choices = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        if "-m" in words and o.is_sweep_override()
        else [o.input_line]
        for o in parsed
    ]
    path = f"hydra.searchpath=[file://{Path.cwd()}/conf]"  # of a page's own files
    with initialize_config_dir(CONF, version_base="1.3"):
        for end in {0, -1} if "-m" in words else {0}:  # a sweep's first and last job
            job = [values[end] for values in choices]
            cfg = compose(module, overrides=[*job, path], return_hydra_config=False)
            yield OmegaConf.to_container(cfg, resolve=True)


def why_long(module, words):
    """Why the command is composed alone; None where it is run."""
    line = " ".join(words)
    alone = "-m" not in words and "trainer=" not in line  # one job, in this process
    if module == "train" and alone and any(word in words for word in QUICK_TO_TRAIN):
        return None
    return next((why for name, word, why in LONG if name == module and word in line), None)


def follow_own(reader, module, words):
    """A command of kdpose: its configuration composes, and it runs where that is quick."""
    line = " ".join(words)
    for name in RUN.findall(line):
        reader.earlier_run(name)
    for folder in re.findall(r"runs=runs/(\S+)", line):  # a report's
        reader.earlier_run(f"{folder}/baseline_s0", f"{folder}/stage2_s0")
    if (module, *words) in reader.followed:
        return
    reader.followed.add((module, *words))
    assert list(composed(module, words))
    if why_long(module, words):
        return
    if module == "train":
        for name in ("synthetic_teacher", "synthetic_stage1", "lspet_teacher", "lspet_stage1"):
            reader.earlier_run(name)
        reader.train(*words)
    elif module in QUICK:
        reader.main(module, *words, *QUICK[module])
    else:
        pytest.fail(f"kdpose.{module} is in neither QUICK nor LONG")


def follow(reader, words, stdin):
    """Run or check one command; returns what it printed for the next one of a pipe."""
    own = own_command(words)
    if own is not None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            follow_own(reader, *own)
        return ""
    match words:
        case ["python", "-m", "pytest", *files]:
            for file in files:
                run_tests(reader.root / file)
        case ["python", script, *_] if (reader.root / script).is_file():
            done = subprocess.run(
                [sys.executable, *words[1:]], check=False, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            return done.stdout
        case ["find" | "ls", *_]:
            return subprocess.run(words, check=True, capture_output=True, text=True).stdout
        case _:
            check_foreign(words)
    return ""


def check_foreign(words):
    """Check a command of others that is not run: that it names what there is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    match words:
        case ["make", *targets]:
            subprocess.run(["make", "-n", *targets], cwd=ROOT, check=True, capture_output=True)
        case ["export", setting]:  # what the test of the command below it sets, too
            assert setting.partition("=")[0] in (ROOT / "tests/test_scale_out.py").read_text()
        case ["eval", script] if made := re.fullmatch(
            r"\$\((kdpose-\w+) -sc install=bash\)", script
        ):
            assert made[1] in project["scripts"]
        case ["source", ".venv/bin/activate"]:
            assert "BIN := .venv/bin" in (ROOT / "Makefile").read_text()
        case ["pip", "uninstall", "--yes", *packages]:
            assert packages
        case ["pip", "install", *wanted] | [
            "uv", "pip", "install", "--torch-backend", "cpu", *wanted,
        ]:  # fmt: skip
            for extra in re.findall(r"[\w]+", "".join(re.findall(r"\[(.*?)\]", " ".join(wanted)))):
                assert extra in project["optional-dependencies"]
        case [*keys] if all("=" in key for key in keys):  # what can be added to kdpose.distill
            assert list(composed("distill", keys))
        case _:
            pytest.fail(f"no test knows what to do with: {shlex.join(words)}")


def run_tests(file):
    """The tests of a page's own file, which take no fixtures."""
    found = {k: v for k, v in runpy.run_path(str(file)).items() if k.startswith("test_")}
    assert found
    for test in found.values():
        test()


# --- the tests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow) if page in TRAINING else page for page in PAGES],
)
def test_a_page_does_what_it_says(page, reader):
    for block in blocks(page):
        name = FILE.match(block.text)
        try:
            if name:
                path = reader.root / name[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
            elif block.language == "bash":
                for pipe in commands(block.text):
                    said = ""
                    for words in pipe:
                        said = follow(reader, words, said)
            elif block.language == "python":
                for run in RUN.findall(block.text):
                    reader.earlier_run(run)
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
        for line in re.findall(r"^\s+(?:.* \| )?(kdpose [a-z]+(?: .*)?)$", text, re.MULTILINE):
            yield config.stem, re.split(r"\s{3,}", line)[0]


@pytest.mark.parametrize("config", sorted({config for config, _ in helped()}))
def test_help_shows_commands_that_compose(config, reader):
    for name, line in helped():
        if name == config:
            assert list(composed(*own_command(shlex.split(line)))), line


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = BLOCK.sub("", (ROOT / page).read_text())
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), target
    for path in re.findall(r"`((?:kdpose|conf|docs|results|tests|notebooks)/[\w/.]+\w)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tar xf data.tar", "no test knows what to do with: tar xf data.tar"),
        ("kdpose nothing a=b", "nothing"),
        ("python -m kdpose.predict cpkt=b", "Could not override 'cpkt'"),
        ("kdpose predict cpkt=a", "Could not override 'cpkt'"),
        ("kdpose train +experiment=stag1", "stag1"),
        ("make nothing", "nothing"),
        ("pip install 'kdpose[nothing]'", "nothing"),
    ],
)
def test_a_command_that_is_wrong_fails(reader, text, said):
    ((words,),) = commands(text)
    with pytest.raises((pytest.fail.Exception, Exception), match=re.escape(said)):
        follow(reader, words, "")


def test_pages_are_in_the_index():
    readme = (ROOT / "README.md").read_text()
    assert [page for page in PAGES if page != "README.md" and f"]({page})" not in readme] == []
