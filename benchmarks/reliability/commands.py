"""Commands in processes of their own, forked from one that has torch and kdpose imported."""

import contextlib
import importlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

TRACEBACK = "Traceback (most recent call last)"
_TICK = 0.01  # seconds between two looks at a process
_COMMANDS = ("train", "evaluate", "predict", "pack", "doctor", "convert")
_LIBRARIES = ("kdpose.training.stage", "kdpose.inference.predict", "timm", "torch_geometric")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        code: its exit status, or the negative number of the signal that ended it.
        seconds: that it took.
        cpu: seconds of processor time.
        memory: its peak, in bytes, with what it inherits from the process that forked it.
        said: standard output and standard error.
        late: it was ended because it took longer than it may.
    """

    code: int
    seconds: float
    cpu: float
    memory: int
    said: str
    late: bool

    @property
    def traceback(self) -> bool:
        """Whether a user would see one."""
        return TRACEBACK in self.said

    @property
    def last_line(self) -> str:
        """What it said last."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""


def warm_up() -> None:
    """Import what the commands import, so that each of them starts in milliseconds."""
    import torch

    torch.set_num_threads(1)
    for name in (*(f"kdpose.{command}" for command in _COMMANDS), *_LIBRARIES):
        importlib.import_module(name)


class Running:
    """A command that was started.

    Args:
        name: of the command, as in ``kdpose NAME``.
        words: its overrides.
        folder: that it starts in; ``NUMBER.log`` there gets what it says.
        hook: called in its process before it begins.
    """

    _count = 0

    def __init__(
        self,
        name: str,
        words: Sequence[str],
        folder: Path,
        hook: Callable[[], object] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        Running._count += 1
        self._log = folder / f"{os.getpid()}_{Running._count}.log"
        self._begun = time.monotonic()
        self._late = False
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _be(name, words, folder, self._log, hook)

    def send(self, number: int) -> None:
        """Send a signal; SIGINT goes to the process group, as from a keyboard."""
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGINT:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    def wait(self, limit: float = 120.0) -> Ended:
        """Wait until it ends; after ``limit`` seconds it is ended."""
        while True:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                break
            if not self._late and time.monotonic() - self._begun > limit:
                self._late = True
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
            time.sleep(_TICK)
        with contextlib.suppress(ProcessLookupError):  # data workers that outlived it
            os.killpg(self.pid, signal.SIGKILL)
        return Ended(
            os.waitstatus_to_exitcode(status),
            time.monotonic() - self._begun,
            used.ru_utime + used.ru_stime,
            used.ru_maxrss * 1024,
            self._log.read_text(errors="replace") if self._log.exists() else "",
            self._late,
        )


def run(
    name: str,
    words: Sequence[str],
    folder: Path,
    hook: Callable[[], object] | None = None,
    limit: float = 120.0,
) -> Ended:
    """Start a command and wait for its end."""
    return Running(name, words, folder, hook).wait(limit)


def file_limit(size: int) -> Callable[[], None]:
    """A hook: no file may grow beyond ``size`` bytes, as on a disk that is full."""

    def limit() -> None:
        sys.dont_write_bytecode = True  # CPython 3.11 keeps a .pyc that was cut short
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def forget_hydra() -> None:
    """Have a forked process know nothing of the command that forked it."""
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


def _be(
    name: str,
    words: Sequence[str],
    folder: Path,
    log: Path,
    hook: Callable[[], object] | None,
) -> None:
    """Be the command, in the forked process; does not return."""
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(target, 1)
        os.dup2(target, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
        os.chdir(folder)
        forget_hydra()
        sys.argv = [f"kdpose.{name}", *words]
        if hook:
            hook()
        importlib.import_module(f"kdpose.{name}").main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
