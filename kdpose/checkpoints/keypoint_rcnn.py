"""torchvision's Keypoint R-CNN, the keypoint form of Mask R-CNN: poses in given boxes."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection import KeypointRCNN
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints

from kdpose.checkpoints.guest_net import GuestCodec, GuestNet
from kdpose.checkpoints.torchvision_nets import load_detection_net
from kdpose.codecs.spread import map_spread
from kdpose.skeletons.known import COCO
from kdpose.skeletons.skeleton import Skeleton
from kdpose.types import Answer

_NAME, _KEY = "keypointrcnn_resnet50_fpn", "teacher.file"
_log = logging.getLogger(__name__)


class KeypointRcnnNet(GuestNet):
    """The keypoint branch of torchvision's Keypoint R-CNN (He et al., ICCV 2017, section 5).

    The box is given: it is the middle of the crop, the crop's sides divided by ``padding``. The
    network's own detector does not run, so that it is compared with top-down networks on equal
    boxes. Its training saw boxes of any shape; these have the crop's.

    A joint's score is the probability of the peak's cell and its eight neighbours: the branch
    gives a softmax over all cells of the box.

    Args:
        file: of weights; None: torchvision's own, downloaded if necessary.
        skeleton: of its joints.
        input_size: W, H of the crop.
        padding: the crop's size relative to the box.
        sure: the score of a joint that it has no doubt of.

    Raises:
        FileNotFoundError: the file does not exist, or the weights cannot be downloaded.
        ValueError: the file does not fit the network with the skeleton's joints.
    """

    def __init__(
        self,
        file: str | None = None,
        skeleton: Skeleton = COCO,
        input_size: Sequence[int] = (288, 384),
        padding: float = 1.25,
        sure: float = 1.0,
    ) -> None:
        super().__init__()
        self.name = _NAME if file is None else Path(file).stem
        self.where = f"{_NAME if file is None else Path(file).absolute()} (from {_KEY})"
        self.skeleton, self.padding, self.sure = skeleton, padding, sure
        width, height = input_size
        self.codec = GuestCodec((width, height))
        net = load_detection_net(_NAME, file, _KEY, num_keypoints=len(skeleton))
        assert isinstance(net, KeypointRCNN)
        self.net = net.eval().requires_grad_(False)
        _log.info("%s: %s", self.where, self)

    def __str__(self) -> str:
        """What was read."""
        width, height = self.codec.input_size
        return (
            f"Keypoint R-CNN, {len(self.skeleton)} joints ({self.skeleton.name}) from "
            f"{width}x{height}, padding {self.padding:g}"
        )

    @torch.no_grad()
    def look(self, image: Tensor) -> Answer:
        """What the network answers of crops ``(B, 3, H, W)``, uint8 RGB."""
        height, width = image.shape[-2:]
        middle = image.new_tensor([width, height], dtype=torch.float32) / 2
        half = middle / self.padding
        box = torch.cat([middle - half, middle + half])
        roi, size = self.net.roi_heads, [(height, width)] * len(image)
        seen = roi.keypoint_roi_pool(self._maps(image), [box[None]] * len(image), size)
        logits = roi.keypoint_predictor(roi.keypoint_head(seen))
        joints, _ = heatmaps_to_keypoints(logits, box.expand(len(image), 4))
        cells = logits.flatten(2).softmax(-1).view_as(logits)
        near = 9 * F.avg_pool2d(cells, 3, stride=1, padding=1)
        peak = cells.flatten(2).argmax(-1, keepdim=True)
        scores = near.flatten(2).gather(-1, peak).squeeze(-1)
        scale = 2 * half / half.new_tensor(logits.shape[:1:-1])
        return Answer(joints[..., :2], scores, map_spread(cells) * scale)

    def feature(self, image: Tensor) -> Tensor:
        """The finest map ``(B, 256, H/4, W/4)`` of its pyramid."""
        return self._maps(image)["0"]

    @torch.no_grad()
    def _maps(self, image: Tensor) -> dict[str, Tensor]:
        """The pyramid's maps by their names, finest first."""
        usual = self.net.transform
        mean, std = (
            torch.tensor(values, device=image.device).view(3, 1, 1)
            for values in (usual.image_mean, usual.image_std)
        )
        maps: dict[str, Tensor] = self.net.backbone((image / 255 - mean) / std)
        return maps
