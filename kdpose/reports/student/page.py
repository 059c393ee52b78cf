"""The page: one file that loads nothing from the network."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from kdpose.checkpoints.guest_net import LoadedGuest
from kdpose.reports.student.facts import read


def write_page(run_dir: Path, teacher: LoadedGuest | None = None) -> Path:
    """Write ``report.html`` from the files in a distillation's folder.

    Args:
        run_dir: the folder.
        teacher: a network of another project, whose poses are shown as well.

    Raises:
        FileNotFoundError: the stages are unfinished.
    """
    if not (run_dir / "table.json").is_file():
        raise FileNotFoundError(f"no table.json in {run_dir.absolute()}: the stages are unfinished")
    templates = PackageLoader("kdpose.reports.student", ".")
    environment = Environment(
        loader=templates,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(read(run_dir, teacher))
    path = run_dir / "report.html"
    path.write_text(page, encoding="utf-8")
    return path
