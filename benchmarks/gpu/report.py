"""What the campaign has found so far, by part."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu.part import Part
from kdpose.runtime.whole import write_json

Record = dict[str, Any]


class Report:
    """``report.json``, written after every part.

    Args:
        path: of the file; what is in it is not done again.
        command: that runs the campaign.
        made_by: ``device`` and ``commit`` of what is measured now.

    Raises:
        ValueError: the file is no report of a campaign.
    """

    def __init__(self, path: Path, command: str, made_by: Record) -> None:
        self.path, self.command, self.made_by = path, command, made_by
        path.parent.mkdir(parents=True, exist_ok=True)
        found: Any = json.loads(path.read_bytes()) if path.is_file() else {"parts": {}}
        if not isinstance(found, dict) or not isinstance(found.get("parts"), dict):
            raise ValueError(
                f"{path.absolute()} (from out) is no report of a campaign: name another"
            )
        self.parts: dict[str, Record] = found["parts"]

    def of(self, part: Part) -> Record:
        """The record of a part with this code and configuration, or one of nothing done."""
        record = self.parts.get(part.name, {})
        return record if record.get("key") == part.key else {"status": "new", "minutes": 0.0}

    def put(self, part: Part, status: str, minutes: float, **found: Any) -> None:
        """Keep what became of a part.

        Args:
            part: which.
            status: ``done``, ``stopped`` (it continues) or ``failed``.
            minutes: that it took, with those of earlier commands.
            found: its figures.
        """
        self.parts[part.name] = {
            "key": part.key,
            "status": status,
            "minutes": round(minutes, 2),
            "expected": part.minutes,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            **self.made_by,
            **found,
        }
        write_json(self.path, {"command": self.command, "parts": self.parts}, indent=2)
