"""MkDocs hook: bring the README, and every file that a page links to, into the site.

MkDocs sees docs/ alone, while the pages link as they do in the repository.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"(?<=\]\()(?!\w+:|#)[^)#\s]+")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
OUTSIDE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")  # and what they link to


def site_path(path: Path, root: Path) -> str:
    """Where a file of the repository lies in the site."""
    name = path.relative_to(root).as_posix()
    return "index.md" if name == "README.md" else name.removeprefix("docs/")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/ that the pages lead to."""
    root = Path(config.docs_dir).parent
    waiting = [Path(str(file.abs_src_path)) for file in files.documentation_pages()]
    waiting += [root / name for name in OUTSIDE]
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        name = site_path(path, root)
        if files.get_file_from_path(name) is None:
            files.append(File.generated(config, name, abs_src_path=str(path)))
        if path.suffix == ".md":
            links = LINK.findall(FENCE.sub("", path.read_text()))
            targets = [(path.parent / link).resolve() for link in links]
            waiting += [t for t in targets if t.is_file() and t.is_relative_to(root)]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between those of the site."""
    root = Path(config.docs_dir).parent
    folder = Path(str(page.file.abs_src_path)).parent

    def to_site(link: re.Match[str]) -> str:
        target = (folder / link[0]).resolve()
        if not target.is_relative_to(root):
            return link[0]
        return posixpath.relpath(site_path(target, root), posixpath.dirname(page.file.src_uri))

    return LINK.sub(to_site, markdown)
