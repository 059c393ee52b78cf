"""The work of one process: read images, find persons and poses, draw them."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from PIL import Image

from kdpose.checkpoints.guest_net import LoadedGuest, open_guest
from kdpose.checkpoints.load import Loaded, chosen, load_net
from kdpose.data.sources.images import open_image
from kdpose.inference.boxes import BOX_CUT, BoxCut, BoxSource, FileBoxes, box_source
from kdpose.inference.detector import choose_detector
from kdpose.inference.images import ImageFile, known_sizes
from kdpose.inference.pictures import Painter, save_crops, save_drawn
from kdpose.inference.predictor import Predictor

_Opened = tuple[tuple[int, ImageFile], Image.Image, NDArray[np.float32], NDArray[np.float32]]


class ImageResult(NamedTuple):
    """The COCO results of an image, or the reason why it cannot be read."""

    image: ImageFile
    persons: list[dict[str, Any]]
    error: str | None = None


@dataclass(frozen=True)
class ImageWorker:
    """Predicts images.

    Attributes:
        predictor: finds poses.
        boxes: source of person boxes.
        out: folder for drawn pictures.
        painter: None draws nothing.
        crops: also write the crop of each box.
    """

    predictor: Predictor
    boxes: BoxSource
    out: Path
    painter: Painter | None
    crops: bool

    def __call__(self, images: Iterable[ImageFile]) -> Iterator[ImageResult]:
        """The results of each image, in order; the network's batches span images."""
        broken: deque[tuple[int, ImageResult]] = deque()
        for (number, image), poses in self.predictor.stream(self._open(images, broken)):
            while broken and broken[0][0] < number:
                yield broken.popleft()[1]
            if self.painter is not None:
                save_drawn(poses, self.painter, self.out, image.name)
            if self.crops:
                save_crops(poses, self.out, image.name)
            kinds = None
            if isinstance(self.boxes, FileBoxes):
                height, width = poses.image.shape[:2]
                kinds = self.boxes.categories((width, height), image.image_id)
            found = poses.to_coco(image.image_id, kinds)
            yield ImageResult(image, [{**p, "file_name": image.path.name} for p in found])
        yield from (result for _, result in broken)

    def _open(
        self, images: Iterable[ImageFile], broken: deque[tuple[int, ImageResult]]
    ) -> Iterator[_Opened]:
        for number, image in enumerate(images):
            try:
                picture = open_image(image.path, size=image.size)
            except OSError as error:
                broken.append((number, ImageResult(image, [], str(error))))
                continue
            yield (number, image), picture, *self.boxes(picture, image.image_id)


def build_worker(cfg: DictConfig, images: Sequence[ImageFile] | None = None) -> ImageWorker:
    """The worker that ``conf/predict.yaml`` describes.

    Args:
        cfg: the configuration.
        images: of the source, at least one of which must have a box; None if unknown.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file does not fit.
    """
    predictor = Predictor(_loaded(cfg), cfg.device, cfg.flip, cfg.batch_size)
    painter = Painter(cfg.threshold, predictor.stage1() if cfg.compare else None)
    least = cfg.detector.threshold
    cut = BoxCut(BOX_CUT.score if least is None else least, cfg.boxes_overlap)
    detector = choose_detector(**cfg.detector)
    ids = None if images is None else [image.image_id for image in images]
    asked = () if images is None or str(cfg.boxes) in ("auto", "detector", "whole") else images
    boxes = box_source(
        str(cfg.boxes),
        detector,
        predictor.device,
        ids,
        cut,
        cfg.get("category"),
        cfg.get("images"),
        known_sizes(asked),
    )
    out = Path(cfg.out)
    return ImageWorker(predictor, boxes, out, painter if cfg.draw else None, cfg.crops)


def _loaded(cfg: DictConfig) -> Loaded | LoadedGuest:
    """The checkpoint, or the network of ``teacher``."""
    if cfg.get("teacher") is not None:
        return open_guest(cfg.teacher)
    options = {key: cfg[key] for key in ("skeleton", "input_size", "label")}
    return load_net(chosen(cfg.ckpt), **options)
