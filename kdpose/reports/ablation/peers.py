"""Systems that were trained elsewhere, beside the rows, on the joints that both have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdpose.reports.ablation.collect import Run
from kdpose.reports.ablation.measure import Split, ap_on
from kdpose.reports.ablation.rows import Row
from kdpose.reports.ablation.tables import Cells, over_seeds, percent
from kdpose.runtime.json_text import read_json

_SAME = ("annotations_sha256", "protocol")
_NEEDED = ("AP", "box_source", "flip", *_SAME)


@dataclass(frozen=True)
class Peer:
    """What ``kdpose evaluate out=FILE`` wrote of one system.

    Attributes:
        name: of the file.
        ap: a fraction.
        joints: that it was scored on, names of the split's.
        how: its ``box_source``, ``flip`` and ``input_size``; None where a file of results does
            not tell.
    """

    name: str
    ap: float | None
    joints: tuple[str, ...]
    how: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, run: Run, split: Split) -> "Peer":
        """Read a record and check that it is of the split that a run was scored on.

        Raises:
            FileNotFoundError: there is no file.
            ValueError: it is no such record, or of other annotations or another protocol.
        """
        record, where = read_json(path, "peers"), f"{path.absolute()} (from peers)"
        if not isinstance(record, dict) or any(key not in record for key in _NEEDED):
            raise ValueError(f"{where} is no record of kdpose evaluate out=FILE.json")
        for key in _SAME:
            if record[key] != run.metrics[key]:
                raise ValueError(
                    f"{where} must be scored as the runs are: its {key} is {record[key]}, theirs "
                    f"{run.metrics[key]}; evaluate it with annotations={split.path} "
                    f"protocol={run.metrics['protocol']}"
                )
        joints = tuple(record.get("shared_joints") or split.skeleton.joints)
        return cls(path.stem, record["AP"], joints, record)


def read_peers(paths: Sequence[str], run: Run, split: Split) -> list[Peer]:
    """Read records, see :meth:`Peer.read`.

    Raises:
        ValueError: they were scored on different joints.
    """
    peers = [Peer.read(Path(path), run, split) for path in paths]
    for peer in peers:
        if peer.joints != peers[0].joints:
            raise ValueError(
                f"peers must be scored on the same joints, and {peers[0].name} has "
                f"{len(peers[0].joints)}, {peer.name} {len(peer.joints)}: report them apart"
            )
    return peers


def peers_table(peers: Sequence[Peer], rows: Sequence[Row], split: Split) -> Cells:
    """AP of the peers, and of the rows on the peers' joints; header first, [] without peers."""
    if not peers:
        return []
    joints = peers[0].joints
    lines = [[peer.name, percent(peer.ap), *_how(peer.how)] for peer in peers]
    for row in rows:
        found = [ap_on(run, split, joints) for run in row.runs]
        lines.append([row.label, _mean(found), *_how(row.runs[0].metrics)])
    return [["", f"AP, {len(joints)} joints", "input", "boxes", "flip test"], *lines]


def _mean(found: Sequence[float | None]) -> str:
    """Of the seeds."""
    known = [ap for ap in found if ap is not None]
    deviation = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return over_seeds(float(np.mean(known)) if known else None, deviation)


def _how(record: Mapping[str, Any]) -> list[str]:
    """Input, boxes and flip test as text."""
    source, size = record["box_source"], record.get("input_size")
    boxes = {None: "not known", "gt": "ground truth"}.get(source) or Path(str(source)).name
    return [
        "not known" if size is None else "x".join(map(str, size)),
        boxes,
        {None: "not known", True: "on", False: "off"}[record["flip"]],
    ]
