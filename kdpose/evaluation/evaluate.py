"""Score a checkpoint on a COCO-format file."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch.utils.data import DataLoader

from kdpose.checkpoints.guest_net import GuestNet, LoadedGuest
from kdpose.checkpoints.load import Loaded
from kdpose.cli import console
from kdpose.data.annotations import Persons, concatenate, load_persons
from kdpose.data.dataset import PoseDataset, check_images, collate
from kdpose.data.detections import box_sources, load_detections
from kdpose.data.transforms import PADDING
from kdpose.evaluation.cost import complexity
from kdpose.evaluation.score import score_shared
from kdpose.metrics.pose_results import PoseResults, Predictions, to_results
from kdpose.metrics.submission import write_submission
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.runtime.annotation_file import AnnotationFile, Annotations
from kdpose.runtime.categories import category_joints
from kdpose.runtime.devices import pick_device
from kdpose.runtime.memory import keep_memory
from kdpose.runtime.provenance import sha256
from kdpose.runtime.signals import keep_worker
from kdpose.runtime.whole import write_json
from kdpose.skeletons.files import named_skeleton
from kdpose.skeletons.shared import SkeletonBridge
from kdpose.skeletons.sides import joint_key
from kdpose.skeletons.skeleton import Skeleton
from kdpose.types import Answer

_NMS = 0.9  # largest OKS of two persons that may both stay


@torch.inference_mode()
def predict_poses(
    net: PoseNet | RefinedPoseNet | GuestNet,
    dataset: PoseDataset,
    *,
    flip: bool,
    batch_size: int = 64,
    num_workers: int = 2,
    device: str = "auto",
    spread: bool = False,
) -> Predictions:
    """Poses of all of a data set's persons, found by this process, with a progress bar.

    ``spread`` asks for the standard deviations of the joints' distributions, where there are any.
    """
    where = pick_device(device)
    if where.type == "cpu":
        keep_memory()
    net = net.to(where).eval()
    results = PoseResults(dataset.input_size, alone=True)
    loader = DataLoader(
        dataset, batch_size, num_workers=num_workers, collate_fn=collate, worker_init_fn=keep_worker
    )
    for batch in track(loader, "evaluating", console=console, transient=True):
        image = batch.image.to(where)
        if spread and not isinstance(net, RefinedPoseNet):
            pose = net.answer(image, flip)
        else:
            pose = Answer(*net.pose(image, flip))
        results.update(
            batch.image_id,
            batch.person,
            pose.joints.cpu(),
            pose.scores.cpu(),
            batch.box_score,
            batch.center,
            batch.size,
            None if pose.spread is None else pose.spread.cpu(),
        )
    return results.compute()


def evaluate_net(
    loaded: Loaded | LoadedGuest,
    *,
    annotations: Annotations | None = None,
    skeleton: str | None = None,
    images: str | None = None,
    protocol: str | None = None,
    boxes: str | Sequence[str] = "gt",
    flip: bool = True,
    crowd_cuts: tuple[float, float] = (0.2, 0.8),
    results_out: Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Score a network on a COCO-format file; by default on its own validation split.

    Args:
        loaded: from :func:`load_net`, or of another project.
        annotations: annotation file.
        skeleton: of annotations that do not name their joints: ``coco`` or a file.
        images: folder of its images; with ``annotations`` alone, the checkpoint's own.
        protocol: ``coco`` or ``crowdpose``.
        boxes: see :func:`box_sources`.
        flip: average with the mirrored crop.
        crowd_cuts: see :func:`keypoint_ap`.
        results_out: where the first box source's poses are written: ``.json`` or ``.zip``.
        **options: of :func:`predict_poses`.

    Returns:
        :func:`score`'s record and the circumstances; of several boxes the first's, and ``sources``.

    Raises:
        FileNotFoundError: a file or an image is missing.
        ValueError: the files do not fit, or nobody is labelled.
    """
    own = loaded.description["dataset"]
    task = _Task.read(loaded, *_data(own, annotations, images), boxes, skeleton, bool(results_out))
    found = task.results(flip, **options)
    _write_results(results_out, next(iter(found.values())), task)
    protocol = protocol or own.get("protocol", "coco")
    return task.record(found, flip, protocol=protocol, crowd_cuts=crowd_cuts)


@dataclass(frozen=True)
class _Task:
    """A network, and the persons that it is scored on.

    Attributes:
        loaded: the network.
        truth: the annotation file.
        images: folder of its images.
        sources: box sources by the name that a table gives them.
        persons: in the boxes of each source.
        bridge: from the annotations' joints to the network's.
    """

    loaded: Loaded | LoadedGuest
    truth: AnnotationFile
    images: Path
    sources: Mapping[str, str]
    persons: Mapping[str, Persons]
    bridge: SkeletonBridge

    @classmethod
    def read(
        cls,
        loaded: Loaded | LoadedGuest,
        truth: AnnotationFile,
        folder: Path,
        boxes: str | Sequence[str],
        skeleton: str | None,
        unlabelled: bool,
    ) -> "_Task":
        """Read the persons; ``unlabelled``: there may be nobody to score."""
        if not unlabelled and not truth.counts()[1]:
            raise ValueError(
                f"{truth.path} has no labelled persons to score: set submission=FILE.zip"
            )
        sources, bridge = box_sources(boxes, truth), _named_bridge(loaded, truth, skeleton)
        persons = {k: _persons(source, truth, bridge.student) for k, source in sources.items()}
        return cls(loaded, truth, folder, sources, persons, bridge)

    def results(self, flip: bool, **options: Any) -> dict[str, list[dict[str, Any]]]:
        """COCO results by box source; the network sees all persons in one pass."""
        net, everybody = self.loaded.net, concatenate(*self.persons.values())
        check_images(everybody, self.images, "images")
        padding = net.padding if isinstance(net, GuestNet) else PADDING
        dataset = PoseDataset(
            everybody, self.images, self.bridge.student, net.codec.input_size, padding=padding
        )
        poses = predict_poses(net, dataset, flip=flip, **options)
        results, start = {}, 0
        for name, part in self.persons.items():
            rows = poses[start : start + len(part)]
            results[name] = to_results(
                rows,
                net.skeleton.sigmas,
                threshold=net.score_threshold,
                nms=_NMS,
                categories=everybody.category,
            )
            start += len(part)
        return results

    def record(
        self,
        results: Mapping[str, Sequence[Mapping[str, Any]]],
        flip: bool,
        **rules: Any,
    ) -> dict[str, Any]:
        """What :func:`evaluate_net` returns for the results by box source."""
        net = self.loaded.net
        cost = {} if isinstance(net, GuestNet) else complexity(net)
        records = {
            name: score_shared(self.truth, results[name], self.bridge, **rules)
            | self._circumstances(source, len(self.persons[name]), flip)
            | cost
            for name, source in self.sources.items()
        }
        first = next(iter(records.values()))
        return first if len(records) == 1 else {**first, "sources": records}

    def _circumstances(self, source: str, boxes: int, flip: bool) -> dict[str, Any]:
        """What the poses depend on beside the network's weights."""
        detected, codec = source != "gt", self.loaded.net.codec
        return {
            "box_source": str(Path(source).absolute()) if detected else "gt",
            "boxes_sha256": sha256(source) if detected else None,
            "boxes": boxes,
            "flip": flip,
            "flip_shift_bins": codec.flip_shift if flip else None,
            "score_threshold": self.loaded.net.score_threshold,
            "oks_nms": _NMS,
            "input_size": list(codec.input_size),
        }


def _named_bridge(
    loaded: Loaded | LoadedGuest, truth: AnnotationFile, skeleton: str | None
) -> SkeletonBridge:
    """From the annotations' joints to the network's; of another file, joints must have names.

    Raises:
        ValueError: they have none, and no ``skeleton`` gives them; or too few are shared.
    """
    named = any(map(category_joints, truth.content.get("categories") or ()))
    own = loaded.description["dataset"].get("annotations")
    if named or own == str(truth.path) or not truth.counts()[1]:
        return joint_bridge(loaded.net, truth)
    if skeleton is None:
        raise ValueError(
            f"{truth.path}: no category names its joints, so their order is unknown: set "
            "skeleton=coco, crowdpose or a YAML 'joints: [...]'"
        )
    return SkeletonBridge.between(named_skeleton(skeleton), loaded.net.skeleton)


def joint_bridge(
    net: PoseNet | RefinedPoseNet | GuestNet, annotations: AnnotationFile
) -> SkeletonBridge:
    """From the annotations' joints to the network's: by name where they differ.

    A checkpoint keeps its own skeleton, and so its sigmas, where the joints are the same; a guest,
    which has none, takes that of the annotations.
    """
    own = net.skeleton
    with suppress(ValueError):  # no category names joints: they are the network's
        annotated = named_skeleton(annotations)
        same = [*map(joint_key, annotated.joints)] == [*map(joint_key, own.joints)]
        own = own if same and not isinstance(net, GuestNet) else annotated
    return SkeletonBridge.between(own, net.skeleton)


def _data(
    own: Mapping[str, Any], annotations: Annotations | None, images: str | None
) -> tuple[AnnotationFile, Path]:
    """The annotation file and the folder of images to score on."""
    if not own and not (annotations and images):
        raise ValueError("weights of another project know no data: set annotations=JSON images=DIR")
    folder = Path(images or own["images"]).absolute()
    file = annotations or own["annotations"]
    if not isinstance(file, AnnotationFile):
        file = AnnotationFile.read(file, images=folder)
    return file, folder


def _persons(source: str, annotations: AnnotationFile, skeleton: Skeleton) -> Persons:
    if source == "gt":
        return load_persons(annotations, skeleton, "annotations")
    return load_detections(source, annotations, skeleton)


def _write_results(out: Path | None, results: Sequence[dict[str, Any]], task: _Task) -> None:
    """Write COCO results as JSON, or zipped as a submission to COCO's server."""
    if out is None:
        return
    if out.suffix == ".zip":
        algorithm = str(task.loaded.description.get("experiment") or "kdpose")
        write_submission(out, results, task.truth.path.stem, algorithm)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, results)
