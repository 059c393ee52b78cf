"""Annotations of one category as files of their own, for a training with ``category=NAME``."""

import hashlib
import json
import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from kdpose.runtime.annotation_file import check_lists
from kdpose.runtime.categories import of_people
from kdpose.runtime.files import check_file
from kdpose.runtime.json_text import parse_json
from kdpose.runtime.whole import write_whole

_log = logging.getLogger(__name__)


def take_category(cfg: DictConfig) -> None:
    """Have the data sets of a training, in place, name files with annotations of one category.

    They are written to ``runs/categories``, named by content, and made again where they are gone.

    Args:
        cfg: of the run; nothing happens where ``category`` is null.

    Raises:
        FileNotFoundError: an annotation file is not there.
        ValueError: one is no annotation file, or has no such category.
    """
    if cfg.get("category") is None:
        return
    folder, train = Path(cfg.runs) / "categories", cfg.dataset.train
    parts = list(train) if OmegaConf.is_list(train) else [train]
    keyed = [(part, "dataset.train.annotations") for part in parts]
    for part, key in (*keyed, (cfg.dataset.val, "dataset.val.annotations")):
        if part.annotations is not None and Path(part.annotations).parent != folder:
            part.annotations = str(_written(Path(part.annotations), key, cfg.category, folder))


def _written(path: Path, key: str, category: str | int, folder: Path) -> Path:
    """The file of a category's annotations."""
    data = check_file(path, key).read_bytes()
    where = f"{path.absolute()} (from {key})"
    content, _ = of_people(check_lists(parse_json(data, where), where), category, where)
    number = hashlib.sha256(data + f" {category}".encode()).hexdigest()[:8]
    out = folder / f"{path.stem}_{number}.json"
    if not out.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(out, json.dumps(content))
    _log.info("category=%s: %d persons of %s", category, len(content["annotations"]), where)
    return out
