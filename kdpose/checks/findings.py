"""What a check found."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Literal

Severity = Literal["note", "warning", "error", "unusable"]
SEVERITIES: tuple[Severity, ...] = ("note", "warning", "error", "unusable")
_SHOWN = 5  # examples that a finding keeps
_MANY = 0.1  # a fault in more than this share of the data is systematic


@dataclass(frozen=True)
class Example:
    """One case of a finding.

    Attributes:
        detail: what is wrong there.
        image: file name, as the annotation file spells it, or None.
        person: the annotation's id, or None.
        row: of the person in its :class:`kdpose.checks.split.Split`, for pictures; or None.
    """

    detail: str
    image: str | None = None
    person: Any = None
    row: int | None = None

    def __str__(self) -> str:
        """The case in one line."""
        where = [self.image or "", "" if self.person is None else f"person {self.person}"]
        named = ", ".join(part for part in where if part)
        return f"{named}: {self.detail}" if named and self.detail else named or self.detail


@dataclass(frozen=True)
class Finding:
    """A problem in the data.

    Attributes:
        kind: a machine-readable name, such as ``missing_image``.
        severity: ``note``: worth knowing; ``warning``: some of the data is lost or doubtful;
            ``error``: training or metrics would be wrong; ``unusable``: training is impossible.
        count: how often.
        message: what it is and how to fix it, one sentence.
        examples: the first or the worst cases.
        split: ``train``, ``val``, or empty where it concerns both or neither.
    """

    kind: str
    severity: Severity
    count: int
    message: str
    examples: tuple[Example, ...] = field(default=())
    split: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = asdict(self)
        for example in values["examples"]:
            del example["row"]
        return values | {"examples": list(values["examples"])}


def first(examples: Iterable[Example]) -> tuple[Example, ...]:
    """The first examples, as many as a finding keeps; the others are not generated."""
    return tuple(islice(examples, _SHOWN))


def graded(count: int, total: int, usual: Severity = "warning") -> Severity:
    """``error`` if a fault affects more than a tenth of the data, else the usual severity."""
    return "error" if count > _MANY * total else usual


def worst(findings: Sequence[Finding]) -> Severity | None:
    """The highest severity, or None without findings."""
    return max((f.severity for f in findings), key=SEVERITIES.index, default=None)


def exit_code(findings: Sequence[Finding]) -> int:
    """0: notes and warnings at most; 1: errors; 2: unusable."""
    return {"error": 1, "unusable": 2}.get(worst(findings) or "note", 0)
