"""Compare an exported file with PyTorch on real crops: pixels, AP and latency."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdpose.data.annotations import load_persons
from kdpose.data.dataset import PoseDataset, check_images
from kdpose.metrics.keypoint_ap import keypoint_ap
from kdpose.metrics.pose_results import PoseResults, to_results
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.skeletons.skeleton import Skeleton
from kdpose.types import PoseBatch, SimCCLogits

Array = NDArray[np.float32]
_TIE = 1e-4  # between logits: about ten times the rounding of float32
Network = Callable[[NDArray[np.uint8]], Sequence[Array]]  # crops to joints and scores


@dataclass(frozen=True)
class LabelledCrops:
    """All persons of the first images of a split, as network crops.

    Attributes:
        batch: the crops, uint8, and their regions.
        annotations: file to score against.
        protocol: ``coco`` or ``crowdpose``.
        skeleton: of the annotations.
        input_size: W, H of the crops.
    """

    batch: PoseBatch
    annotations: Path
    protocol: Any
    skeleton: Skeleton
    input_size: tuple[int, int]

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """``(N, 3, H, W)``."""
        return self.batch.image.numpy()

    def __len__(self) -> int:
        """Number of persons."""
        return len(self.batch.image)


def read_crops(
    annotations: str | Path,
    images: str | Path,
    protocol: str,
    skeleton: Skeleton,
    input_size: tuple[int, int],
    persons: int,
    key: str,
) -> LabelledCrops:
    """Cut crops of the persons in a split's first images, up to the requested number.

    Raises:
        FileNotFoundError: the annotations or images do not exist; the message names ``key``.
        ValueError: the annotations do not fit the skeleton.
    """
    everyone = load_persons(annotations, skeleton, f"{key}.annotations")
    check_images(everyone, images, f"{key}.images")
    _, first, count = np.unique(everyone.image_id, return_index=True, return_counts=True)
    order = np.argsort(first)
    needed = int(np.searchsorted(count[order].cumsum(), persons)) + 1
    chosen = everyone.image_id[first[order][:needed]]
    rows = np.flatnonzero(np.isin(everyone.image_id, chosen))
    dataset = PoseDataset(everyone, images, skeleton, input_size)
    batch = dataset.__getitems__(rows.tolist())
    batch = batch._replace(image=batch.image.contiguous())
    return LabelledCrops(batch, Path(annotations).absolute(), protocol, skeleton, input_size)


def run(network: Network, crops: LabelledCrops, batch_size: int = 8) -> tuple[Array, Array]:
    """Joints ``(N, K, 2)`` in crop pixels and scores ``(N, K)``."""
    parts = [
        network(crops.pixels[start : start + batch_size])
        for start in range(0, len(crops), batch_size)
    ]
    joints, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    return joints, scores


def average_precision(crops: LabelledCrops, joints: Array, scores: Array) -> float:
    """AP in percent on the crops' images; 0 without a person to score."""
    batch, results = crops.batch, PoseResults(crops.input_size)
    results.update(
        batch.image_id,
        batch.person,
        torch.from_numpy(joints),
        torch.from_numpy(scores),
        batch.box_score,
        batch.center,
        batch.size,
    )
    found = keypoint_ap(
        crops.annotations,
        to_results(results.compute(), crops.skeleton.sigmas),
        protocol=crops.protocol,
        sigmas=crops.skeleton.sigmas,
        image_ids=sorted(set(batch.image_id.tolist())),
    )
    return 100 * (found["AP"] or 0.0)


@torch.inference_mode()
def undecided(
    net: PoseNet | RefinedPoseNet, crops: LabelledCrops, batch_size: int = 8
) -> NDArray[np.bool_]:
    """``(N, K)``: joints whose two best bins nearly tie, so that rounding may decide.

    PyTorch itself decides some of them differently at another batch size. A refiner spreads a
    joint over its neighbours, so that a tie makes the whole person undecided.
    """
    student = net if isinstance(net, PoseNet) else net.student
    ties = []
    for start in range(0, len(crops), batch_size):
        logits = student.logits(crops.batch.image[start : start + batch_size])
        if not isinstance(logits, SimCCLogits):
            return np.zeros(crops.batch.joints.shape[:2], dtype=bool)
        best = [axis.topk(2, dim=-1).values for axis in logits]
        ties.append(torch.stack([b[..., 0] - b[..., 1] < _TIE for b in best]).any(0))
    tied: NDArray[np.bool_] = torch.cat(ties).numpy()
    return tied if student is net else tied | tied.any(axis=1, keepdims=True)


@dataclass(frozen=True)
class Parity:
    """Differences between a file and PyTorch on N persons.

    Attributes:
        persons: N.
        joints: the number of their joints.
        ties: joints with near-tied top bins, see :func:`undecided`.
        ties_px: largest distance of these from PyTorch's, crop pixels.
        max_px: largest distance of any other joint.
        mean_px: mean distance of all joints.
        ap_torch: AP of PyTorch, percent.
        ap_file: AP of the file, percent.
    """

    persons: int
    joints: int
    ties: int
    ties_px: float
    max_px: float
    mean_px: float
    ap_torch: float
    ap_file: float

    @property
    def ap_loss(self) -> float:
        """AP lost, percent, to two decimals."""
        return round(self.ap_torch - self.ap_file, 2)

    def beyond(self, px: float | None, ap: float | None) -> list[str]:
        """The reasons why the file fails the gate; empty if it passes."""
        faults = []
        if px is not None and self.ties > self.joints / 2:
            faults.append(f"{self.ties} of {self.joints} joints have near-tied top bins in PyTorch")
        if px is None and ap is not None and self.ap_torch <= ap:
            faults.append(f"PyTorch's own AP is {self.ap_torch:.2f}, too low to show a loss")
        if px is not None and self.max_px > px:
            faults.append(f"a joint moves by {self.max_px:.3f} px (budget {px} px)")
        if ap is not None and self.ap_loss > ap:
            faults.append(f"AP drops by {self.ap_loss:.2f} (budget {ap})")
        return faults


def compare(
    reference: Network, network: Network, crops: LabelledCrops, ties: NDArray[np.bool_]
) -> Parity:
    """Run both on all crops; ``ties`` are those of :func:`undecided`."""
    (a, a_scores), (b, b_scores) = run(reference, crops), run(network, crops)
    distance = np.linalg.norm(a - b, axis=-1)
    return Parity(
        persons=len(crops),
        joints=ties.size,
        ties=int(ties.sum()),
        ties_px=float(distance[ties].max(initial=0)),
        max_px=float(distance[~ties].max(initial=0)),
        mean_px=float(distance.mean()),
        ap_torch=average_precision(crops, a, a_scores),
        ap_file=average_precision(crops, b, b_scores),
    )


def latency(
    reference: Network, network: Network, pixels: NDArray[np.uint8], rounds: int
) -> dict[str, float]:
    """Wall time of one batch, both networks in turn, so that other load affects both.

    Returns:
        Medians ``torch_ms`` and ``file_ms`` per crop, and the median, smallest and largest ratio
        of the two within a round.
    """
    for network_ in (reference, network):
        network_(pixels)  # warm-up
    times = [(_seconds(reference, pixels), _seconds(network, pixels)) for _ in range(rounds)]
    ratios = [slow / fast for slow, fast in times]
    before, after = (
        1000 * statistics.median(column) / len(pixels) for column in zip(*times, strict=True)
    )
    return {
        "torch_ms": before,
        "file_ms": after,
        "speedup": statistics.median(ratios),
        "speedup_min": min(ratios),
        "speedup_max": max(ratios),
    }


def _seconds(network: Network, pixels: NDArray[np.uint8]) -> float:
    start = time.perf_counter()
    network(pixels)
    return time.perf_counter() - start
