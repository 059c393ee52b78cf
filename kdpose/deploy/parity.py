"""Compare an exported file with PyTorch on real crops: pixels, AP and latency."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdpose.deploy.crops import Array, Crops, Net
from kdpose.pose_net import PoseNet
from kdpose.types import Coordinates, Scores, SimCCLogits

_TIE = 1e-4  # between logits: about ten times the rounding of float32
_MAP_TIE = 1e-5  # between cells of a heatmap, as a share of its largest value
_MOVED = 0.05  # crop pixels: less than that is no other bin
Network = Callable[[NDArray[np.uint8]], Sequence[Array]]  # crops to joints and scores


def run(network: Network, crops: Crops, batch_size: int = 8) -> tuple[Array, Array]:
    """Joints ``(N, K, 2)`` in crop pixels and scores ``(N, K)``."""
    parts = [
        network(crops.pixels[start : start + batch_size])
        for start in range(0, len(crops), batch_size)
    ]
    joints, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    return joints, scores


@torch.inference_mode()
def undecided(net: Net, crops: Crops, batch_size: int = 8) -> NDArray[np.bool_]:
    """``(N, K)``: joints whose two best bins or cells nearly tie, so that rounding may decide.

    PyTorch itself decides some of them differently at another batch size. A refiner spreads a
    joint over its neighbours, so that a tie makes the whole person undecided.
    """
    student = net if isinstance(net, PoseNet) else net.student
    ties = []
    for start in range(0, len(crops), batch_size):
        ties.append(_ties(student.logits(crops.batch.image[start : start + batch_size])))
    tied: NDArray[np.bool_] = torch.cat(ties).numpy()
    return tied if student is net else tied | tied.any(axis=1, keepdims=True)


def _ties(logits: Scores) -> Tensor:
    """``(B, K)``: joints whose two best bins along an axis, or cells of a map, nearly tie."""
    if isinstance(logits, SimCCLogits):
        best = [axis.topk(2, dim=-1).values for axis in logits]
        return torch.stack([b[..., 0] - b[..., 1] < _TIE for b in best]).any(0)
    if isinstance(logits, Coordinates):  # there is nothing to choose between
        return torch.zeros_like(logits.score, dtype=torch.bool)
    cells = logits.flatten(2)
    first, second = cells.topk(2, dim=-1).values.unbind(-1)
    return first - second < _MAP_TIE * cells.abs().amax(-1)


class Budgets(NamedTuple):
    """What a file may differ by from PyTorch; None: anything.

    Attributes:
        px: distance of any joint that is not near-tied, and 95th percentile of all drawn joints,
            crop pixels.
        share: 95th percentile of all drawn joints, in sizes of their persons.
        ap: drop of AP, percent.
    """

    px: float | None
    share: float | None
    ap: float | None


@dataclass(frozen=True)
class Parity:
    """Differences between a file and PyTorch on N persons.

    Percentiles are of the joints that would be drawn, near-tied ones included: a systematic shift
    shows in them, however many bins tie, and a few ties do not.

    Attributes:
        persons: N.
        joints: the number of their joints.
        drawn: joints whose score in PyTorch is one that predictions draw; all, if none is.
        ties: joints with near-tied top bins, see :func:`undecided`.
        ties_moved: those of them that rounding decided otherwise.
        ties_px: largest distance of a near-tied joint from PyTorch's, crop pixels.
        max_px: largest distance of any other joint.
        mean_px: mean distance of all joints.
        median_px: median distance of the drawn joints.
        p95_px: 95th percentile of it.
        p95_share: 95th percentile of the distance in sizes of the person, the root of a box's area.
        ap_torch: AP of PyTorch, percent; None without labels.
        ap_file: AP of the file.
    """

    persons: int
    joints: int
    drawn: int
    ties: int
    ties_moved: int
    ties_px: float
    max_px: float
    mean_px: float
    median_px: float
    p95_px: float
    p95_share: float
    ap_torch: float | None
    ap_file: float | None

    @property
    def ap_loss(self) -> float | None:
        """AP lost, percent, to two decimals."""
        if self.ap_torch is None or self.ap_file is None:
            return None
        return round(self.ap_torch - self.ap_file, 2)

    @property
    def ap_step(self) -> float:
        """AP of one person at one of its ten thresholds, percent: smaller drops mean nothing."""
        return round(10 / self.persons, 2)

    def beyond(self, budgets: Budgets) -> list[str]:
        """The reasons why the file fails the gate; empty if it passes."""
        px, share, ap = budgets.px, budgets.share, budgets.ap
        faults = []
        if px is None and share is None:
            faults += self._unjudged(ap)
        if px is not None and self.max_px > px:
            faults.append(f"a joint moves by {self.max_px:.3f} px (budget {px} px)")
        if px is not None and self.p95_px > px:
            tied = f"; {self.ties_moved} of them are near-tied" if self.ties_moved else ""
            faults.append(f"5 % of the joints move by {self.p95_px:.3f} px (budget {px} px{tied})")
        if share is not None and self.p95_share > share:
            faults.append(
                f"5 % of the joints move by {self.p95_share:.1%} of the person's size "
                f"(budget {share:.1%})"
            )
        if ap is not None and self.ap_loss is not None and self.ap_loss > max(ap, self.ap_step):
            faults.append(
                f"AP drops by {self.ap_loss:.2f} (budget {ap}, one step is {self.ap_step})"
            )
        return faults

    def _unjudged(self, ap: float | None) -> list[str]:
        """Why AP alone cannot judge; empty if it can."""
        if ap is None:
            return ["nothing is compared: set gate.px, gate.share or gate.ap"]
        if self.ap_torch is None:
            return ["there are no labels for an AP: set gate.px or gate.share"]
        if self.ap_torch <= ap:
            return [f"PyTorch's own AP is {self.ap_torch:.2f}, too low to show a loss"]
        return []


def drawn_joints(scores: Array, least: float) -> NDArray[np.bool_]:
    """``(N, K)``: the joints with a score from ``least`` on; all, if there are none."""
    drawn: NDArray[np.bool_] = scores >= least
    return drawn if drawn.any() else np.ones_like(drawn)


def compare(
    reference: Network, network: Network, crops: Crops, ties: NDArray[np.bool_], least: float = 0.0
) -> Parity:
    """Run both on all crops.

    Args:
        reference: the network in PyTorch.
        network: the file.
        crops: what both look at.
        ties: ``(N, K)``, those of :func:`undecided`.
        least: score from which joints are drawn.
    """
    (a, a_scores), (b, b_scores) = run(reference, crops), run(network, crops)
    distance = np.linalg.norm(a - b, axis=-1)
    drawn = drawn_joints(a_scores, least)
    return Parity(
        persons=len(crops),
        joints=ties.size,
        drawn=int(drawn.sum()),
        ties=int(ties.sum()),
        ties_moved=int((distance[ties] > _MOVED).sum()),
        ties_px=float(distance[ties].max(initial=0)),
        max_px=float(distance[~ties].max(initial=0)),
        mean_px=float(distance.mean()),
        median_px=float(np.median(distance[drawn])),
        p95_px=float(np.percentile(distance[drawn], 95)),
        p95_share=float(np.percentile((distance / crops.extent[:, None])[drawn], 95)),
        ap_torch=crops.average_precision(a, a_scores),
        ap_file=crops.average_precision(b, b_scores),
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
