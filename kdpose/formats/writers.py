"""The writer of each annotation tool's format, for persons that a model has found."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree  # writes only; files are read by defusedxml

import yaml

from kdpose.formats import prelabels
from kdpose.formats.prelabels import Guess, Page, inside
from kdpose.runtime.whole import write_json, write_whole
from kdpose.skeletons.skeleton import Skeleton

_CLASS = "person"


def write_yolo(out: Path, pages: list[Page], skeleton: Skeleton) -> str:
    """Write ``labels/NAME.txt`` of each image and ``data.yaml`` into a folder.

    Returns:
        What to do next.
    """
    for page in pages:
        path = (out / "labels" / page.name).with_suffix(".txt")
        if not path.resolve().is_relative_to(out.resolve()):
            raise ValueError(f"{page.name} (from annotations) leaves the folder of images")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, "".join(_yolo_line(person, page) for person in page.persons))
    facts = {
        "path": ".",
        "train": "images",
        "val": "images",
        "kpt_shape": [len(skeleton), 3],
        "flip_idx": list(skeleton.flip_order),
        "names": {0: _CLASS},
        "kpt_names": {0: list(skeleton.joints)},
    }
    write_whole(out / "data.yaml", yaml.safe_dump(facts, sort_keys=False, default_flow_style=None))
    return f"put the images into {out.absolute() / 'images'}"


def _yolo_line(person: Guess, page: Page) -> str:
    x, y, width, height = person.box
    values = [x + width / 2, y + height / 2, width, height]
    relative = [v / (page.width, page.height)[k % 2] for k, v in enumerate(values)]
    words = ["0", *(f"{value:.6f}" for value in relative)]
    for k, (px, py, _) in enumerate(person.keypoints.tolist()):
        seen = person.visibility(k)
        at = (px / page.width, py / page.height) if seen else (0.0, 0.0)
        words += [*(f"{inside(value, 1.0):.6f}" for value in at), str(seen)]
    return " ".join(words) + "\n"


def write_labelstudio(out: Path, pages: list[Page], skeleton: Skeleton) -> str:
    """Write tasks with predictions, and beside them the labelling interface, ``.xml``.

    Returns:
        What to do next.
    """
    tasks = [
        {
            "data": {"image": f"/data/local-files/?d={quote(page.name)}"},
            "predictions": [
                {
                    "model_version": "kdpose",
                    "score": min((p.score for p in page.persons), default=0.0),
                    "result": [
                        region
                        for number, person in enumerate(page.persons)
                        for region in _regions(person, number, page, skeleton)
                    ],
                }
            ],
        }
        for page in pages
    ]
    write_json(out, tasks)
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name="img", value="$image")
    boxes = ElementTree.SubElement(view, "RectangleLabels", name="box", toName="img")
    ElementTree.SubElement(boxes, "Label", value=_CLASS)
    points = ElementTree.SubElement(view, "KeyPointLabels", name="kp", toName="img")
    for k, joint in enumerate(skeleton.joints):
        ElementTree.SubElement(points, "Label", value=joint, model_index=str(k))
    ElementTree.indent(view)
    interface = out.with_suffix(".xml")
    write_whole(interface, ElementTree.tostring(view, "unicode"))
    return (
        f"import it into a project with the labelling interface {interface.absolute()} and the "
        "folder of images as local storage"
    )


def _regions(person: Guess, number: int, page: Page, skeleton: Skeleton) -> list[dict[str, object]]:
    """A rectangle and its points, in per cent."""
    common = {
        "to_name": "img",
        "image_rotation": 0,
        "original_width": page.width,
        "original_height": page.height,
    }
    scale = (100 / page.width, 100 / page.height)
    sides = zip(("x", "y", "width", "height"), person.box, scale * 2, strict=True)
    box = {key: value * factor for key, value, factor in sides}
    name = f"person{number}"
    value: dict[str, object] = {**box, "rotation": 0, "rectanglelabels": [_CLASS]}
    found: list[dict[str, object]] = [
        common
        | {"id": name, "type": "rectanglelabels", "from_name": "box", "value": value}
        | {"score": person.score}
    ]
    for k, joint in enumerate(skeleton.joints):
        x, y, score = person.keypoints[k].tolist()
        if person.visibility(k):
            at = {"x": inside(x * scale[0], 100), "y": inside(y * scale[1], 100), "width": 0.5}
            found.append(
                common
                | {"id": f"{name}_{k}", "type": "keypointlabels", "from_name": "kp"}
                | {"parentID": name, "score": score, "value": at | {"keypointlabels": [joint]}}
            )
    return found


def write_cvat(out: Path, pages: list[Page], skeleton: Skeleton) -> str:
    """Write CVAT for images 1.1.

    Returns:
        What to do next.
    """
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    for number, page in enumerate(pages):
        facts = {"id": str(number), "name": page.name}
        facts |= {"width": str(page.width), "height": str(page.height)}
        image = ElementTree.SubElement(root, "image", facts)
        for person in page.persons:
            flags = {"label": _CLASS, "source": "auto", "z_order": "0"}
            body = ElementTree.SubElement(image, "skeleton", flags)
            for k, joint in enumerate(skeleton.joints):
                x, y, _ = person.keypoints[k].tolist()
                seen = person.visibility(k)
                at = f"{inside(x, page.width):.2f},{inside(y, page.height):.2f}"
                states = {"outside": str(int(seen == 0)), "occluded": str(int(seen == 1))}
                ElementTree.SubElement(
                    body, "points", flags | {"label": joint, "points": at} | states
                )
    ElementTree.indent(root)
    write_whole(out, ElementTree.tostring(root, "unicode", xml_declaration=True))
    joints = json.dumps(list(skeleton.joints), ensure_ascii=False)
    return (
        f"upload it as 'CVAT 1.1' to a task of these images whose label is a skeleton '{_CLASS}' "
        f"with the points {joints}"
    )


WRITERS: dict[str, Callable[[Path, list[Page], Skeleton], str]] = {
    "yolo": write_yolo,
    "labelstudio": write_labelstudio,
    "cvat": write_cvat,
}


def write(
    form: str,
    source: str,
    annotations: str | None,
    skeleton: str | None,
    min_score: float,
    out: Path,
) -> str:
    """Write predictions for people to correct; see :func:`kdpose.formats.prelabels.read`.

    Returns:
        A line on what was written and what to do with it.

    Raises:
        ValueError: the format is unknown, or the predictions cannot be used.
    """
    if form not in WRITERS:
        raise ValueError(f"to must be one of {', '.join(WRITERS)}, got {form}")
    if annotations is None:
        raise ValueError(f"to={form} needs annotations=FILE.json, which lists the images")
    pages, joints = prelabels.read(source, annotations, skeleton, min_score)
    out.parent.mkdir(parents=True, exist_ok=True)
    ahead = WRITERS[form](out, pages, joints)
    count = sum(len(page.persons) for page in pages)
    return f"{count} persons in {len(pages)} images, written to {out.absolute()}; {ahead}"
