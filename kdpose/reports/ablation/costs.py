"""What a row's network and its training cost, measured in one run of ``kdpose benchmark``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kdpose.reports.ablation.collect import Run
from kdpose.reports.ablation.rows import Row
from kdpose.runtime.json_text import read_json

INFERENCE, TRAINING = "inference", "training"  # what the benchmark measures of each label


class Cost(NamedTuple):
    """Multiples of the baseline's.

    Attributes:
        inference: one person's pass through the network.
        training: of all stages that the network is made in, without that of its teacher.
    """

    inference: float
    training: float


@dataclass(frozen=True)
class Times:
    """Milliseconds per person by label, of ``what=methods``."""

    inference: Mapping[str, float]
    training: Mapping[str, float]

    @classmethod
    def read(cls, path: Path) -> "Times":
        """Read the benchmark's file.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is not of ``what=methods``.
        """
        content = read_json(path, "costs")
        if not isinstance(content, dict) or content.get("what") != "methods":
            raise ValueError(f"{path.absolute()} (from costs) is not of benchmark what=methods")
        times: dict[str, dict[str, float]] = {INFERENCE: {}, TRAINING: {}}
        for row in content["rows"]:
            part, _, label = row["name"].partition(" of ")
            times[part][label] = row["ms"]
        return cls(times[INFERENCE], times[TRAINING])

    def costs(self, rows: Sequence[Row], baseline: str) -> dict[str, Cost]:
        """Those of the rows that were measured.

        Raises:
            ValueError: the baseline was not, or an earlier stage of a row that was.
        """
        runs = {row.label: row.runs[0] for row in rows if row.label in self.inference}
        if baseline not in runs:
            raise ValueError(f"costs must have the times of {baseline}, got {[*self.inference]}")
        training = {label: self._training(label, runs) for label in runs}
        return {
            label: Cost(
                self.inference[label] / self.inference[baseline],
                training[label] / training[baseline],
            )
            for label in runs
        }

    def _training(self, label: str, runs: Mapping[str, Run]) -> float:
        """Milliseconds per person of the training split, over the epochs of all stages."""
        own = self.training[label] * runs[label].metrics["training"]["epochs"]
        before = runs[label].continues
        if before is None:
            return own
        known = [other for other, run in runs.items() if run.folder.name == before]
        if not known:
            raise ValueError(
                f"{label} goes on with the network of {before}, whose costs are unknown"
            )
        return own + self._training(known[0], runs)
