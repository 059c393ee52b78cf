"""What the entry points share: the location of the configuration, and errors in one line."""

import difflib
import functools
import io
import logging
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from multiprocessing import current_process
from pathlib import Path
from typing import Any

import hydra
from dotenv import load_dotenv
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
    SearchPathException,
)
from hydra.types import RunMode
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf
from rich import box
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from kdpose.runtime import moved, signals
from kdpose.runtime.os_errors import explain, of_worker
from kdpose.runtime.ranks import met, rank, speaks
from kdpose.runtime.recipes import check_names, replacement

_HERE = Path(__file__).parent
CONF = str(_HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parent / "conf")
# names of files may look like markup
console = Console(quiet=rank() > 0, markup=False, emoji=False)


# they log what a training starts from, and who is left out
_NEWS = ("kdpose.checkpoints.tensors", "kdpose.data.taught", "kdpose.data.annotations")
_SHORT = {"distill": {"student": "student.backbone"}}  # keys that a user may write for longer ones
_Job = Callable[[DictConfig], float | None] | Callable[[DictConfig], None]


def _show_all_text() -> None:
    """Have consoles of other encodings show an escape in place of a character they lack."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def spelt_out(config_name: str, words: Sequence[str]) -> list[str]:
    """A command's words with short keys as the configuration names them."""
    found = list(words)
    for key, whole in _SHORT.get(config_name, {}).items():
        found = [re.sub(f"^{key}=", f"{whole}=", word) for word in found]
    return [_without(word) for word in found]


def _without(word: str) -> str:
    """``GROUP=null`` as Hydra has it, ``~GROUP``."""
    group, _, value = word.partition("=")
    return f"~{group}" if value in ("null", "[]") and (Path(CONF) / group).is_dir() else word


def entry_point(config_name: str) -> Callable[[_Job], Callable[[], None]]:
    """Make a command line of a function: Hydra's, with errors that a user can fix in one line.

    Such an error ends the command with status 1; ``debug=true`` shows the traceback instead.
    SIGTERM and SIGINT end it with status 143 and 130, a sweep at the job that is running.
    A sweep prints a job's error immediately, continues with the next job, lists the result of each
    job at the end, and exits with status 1 if one failed.

    Args:
        config_name: of the primary configuration in ``conf``.
    """

    def decorate(function: _Job) -> Callable[[], None]:
        ended: list[tuple[list[str], str]] = []
        job = _in_one_line(function, config_name, ended)
        run = hydra.main(version_base="1.3", config_path=CONF, config_name=config_name)(job)

        @functools.wraps(function)
        def main() -> None:
            ended.clear()
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises errors
            sys.argv = spelt_out(config_name, sys.argv)
            _show_all_text()
            try:
                check_names(sys.argv[1:], Path(CONF))
                with signals.handled():
                    run()
            except signals.Stopped as stopped:
                _say_stopped(stopped, config_name)
                raise
            except (HydraException, ValueError, OSError) as error:
                _end_in_one_line(error, config_name)
                raise
            finally:
                if len(ended) > 1:
                    console.print(_summary(ended))

        return main

    return decorate


def _in_one_line(
    function: _Job, config_name: str, ended: list[tuple[list[str], str]]
) -> Callable[[DictConfig], float | None]:
    """What Hydra calls, in a sweep once per job; adds each job's overrides and end to ``ended``."""

    def job(cfg: DictConfig) -> float | None:
        quiet()
        if current_process().name.startswith("Loky"):  # started by joblib, which knows no signals
            signals.follow()
        overrides = list(HydraConfig.get().overrides.task)
        ended.append((overrides, "failed"))
        try:
            result = function(_checked(config_name, moved.renamed(cfg)))
        except signals.Stopped:
            ended[-1] = (overrides, "stopped")
            raise
        except Exception as error:
            line = _misspelt(error, config_name) or one_line(error)
            sweep = HydraConfig.get().mode == RunMode.MULTIRUN
            if sweep and line is None:  # now: Hydra raises it after the last job
                traceback.print_exc()
            if line is None or cfg.debug:
                raise
            _say(line)
            if sweep:
                raise
            sys.exit(1)
        ended[-1] = (overrides, "done" if result is None else f"done, {result:.4f}")
        return result

    return job


def _checked(config_name: str, cfg: DictConfig) -> DictConfig:
    if config_name in ("evaluate", "predict", "doctor", "convert", "pack"):  # training: its own
        from kdpose.runtime.kinds import check_command  # takes pydantic, --help does not

        check_command(cfg)
    return cfg


def _keys_of(config_name: str) -> str:
    """The keys of ``conf/NAME.yaml`` with their comments, for ``--help``."""
    content = (Path(CONF) / f"{config_name}.yaml").read_text().partition("\nhydra:")[0]
    first, _, rest = content.partition("\n\n")
    keys = rest if re.search("^defaults:", first, re.MULTILINE) else content
    return keys.strip().replace("$", "$$")  # Hydra fills in a template


OmegaConf.register_new_resolver("keys", _keys_of, replace=True)


def command() -> str | None:
    """The running command, in a sweep the job's; None outside an entry point."""
    if not HydraConfig.initialized():
        return None
    asked = HydraConfig.get()
    return shlex.join(["kdpose", str(asked.job.config_name), *asked.overrides.task])


def _end_in_one_line(error: Exception, config_name: str) -> None:
    """End the command with status 1, if one line says what is wrong and no traceback is wanted."""
    line = _misspelt(error, config_name) or one_line(error)
    if line is not None and "debug=true" not in sys.argv:
        _say(line)
        sys.exit(1)


def _say(line: str) -> None:
    """Print an error, once if several processes have it."""
    if speaks():
        print(f"error{f' (rank {rank()})' if met() else ''}: {line}", file=sys.stderr)


def _say_stopped(stopped: signals.Stopped, config_name: str) -> None:
    """Print which signal ended the command, and how to continue."""
    if not speaks() or rank() > 0:
        return
    words = [word for word in sys.argv[1:] if not word.startswith("resume=")]
    way = {"train": [*words, "resume=auto"], "distill": sys.argv[1:]}.get(config_name)
    facts = [f"stopped by {stopped.name}", *([stopped.note] if stopped.note else [])]
    if way:
        facts.append(f"to go on: {shlex.join(['kdpose', config_name, *way])}")
    print("; ".join(facts), file=sys.stderr)


def _summary(ended: Sequence[tuple[Sequence[str], str]]) -> Table:
    """The results of a sweep's jobs, each named by the overrides in which they differ."""
    shared = set.intersection(*(set(overrides) for overrides, _ in ended))
    table = Table("job", "result", box=box.SIMPLE)
    for overrides, result in ended:
        table.add_row(" ".join(o for o in overrides if o not in shared), result)
    return table


def one_line(error: BaseException | None) -> str | None:
    """What went wrong and how to fix it, or None if the user cannot fix it."""
    if isinstance(error, InstantiationException):
        return one_line(error.__cause__)
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} must be given: {error.full_key}=VALUE"
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
        return (
            f"{str(error).splitlines()[0].rstrip('. ')}, which happens when memory runs out: set "
            "fewer workers (train: data.num_workers, and resume=auto to go on)"
        )
    if isinstance(error, OSError):
        return of_worker(explain(error))
    return of_worker(str(error)) if isinstance(error, ValueError) else None


def _misspelt(error: Exception, config_name: str) -> str | None:
    """A line on an override that Hydra refused, with the nearest names."""
    if isinstance(error, MissingConfigException):
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group == "experiment" and (now := replacement(name)):
            return f"{name} is now {now}"
        return f"conf/{group} has no '{name}'" + _nearest(name, error.options or [])
    if isinstance(error, OverrideParseException):
        name, _, value = error.override.partition("=")
        quoted = f"""'{name}="{value}"'"""
        return f"cannot read {error.override}: a value with signs in it is quoted, as in {quoted}"
    if isinstance(error, SearchPathException):
        return f"{error} (from --config-dir)"
    if isinstance(error, ConfigCompositionException):
        first = str(error).splitlines()[0].rstrip(".")
        key = re.search(r"'([^'=@]+)", first)
        return first + (_nearest(key[1], _known_keys(config_name)) if key else "")
    return None


def _known_keys(config_name: str) -> list[str]:
    """Every key that can be set together with the chosen experiment."""
    chosen = [word for word in sys.argv[1:] if word.startswith("+experiment=")]
    words = shlex.join(sys.argv[1:])
    if given := re.search(r"(?:^| )(?:--config-dir|-cd)[ =](\S+)", words):
        chosen.append(f"hydra.searchpath=['file://{Path(given[1]).absolute()}']")
    with hydra.initialize_config_dir(CONF, version_base="1.3"):
        cfg = hydra.compose(config_name, overrides=chosen)
    return _keys(OmegaConf.to_container(cfg, resolve=False))


def _keys(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return []
    here = [f"{prefix}{name}" for name in node]
    return here + [key for name in node for key in _keys(node[name], f"{prefix}{name}.")]


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    near = near or [key for key in known if key.split(".")[-1] == name.split(".")[-1]]
    return f"; did you mean {' or '.join(near)}?" if near else "; --help lists what there is"


def _read_env() -> None:
    """Read settings from ``.env``; an empty value means unset."""
    load_dotenv()
    for name in [n for n, value in os.environ.items() if n.startswith("KDPOSE_") and not value]:
        del os.environ[name]


_read_env()  # at import: Hydra resolves the run's folder before any function of ours is called


def quiet() -> None:
    """Silence library messages that are meant for developers."""
    os.environ.setdefault("WANDB_SILENT", "true")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"lightning|torch|timm")
    handler = RichHandler(console=console, show_path=False)
    # every user should see which weights were used, and how many
    handler.addFilter(lambda r: r.levelno >= logging.WARNING or r.name in _NEWS)
    if rank() > 0:  # the first process reports for all
        handler.setLevel(logging.ERROR)
    logging.raiseExceptions = False  # of a log that cannot be written, such as on a full disk
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(message)s", force=True)
    # importing Lightning resets the levels of its packages, but not those of their modules
    talkative = [f"lightning.{part}.utilities.rank_zero" for part in ("pytorch", "fabric")]
    for name in (*talkative, "wandb", "tensorboard"):
        logging.getLogger(name).setLevel(logging.WARNING)
