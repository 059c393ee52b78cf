"""Crops that were cut ahead of training: what they were made of, and what they serve."""

from collections.abc import Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

from kdpose.data.transforms import Augmentation
from kdpose.runtime.image_header import UnreadableImage
from kdpose.runtime.provenance import sha256
from kdpose.skeletons.skeleton import Skeleton


def check_stored(data: Sized, row: int, place: str) -> None:
    """Refuse a crop without bytes.

    Args:
        data: the bytes.
        row: of the person.
        place: that stores them.

    Raises:
        UnreadableImage: there are none.
    """
    if not len(data):
        raise UnreadableImage(
            f"the image of person {row} could not be read when {place} was written"
        )


class StoredCrops:
    """Crops of an annotation file's persons.

    Attributes:
        about: the content of their ``pack.json``.
        place: folder or URL.
        key: config key that names them.
    """

    about: Mapping[str, Any]
    place: str
    key: str

    def check(
        self,
        annotations: str | Path,
        skeleton: Skeleton,
        size: tuple[int, int],
        augmentation: Augmentation | None,
    ) -> None:
        """Make sure that the crops are of these persons and reach as far as training will.

        Args:
            annotations: file that training reads.
            skeleton: of the persons.
            size: W, H of the largest input.
            augmentation: of the training; None where there is none.

        Raises:
            ValueError: they do not, with what to do.
        """
        about, where = self.about, f"{self.place} (from {self.key})"
        again = f"write it again with `kdpose pack`, or set {self.key}=null"
        if about["annotations_sha256"] != sha256(annotations):
            raise ValueError(
                f"{where} was made of {about['annotations']}, and "
                f"{Path(annotations).absolute()} differs from that: {again}"
            )
        wanted = vars(augmentation or Augmentation(0, 0, 0, 0, 0))
        misfits = list(_misfits(about, skeleton, size, wanted))
        if misfits:
            width, height = about["size"]
            raise ValueError(
                f"{where} does not serve {' and '.join(misfits)}; it was made for "
                f"'{about['skeleton']}', {width}x{height}, {about['augmentation']}: {again}"
            )


def _misfits(
    about: Mapping[str, Any], skeleton: Skeleton, size: tuple[int, int], wanted: Mapping[str, Any]
) -> Iterator[str]:
    """What training wants and the crops do not have."""
    (width, height), (w, h), made = about["size"], size, about["augmentation"]
    if skeleton.name != about["skeleton"]:
        yield f"skeleton '{skeleton.name}'"
    if w * height != h * width or w > width:
        yield f"inputs of {w}x{h}"
    for name in ("scale", "rotation"):
        if wanted[name] > made[name]:
            yield f"augmentation.{name} {wanted[name]}"
    halves = made["half_body_probability"] > 0 and (
        wanted["half_body_joints"] >= made["half_body_joints"]
    )
    if wanted["half_body_probability"] > 0 and not halves:
        yield "these half bodies"
