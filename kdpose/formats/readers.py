"""The reader of each annotation format."""

from pathlib import Path
from typing import Any

from kdpose.formats import (
    coco,
    cvat,
    deeplabcut,
    fiftyone,
    labelme,
    labelstudio,
    lsp,
    mpii,
    sleap,
    via,
    yolo,
    yolo_folder,
)
from kdpose.skeletons.files import named_skeleton

READERS = {
    "mpii": mpii.read,
    "lsp": lsp.read,
    "yolo": yolo.read,
    "labelme": labelme.read,
    "cvat": cvat.read,
    "deeplabcut": deeplabcut.read,
    "lightningpose": deeplabcut.read,  # which writes the same tables
    "sleap": sleap.read,
    "labelstudio": labelstudio.read,
    "via": via.read,
    "fiftyone": fiftyone.read,
    "crowdpose": coco.read,
    "coco": coco.read,
}


def read(
    form: str,
    source: str,
    images: str | None,
    skeleton: str | None,
    category: str | int | None = None,
) -> dict[str, Any]:
    """Read annotations of any known format as a COCO-keypoints file.

    Args:
        form: a key of :data:`READERS`.
        source: file or folder of the annotations.
        images: folder of the images, for formats that do not give their sizes.
        skeleton: name or file, for formats that do not name their joints.
        category: the name or id of the only one to keep; of COCO's format alone.

    Raises:
        ValueError: the format is unknown, or its reader refuses the source.
    """
    if form not in READERS:
        raise ValueError(f"from must be one of {', '.join(READERS)}, images, got {form}")
    joints = named_skeleton(skeleton) if skeleton else None
    if category is not None:
        if READERS[form] is not coco.read:
            raise ValueError(f"category={category} is of from=coco and crowdpose, not {form}")
        return coco.read(Path(source), None, joints, category)
    try:
        return READERS[form](Path(source), Path(images) if images else None, joints)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError) as error:
        said = f"{type(error).__name__} {error}"
        raise ValueError(
            f"{Path(source).absolute()} (from source) is not as from={form} expects: {said}; "
            "export it again, or mend the entry"
        ) from error


def read_splits(
    form: str,
    source: str,
    images: str | None,
    skeleton: str | None,
    category: str | int | None = None,
) -> dict[str, dict[str, Any]]:
    """The same by split: a ``data.yaml`` of YOLO has several; of all else the only key is empty.

    Raises:
        ValueError: see :func:`read`.
    """
    if form != "yolo" or Path(source).suffix not in (".yaml", ".yml"):
        return {"": read(form, source, images, skeleton, category)}
    if images is not None or category is not None:
        raise ValueError(f"source={source} gives images and categories: remove images=, category=")
    return yolo_folder.read(Path(source), named_skeleton(skeleton) if skeleton else None)
