"""CVAT for images 1.1: an XML whose ``<skeleton>`` elements are persons."""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from kdpose.formats.coco_file import CocoFile
from kdpose.skeletons.known import default_sigmas
from kdpose.skeletons.skeleton import Skeleton


def read(source: Path, images: Path | None, skeleton: Skeleton | None) -> dict[str, Any]:
    """Read an export.

    Points that are ``outside`` are not labelled, ``occluded`` ones get v = 1.

    Args:
        source: ``annotations.xml``.
        images: unused.
        skeleton: joints and their order; None: the order in which they first occur.
    """
    if not source.is_file():
        raise FileNotFoundError(f"no annotations at {source.absolute()} (from source)")
    try:
        root = parse(source).getroot()
    except ParseError as error:
        raise ValueError(f"{source.absolute()} (from source) is not XML: {error}") from None
    except DefusedXmlException:
        raise ValueError(
            f"{source.absolute()} (from source) declares entities, which CVAT does not write and "
            "which can fill the memory: remove its <!DOCTYPE ...>"
        ) from None
    if root.find("image/skeleton") is None:
        raise ValueError(
            f"{source.absolute()} (from source) has no <skeleton> in an <image>: export the task "
            "as 'CVAT for images 1.1'"
        )
    if skeleton is None:
        points = root.iterfind("image/skeleton/points")
        names = tuple(dict.fromkeys(str(point.get("label")) for point in points))
        skeleton = Skeleton("cvat", names, (), default_sigmas(names), sigma_source="default")
    file = CocoFile(skeleton)
    for image in root.iterfind("image"):
        file.add_image(
            str(image.get("name")), int(image.get("width", 0)), int(image.get("height", 0))
        )
        for person in image.iterfind("skeleton"):
            keypoints = _keypoints(person, skeleton.joints, source)
            if keypoints[:, 2].any():
                file.add_person(keypoints)
    return file.to_dict()


def _keypoints(person: Any, joints: tuple[str, ...], source: Path) -> np.ndarray:
    keypoints = np.zeros((len(joints), 3))
    for point in person.iterfind("points"):
        label = str(point.get("label"))
        if label not in joints:
            raise ValueError(
                f"{source.absolute()}: '{label}' is not a joint: use one of {', '.join(joints)}"
            )
        if point.get("outside") != "1":
            x, y = point.get("points", "").split(";")[0].split(",")
            visibility = 1 if point.get("occluded") == "1" else 2
            keypoints[joints.index(label)] = (float(x), float(y), visibility)
    return keypoints
