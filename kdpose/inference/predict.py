"""Find poses in images and videos, here or on a cluster."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kdpose.cli import console
from kdpose.inference.detector import choose_detector
from kdpose.inference.images import ImageFile, find_images
from kdpose.inference.pictures import save_crops
from kdpose.inference.ray import write_on_ray
from kdpose.inference.results import FrameResults, ImageResults
from kdpose.inference.shards import Count, Shard, count, divide, remove_unfinished, write
from kdpose.inference.tracking import Smoother, Tracker, follow, track_colors
from kdpose.inference.video import VideoReader, is_video
from kdpose.inference.worker import ImageWorker, build_worker

_FREE = ("device", "batch_size", "debug", "out", "engine", "shard", "ray")  # may differ on resuming
_RAY_SHARD = 500  # images; some minutes of work, which is what a lost worker loses
_NAMED = 20  # unreadable images of shards that are named on the console


def predict(cfg: DictConfig) -> None:
    """Find the poses in ``source`` and write them to ``out``.

    Args:
        cfg: ``conf/predict.yaml``'s keys.

    Raises:
        ValueError: ``engine`` is unknown, or drawn pictures would overwrite the source.
    """
    if cfg.engine not in ("local", "ray"):
        raise ValueError(f"engine must be local or ray, got {cfg.engine}")
    out = Path(cfg.out)
    source = str(cfg.source)
    if is_video(source):
        with VideoReader(source) as video:
            worker = build_worker(cfg)
            out.mkdir(parents=True, exist_ok=True)
            _predict_video(cfg, video, worker)
        return
    images = find_images(source, cfg.images)
    _spare_sources(images, out)
    worker = build_worker(cfg, images)
    out.mkdir(parents=True, exist_ok=True)
    if cfg.engine == "ray" or cfg.shard is not None:
        _predict_shards(cfg, images, worker)
    else:
        _predict_images(cfg, images, worker)


def _spare_sources(images: Iterable[ImageFile], out: Path) -> None:
    """Drawn pictures are named as their sources, so they must not lie where these do."""
    folders = {os.path.dirname(os.path.realpath(image.path)) for image in images}  # loops too
    if os.path.realpath(out) in folders:
        raise ValueError(
            f"{out.absolute()} (from out) holds the source's images, which would be overwritten: "
            "set out=ANOTHER_FOLDER"
        )


def _predict_images(cfg: DictConfig, images: Sequence[ImageFile], worker: ImageWorker) -> None:
    """What cannot be read is skipped and counted; it is an error if nothing can."""
    broken: list[str] = []
    with (
        _going_on_later(),
        closing(ImageResults(Path(cfg.out), _settings(cfg))) as results,
        _progress(len(images)) as progress,
    ):
        keys = {image: f"{image.image_id} {image.path}" for image in images}
        left = [image for image in images if keys[image] not in results.done]
        if results.done:
            console.print(f"{len(results.done)} images were done before, going on")
            _step(progress, Count(len(images) - len(left)))
        for image, persons, error in worker(left):
            if error is None:
                results.add(keys[image], persons)
            else:
                broken.append(error)
            _step(progress, Count(1, len(persons)))
        total = results.finish()
    for line in broken:
        console.print(f"skipped: {line}", style="yellow", soft_wrap=True)
    _tell(cfg, Count(len(images), total, len(broken)), results.path)


def _predict_shards(cfg: DictConfig, images: Sequence[ImageFile], worker: ImageWorker) -> None:
    """The same on one machine and on many: shards that are missing are written."""
    folder = Path(cfg.out) / "shards"
    shards = divide(images, _RAY_SHARD if cfg.shard is None else cfg.shard, folder, _settings(cfg))
    folder.mkdir(exist_ok=True)
    left = [shard for shard in shards if not shard.path.is_file()]
    if len(left) < len(shards):
        console.print(f"{len(shards) - len(left)} of {len(shards)} shards were done before")
    with _going_on_later(), _progress(len(images)) as progress:
        for shard in shards:
            if shard not in left:
                _step(progress, Count(len(shard.images)))
        for written in _written(cfg, left, worker):
            _step(progress, written)
    remove_unfinished(folder)
    total = Count()
    for shard in shards:  # as they lie there, not as they were said to be
        counted, errors = count(shard)
        for line in errors[: max(0, _NAMED - total.broken)]:
            console.print(f"skipped: {line}", style="yellow", soft_wrap=True)
        total = total.plus(counted)
    if total.broken > _NAMED:
        console.print(f"skipped: {total.broken - _NAMED} more, which the shards name")
    _tell(cfg, total, folder)


def _written(cfg: DictConfig, shards: Sequence[Shard], worker: ImageWorker) -> Iterator[Count]:
    if cfg.engine == "local":
        return (write(shard, worker) for shard in shards)
    there = cfg.copy()
    for key in (
        "ckpt",
        "boxes",
        "out",
        "skeleton",
        "detector.weights",
        "teacher.file",
        "teacher.model",
    ):
        value = OmegaConf.select(there, key)
        if value is not None and Path(str(value)).exists():  # not "detector" or "coco"
            OmegaConf.update(there, key, str(Path(value).absolute()))
    return write_on_ray(shards, partial(build_worker, there), **cfg.ray) if shards else iter(())


def _tell(cfg: DictConfig, total: Count, where: Path) -> None:
    if total.broken == total.images:
        raise ValueError(f"none of the {total.images} images can be read")
    skipped = f", {total.broken} skipped" if total.broken else ""
    drawn = ", drawn pictures beside it" if cfg.draw else ""
    console.print(
        f"{total.persons} persons in {total.images - total.broken} images{skipped}: "
        f"{where.absolute()}{drawn}",
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
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    files = [Path(str(values[key])) for key in ("ckpt", "boxes")]
    changed = [file.stat().st_mtime for file in files if file.is_file()]
    return {k: v for k, v in values.items() if k not in _FREE} | {"changed": changed}


def _predict_video(cfg: DictConfig, video: VideoReader, worker: ImageWorker) -> None:
    """Ctrl+C ends a camera, or a video early; the files hold what was done until then."""
    track, rate = cfg.track, video.rate
    sure = choose_detector(**cfg.detector).threshold
    tracker = Tracker(rate, track.gap, sure) if track.enabled else None
    smooth = None
    if tracker is not None and track.smooth and not cfg.compare:  # stage 1 would lack it
        smooth = Smoother(rate, track.cutoff, track.beta, track.gap)
    total = Count()
    with (
        closing(FrameResults(worker.out, rate, cfg.draw)) as results,
        _progress(video.count) as progress,
    ):
        try:
            found = follow(video, worker.predictor, worker.boxes, tracker, smooth, video.live)
            for frame, poses, identities in found:
                results.add(frame, poses, identities)
                if worker.painter is not None:
                    results.draw(worker.painter(poses, track_colors(identities)))
                if worker.crops:
                    save_crops(poses, worker.out, f"{frame.number:06d}")
                done = Count(1, len(poses))
                total = total.plus(done)
                _step(progress, done)
        except KeyboardInterrupt:
            console.print("stopped")
    drawn = ", drawn.mp4 beside it" if cfg.draw and total.images else ""
    console.print(
        f"{total.persons} persons in {total.images} frames: {results.path.absolute()}{drawn}"
    )


def _progress(total: int | None) -> Progress:
    """A bar that tells persons per second too."""
    progress = Progress(
        TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[rate]:.1f} persons/s"), console=console, transient=True,
    )  # fmt: skip
    progress.add_task("predicting", total=total, rate=0.0, persons=0)
    return progress


def _step(progress: Progress, done: Count) -> None:
    task = progress.tasks[0]
    total = task.fields["persons"] + done.persons
    rate = total / max(task.elapsed or 0, 1e-3)
    progress.update(task.id, advance=done.images, persons=total, rate=rate)
