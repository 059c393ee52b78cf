"""What the paper's alpha and beta weigh at other label forms, crop sizes and feature maps.

The paper's weights apply to sums in input pixels and in map cells, beside an L_KL of smoothed
labels at 192x256. The same numbers weigh several times more or less elsewhere: at the scores of an
untrained network the gradient of 0.1 L_pos is 0.34 of L_KL's there, 0.21 at 72x96 and 1.44 with
Gaussian labels of 6 bins. The factors here undo that, and are 1 at the paper's setting.
"""

import torch
from torch import Tensor

from kdpose.codecs.simcc import SimCC
from kdpose.losses.pose_l1 import pose_l1
from kdpose.losses.simcc_kl import simcc_kl
from kdpose.types import SimCCLogits

PAPER = SimCC((192, 256))  # smoothed labels, two bins a pixel
PAPER_MAP = (48, 64, 48)  # C, h, w of HRNet-W48's map of stride 4, as Eq. 1 compares it


def pose_share(codec: SimCC, temperature: float = 1.0) -> float:
    """The gradient of a joint's L1 distance (Eq. 2) as a share of its L_KL's, both unweighted.

    At the scores of an untrained network, which are alike for all bins, for a label in the middle
    of the crop and a teacher's joint away from it.

    Args:
        codec: of the student.
        temperature: of the soft-argmax.
    """
    scores = [torch.zeros(1, 1, count, dtype=torch.float64) for count in codec.bins]
    logits = SimCCLogits(*(axis.requires_grad_() for axis in scores))
    middle, one = torch.tensor(codec.input_size).view(1, 1, 2) / 2, torch.ones(1, 1)
    target = codec.encode(middle, one)
    distance = pose_l1(codec.expectation(logits, temperature), torch.zeros(1, 1, 2), one)
    return (_norm(distance, logits) / _norm(simcc_kl(logits, target), logits)).item()


def _norm(loss: Tensor, logits: SimCCLogits) -> Tensor:
    """The gradient's L2 norm."""
    gradients = torch.autograd.grad(loss, list(logits))
    return torch.cat([gradient.flatten() for gradient in gradients]).norm()


def pose_balance(codec: SimCC, temperature: float = 1.0) -> float:
    """Factor of beta that keeps Eq. 2 and 3 at the share of L_KL that they have in the paper."""
    return pose_share(PAPER) / pose_share(codec, temperature)


def feature_balance(shape: tuple[int, int, int]) -> float:
    """Factor of alpha that makes Eq. 1 a sum over as many cells as in the paper.

    Args:
        shape: C, h and w of the maps that are compared.
    """
    (channels, height, width), (c, h, w) = shape, PAPER_MAP
    return c * h * w / (channels * height * width)
