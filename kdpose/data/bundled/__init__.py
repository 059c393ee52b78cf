"""Persons that come along, for export's gate, the calibration of int8, and the demo."""

from pathlib import Path

FOLDER = Path(__file__).parent  # its README says where they come from
EXAMPLES = tuple(
    FOLDER / "images" / f"{number:012d}.jpg" for number in (790, 129648, 174375, 234748, 214753)
)
