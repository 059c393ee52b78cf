"""What kdpose can do: ``python -m kdpose``, or ``kdpose``."""

from pathlib import Path

import yaml
from rich import box
from rich.table import Table

from kdpose.cli import CONF, console


def main() -> None:
    """Entry point: each command with its purpose."""
    table = Table("command", "", box=box.SIMPLE, show_header=False)
    for path in sorted(Path(CONF).glob("*.yaml")):
        said = yaml.safe_load(path.read_text())["hydra"]["help"]["template"]
        purpose = " ".join(said.partition("\n\n")[0].split())
        table.add_row(f"kdpose.{path.stem}", purpose.partition(". ")[0].rstrip("."))
    console.print(table)
    console.print("python -m kdpose.NAME --help, or kdpose-NAME --help, shows examples and keys.")


if __name__ == "__main__":
    main()
