"""Person boxes of photographs without annotations, on which a teacher can then answer."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from kdpose.cli import console
from kdpose.data.sources.images import open_image
from kdpose.formats.coco_file import category
from kdpose.inference.detector import choose_detector, load_detector
from kdpose.inference.images import ImageFile, find_images
from kdpose.metrics.people import BOX_TO_BODY
from kdpose.runtime.annotation_file import AnnotationFile
from kdpose.runtime.devices import pick_device
from kdpose.runtime.image_header import UnreadableImage, upright_size
from kdpose.runtime.whole import write_json
from kdpose.skeletons.skeleton import Skeleton


class FoundBoxes(NamedTuple):
    """A COCO-keypoints file of persons with boxes and without joints, and its counts.

    Attributes:
        content: of the file.
        empty: images in which nobody was found.
        broken: a line for each file that cannot be read, which the content leaves out.
    """

    content: dict[str, Any]
    empty: int
    broken: list[str]


_MORE = "lower detector.threshold or take another detector.name"


def find_boxes(
    source: str,
    skeleton: Skeleton,
    images: str | None = None,
    detector: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> FoundBoxes:
    """Find persons with a detector: in upright photographs, or as annotated sizes have them.

    Args:
        source: a folder, a glob, an image, or an annotation file, whose persons are ignored.
        skeleton: the file's category, whose joints a teacher will answer.
        images: folder of the images, see :func:`find_images`; names are relative to it.
        detector: arguments of :func:`choose_detector`.
        device: of torchvision's detectors.

    Raises:
        FileNotFoundError: nothing is at the source.
        ValueError: it has no image, or nobody was found.
    """
    pictures = find_images(source, images)
    names = _names(source, images, pictures)
    find = load_detector(choose_detector(**(detector or {})), pick_device(device))
    listed, persons, broken = list[dict[str, Any]](), list[dict[str, Any]](), list[str]()
    for picture in track(pictures, "finding persons", console=console, transient=True):
        try:
            pixels = open_image(picture.path, size=picture.size or upright_size(picture.path))
        except (FileNotFoundError, UnreadableImage) as error:
            broken.append(str(error))
            continue
        number, (width, height) = picture.image_id, pixels.size
        size = {"width": width, "height": height}
        listed.append({"id": number, "file_name": names[number], **size})
        persons += [{"image_id": number, **person} for person in _persons(*find(pixels))]
    if not persons:
        lost = f", of which {len(broken)} cannot be read" if broken else ""
        where = f"the {len(pictures)} images of {source} (from source){lost}"
        raise ValueError(f"no person was found in {where}: {_MORE}")
    return _as_file(listed, persons, broken, skeleton)


def _as_file(
    listed: list[dict[str, Any]],
    persons: list[dict[str, Any]],
    broken: list[str],
    skeleton: Skeleton,
) -> FoundBoxes:
    people = [{"id": row, **person} for row, person in enumerate(persons, start=1)]
    empty = len(listed) - len({person["image_id"] for person in persons})
    content = {"images": listed, "annotations": people, "categories": [category(skeleton)]}
    return FoundBoxes(content, empty, broken)


def _persons(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Iterator[dict[str, Any]]:
    """What the file has of persons with boxes ``(P, 4)`` and their scores ``(P,)``."""
    for box, score in zip(boxes.tolist(), scores.tolist(), strict=True):
        yield {
            "category_id": 1,
            "iscrowd": 0,
            "bbox": [round(value, 2) for value in box],
            "area": round(BOX_TO_BODY * box[2] * box[3], 2),
            "score": round(score, 4),
        }


def _names(source: str, images: str | None, pictures: list[ImageFile]) -> dict[int, str]:
    """``file_name`` of each image, by id."""
    if source.lower().endswith(".json"):
        listed = AnnotationFile.read(source, "source", images).content["images"]
        return {image["id"]: image["file_name"] for image in listed}
    root = Path(images).absolute() if images else pictures[0].path.absolute().parent
    paths = {picture.image_id: picture.path.absolute() for picture in pictures}
    return {
        number: str(path.relative_to(root) if path.is_relative_to(root) else path)
        for number, path in paths.items()
    }


def write_boxes(out: Path, found: FoundBoxes) -> None:
    """Write the file and print what it has.

    Args:
        out: the JSON.
        found: by :func:`find_boxes`.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, found.content)
    for line in found.broken:
        console.print(f"skipped: {line}", style="yellow", soft_wrap=True)
    skipped = f", {len(found.broken)} skipped" if found.broken else ""
    console.print(
        f"boxes of {len(found.content['annotations'])} persons in {len(found.content['images'])} "
        f"images ({found.empty} without any{skipped}), written to {out.absolute()}",
        soft_wrap=True,
        highlight=False,
    )
