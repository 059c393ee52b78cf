"""Find poses in images and videos: ``python -m kdpose.predict ckpt=C source=photo.jpg``."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kdpose.checkpoints import load_net
from kdpose.cli import console, entry_point
from kdpose.drawing import side_by_side
from kdpose.frame_results import FrameResults, ImageResults
from kdpose.image_poses import ImagePoses
from kdpose.images import ImageFile, find_images, open_image
from kdpose.person_boxes import BoxSource, box_source
from kdpose.predictor import Predictor
from kdpose.tracking import Smoother, Tracker, follow, track_colors
from kdpose.video import VideoReader, is_video

_LARGEST = 8192  # pixels; longer sides are drawn smaller, and JPEG ends at 65535
_PIXELS = 500_000_000  # a user's own pictures are no attack, as Pillow's lower limit suspects
_FREE = ("device", "batch_size", "debug", "out")  # what may differ when a run is continued


@dataclass(frozen=True)
class Painter:
    """Draws poses, beside those of stage 1 where it is given that predictor."""

    threshold: float
    stage1: Predictor | None

    def __call__(self, poses: ImagePoses, colors: Sequence[str] | None = None) -> NDArray[np.uint8]:
        """A picture ``(H, W, 3)``; one colour per person where colours are given."""
        draw = partial(ImagePoses.draw, threshold=self.threshold)
        draw = draw if colors is None else partial(draw, colors=colors)
        if self.stage1 is None:
            return draw(poses)
        initial = self.stage1(poses.image, poses.boxes, poses.box_scores)
        return side_by_side({"stage 1": draw(initial), "refined": draw(poses)})


@entry_point("predict")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    Image.MAX_IMAGE_PIXELS = _PIXELS
    loaded = load_net(cfg.ckpt, skeleton=cfg.skeleton, input_size=cfg.input_size, label=cfg.label)
    predictor = Predictor(loaded, cfg.device, cfg.flip, cfg.batch_size)
    painter = Painter(cfg.threshold, predictor.stage1() if cfg.compare else None)
    out = Path(cfg.out)
    source = str(cfg.source)
    if is_video(source):
        with VideoReader(source) as video:
            boxes = box_source(str(cfg.boxes), **cfg.detector, device=predictor.device)
            out.mkdir(parents=True, exist_ok=True)
            _predict_video(cfg, video, predictor, boxes, painter)
        return
    images = find_images(source, cfg.images)
    _spare_sources(images, out)
    ids = [image.image_id for image in images]
    boxes = box_source(str(cfg.boxes), **cfg.detector, device=predictor.device, ids=ids)
    out.mkdir(parents=True, exist_ok=True)
    _predict_images(cfg, images, predictor, boxes, painter)


def _spare_sources(images: Iterable[ImageFile], out: Path) -> None:
    """Drawn pictures are named as their sources, so they must not lie where these do."""
    if out.resolve() in {image.path.resolve().parent for image in images}:
        raise ValueError(
            f"{out.absolute()} (from out) holds the source's images, which would be overwritten: "
            "set out=ANOTHER_FOLDER"
        )


def _predict_images(
    cfg: DictConfig,
    images: Sequence[ImageFile],
    predictor: Predictor,
    boxes: BoxSource,
    painter: Painter,
) -> None:
    """What cannot be read is skipped and counted; it is an error if nothing can."""
    out = Path(cfg.out)
    stems = Counter(image.path.stem for image in images)
    broken: list[str] = []
    with (
        _going_on_later(),
        closing(ImageResults(out, _settings(cfg))) as results,
        _progress(len(images)) as progress,
    ):
        if results.done:
            console.print(f"{len(results.done)} images were done before, going on")
        for image in images:
            key, stem = f"{image.image_id} {image.path}", image.path.stem
            if key not in results.done:
                try:
                    picture = open_image(image.path)
                except OSError as error:
                    broken.append(str(error))
                    _step(progress, 0)
                    continue
                poses = predictor(picture, *boxes(picture, image.image_id))
                name = stem if stems[stem] == 1 else f"{stem}_{image.image_id}"
                _save(cfg, poses, painter, out, name)
                found = poses.to_coco(image.image_id)
                results.add(key, [{**person, "file_name": image.path.name} for person in found])
            _step(progress, len(results.done[key]))
        persons = results.finish()
    for line in broken:
        console.print(f"[yellow]skipped:[/] {line}", soft_wrap=True)
    if len(broken) == len(images):
        raise ValueError(f"none of the {len(images)} images can be read")
    skipped = f", {len(broken)} skipped" if broken else ""
    drawn = ", drawn pictures beside it" if cfg.draw else ""
    console.print(
        f"{persons} persons in {len(images) - len(broken)} images{skipped}: "
        f"{results.path.absolute()}{drawn}",
        soft_wrap=True,
    )


@contextmanager
def _going_on_later() -> Iterator[None]:
    """Ctrl+C ends with a line that says what comes next, and the shell's status for it."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("stopped: the same command goes on from here")
        sys.exit(130)


def _settings(cfg: DictConfig) -> dict[str, Any]:
    """What decides the results: a run of other settings is not continued."""
    values: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    files = [Path(str(values[key])) for key in ("ckpt", "boxes")]
    changed = [file.stat().st_mtime for file in files if file.is_file()]
    return {k: v for k, v in values.items() if k not in _FREE} | {"changed": changed}


def _save(cfg: DictConfig, poses: ImagePoses, painter: Painter, out: Path, name: str) -> None:
    if cfg.draw:
        drawn = Image.fromarray(painter(poses))
        drawn.thumbnail((_LARGEST, _LARGEST))
        drawn.save(out / f"{name}.jpg", quality=92)
    if cfg.crops:
        _save_crops(poses, out, name)


def _save_crops(poses: ImagePoses, out: Path, name: str) -> None:
    (out / "crops").mkdir(exist_ok=True)
    for person, crop in enumerate(poses.crops()):
        if crop.size:
            Image.fromarray(crop).save(out / "crops" / f"{name}_{person}.jpg", quality=92)


def _predict_video(
    cfg: DictConfig, video: VideoReader, predictor: Predictor, boxes: BoxSource, painter: Painter
) -> None:
    """Ctrl+C ends a camera, or a video early; the files hold what was done until then."""
    track, rate = cfg.track, video.rate
    tracker = Tracker(rate, track.gap, cfg.detector.threshold) if track.enabled else None
    smooth = None
    if tracker is not None and track.smooth and not cfg.compare:  # stage 1 would lack it
        smooth = Smoother(rate, track.cutoff, track.beta, track.gap)
    out = Path(cfg.out)
    frames = persons = 0
    with (
        closing(FrameResults(out, rate, cfg.draw)) as results,
        _progress(video.count) as progress,
    ):
        try:
            for frame, poses, identities in follow(video, predictor, boxes, tracker, smooth):
                results.add(frame, poses, identities)
                if cfg.draw:
                    results.draw(painter(poses, track_colors(identities)))
                if cfg.crops:
                    _save_crops(poses, out, f"{frame.number:06d}")
                frames, persons = frames + 1, persons + len(poses)
                _step(progress, len(poses))
        except KeyboardInterrupt:
            console.print("stopped")
    drawn = ", drawn.mp4 beside it" if cfg.draw and frames else ""
    console.print(f"{persons} persons in {frames} frames: {results.path.absolute()}{drawn}")


def _progress(total: int | None) -> Progress:
    """A bar that tells persons per second too."""
    progress = Progress(
        TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[rate]:.1f} persons/s"), console=console, transient=True,
    )  # fmt: skip
    progress.add_task("predicting", total=total, rate=0.0, persons=0)
    return progress


def _step(progress: Progress, persons: int) -> None:
    task = progress.tasks[0]
    total = task.fields["persons"] + persons
    rate = total / max(task.elapsed or 0, 1e-3)
    progress.update(task.id, advance=1, persons=total, rate=rate)


if __name__ == "__main__":
    main()
