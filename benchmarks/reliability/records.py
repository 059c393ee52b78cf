"""What the campaign has found so far, so that a repeated command goes on."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdpose.runtime.whole import write_json

Record = dict[str, Any]
_FOLDERS = "faults|mutated|killed|clean|data|given|logs|kdpose|site-packages|python3.[0-9]+"
_PLACES = re.compile(rf"/[\w./-]*/({_FOLDERS})/")  # of this machine alone


class Records:
    """Records by part and key; each part has a file, a line a record, next to the report.

    Different parts may be run at the same time.

    Args:
        path: of the report, which has the counts.
        seed: of the campaign.
        commit: of the code, which each record keeps.

    Raises:
        ValueError: the report belongs to a campaign of another seed.
    """

    def __init__(self, path: Path, seed: int, commit: str) -> None:
        self.path, self.seed, self.commit = path, seed, commit
        path.parent.mkdir(parents=True, exist_ok=True)
        before = json.loads(path.read_text(encoding="utf-8"))["seed"] if path.is_file() else seed
        if before != seed:
            raise ValueError(f"{path} is of seed {before}: take that seed or another out=FILE")

    def has(self, part: str, key: str) -> bool:
        """Whether this was done, now or by an earlier command; faults are tried on new code."""
        record = self.part(part).get(key)
        return record is not None and (not record["fault"] or record["commit"] == self.commit)

    def add(self, part: str, key: str, record: Record) -> None:
        """Keep a record on the disk."""
        line = json.dumps({"key": key, **record, "commit": self.commit})
        line = _PLACES.sub(r"\1/", line)
        with self._file(part).open("a", encoding="utf-8") as file:
            file.write(f"{self._end(part)}{line}\n")

    def part(self, part: str) -> dict[str, Record]:
        """The records of a part by key; of two with one key, the later."""
        path = self._file(part)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        whole = [line for line in lines if line.endswith("}")]  # not those cut short
        return {record["key"]: record for record in map(json.loads, whole)}

    def faults(self, part: str) -> Iterator[tuple[str, Record]]:
        """The records in which something went wrong."""
        return ((key, record) for key, record in self.part(part).items() if record["fault"])

    def summarise(self, command: str, counts: dict[str, dict[str, int]]) -> None:
        """Write the report: the counts of all parts."""
        content = {"seed": self.seed, "command": command, "counts": counts}
        write_json(self.path, content, indent=2)

    def _end(self, part: str) -> str:
        """The end of a line that was cut short."""
        path = self._file(part)
        text = path.read_bytes() if path.is_file() else b""
        return "\n" if text and not text.endswith(b"\n") else ""

    def _file(self, part: str) -> Path:
        return self.path.with_name(f"{part}.jsonl")
