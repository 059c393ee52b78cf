"""What the entry points share: where the configuration lies, and errors in one line."""

import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from dotenv import load_dotenv
from hydra.errors import InstantiationException
from omegaconf import DictConfig
from rich.console import Console
from rich.logging import RichHandler

_HERE = Path(__file__).parent
CONF = str(_HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parent / "conf")
console = Console()


def command(function: Callable[[DictConfig], float | None]) -> Callable[[DictConfig], float | None]:
    """Turn the errors a user can mend into one line and exit status 1.

    ``debug=true`` shows the traceback instead.
    """

    @functools.wraps(function)
    def run(cfg: DictConfig) -> float | None:
        quiet()
        try:
            return function(cfg)
        except (ValueError, OSError, InstantiationException) as error:
            cause = error.__cause__ if isinstance(error, InstantiationException) else error
            if cfg.debug or not isinstance(cause, ValueError | OSError):
                raise
            print(f"error: {cause}", file=sys.stderr)
            sys.exit(1)

    return run


def _read_env() -> None:
    """Take settings from ``.env``; an empty value there means none."""
    load_dotenv()
    for name in [n for n, value in os.environ.items() if n.startswith("KDPOSE_") and not value]:
        del os.environ[name]


_read_env()  # at import: Hydra resolves the run's folder before any function of ours is called


def quiet() -> None:
    """Silence what libraries say to developers, not to users."""
    os.environ.setdefault("WANDB_SILENT", "true")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"lightning|torch|timm")
    handler = RichHandler(level=logging.WARNING, console=console, show_path=False)
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(message)s", force=True)
    for name in ("lightning.pytorch", "faster_coco_eval"):
        logging.getLogger(name).setLevel(logging.WARNING)
