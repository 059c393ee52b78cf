"""One command for all: ``kdpose train key=value``; ``kdpose`` alone lists what there is."""

import difflib
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import yaml
from rich import box
from rich.table import Table

from kdpose.cli import CONF, console


def commands() -> dict[str, str]:
    """Names of all commands, each with its purpose in one sentence."""
    found = {}
    for path in sorted(Path(CONF).glob("*.yaml")):
        template = yaml.safe_load(path.read_text())["hydra"]["help"]["template"]
        purpose = " ".join(template.partition("\n\n")[0].split())
        found[path.stem] = purpose.partition(". ")[0].rstrip(".")
    return found


def _list() -> None:
    table = Table("command", "", box=box.SIMPLE, show_header=False)
    for name, purpose in commands().items():
        table.add_row(f"kdpose {name}", purpose)
    console.print(table)
    console.print("kdpose NAME --help shows examples and keys.")


def _run(name: str, words: list[str]) -> None:
    """Run a command in this process, as ``python -m kdpose.NAME`` would."""
    module = f"kdpose.{name}"
    sys.argv = [module, *words]
    sys.modules["__main__"].__spec__ = find_spec(module)  # the processes it starts run it as well
    import_module(module).main()


def main() -> None:
    """Entry point; an unknown command ends with status 2."""
    name, words = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in ("-h", "--help", "help"):
        _list()
        return
    known = sorted(path.stem for path in Path(CONF).glob("*.yaml"))
    if name in known:
        _run(name, words)
        return
    near = difflib.get_close_matches(name.removeprefix("kdpose."), known, n=1, cutoff=0.5)
    hint = f"did you mean `kdpose {near[0]}`?" if near else "`kdpose` alone lists them"
    print(f"error: kdpose has no command '{name}'; {hint}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
