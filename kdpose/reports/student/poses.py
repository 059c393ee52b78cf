"""The same validation persons under each model, as small inline pictures."""

import base64
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torchvision.io import encode_jpeg

from kdpose.checkpoints.guest_net import GuestNet, LoadedGuest
from kdpose.checkpoints.load import Loaded
from kdpose.data.annotations import load_persons
from kdpose.data.dataset import PoseDataset, spread
from kdpose.data.transforms import PADDING
from kdpose.display.drawing import draw_poses
from kdpose.skeletons.skeleton import Skeleton

_HEIGHT = 256  # pixels to which a crop is enlarged for drawing


@torch.inference_mode()
def pictures(models: Mapping[str, Loaded | LoadedGuest], persons: int) -> list[dict[str, str]]:
    """Fixed validation persons: the labels, then the poses of each model.

    Args:
        models: by label. The last is a student of kdpose, whose validation split is shown.
        persons: their number.

    Returns:
        For each person the pictures as ``data:`` URLs, by label.
    """
    student = list(models.values())[-1]
    split, skeleton = student.description["dataset"], student.net.skeleton
    everyone = load_persons(split["annotations"], skeleton)
    shown: list[dict[str, str]] = []
    for label, loaded in models.items():
        net = loaded.net
        padding = net.padding if isinstance(net, GuestNet) else PADDING
        size = net.codec.input_size
        dataset = PoseDataset(everyone, split["images"], skeleton, size, padding=padding)
        batch = spread(dataset, persons)
        if not shown:
            labels = _drawn(batch.image, batch.joints, batch.visible > 0, skeleton)
            shown = [{"labels": picture} for picture in labels]
        found = net.pose(batch.image).joints
        seen = torch.ones(found.shape[:2], dtype=torch.bool)
        drawn = _drawn(batch.image, found, seen, net.skeleton)
        for row, picture in zip(shown, drawn, strict=True):
            row[label] = picture
    return shown


def _drawn(crops: Tensor, joints: Tensor, seen: Tensor, skeleton: Skeleton) -> list[str]:
    """Crops ``(B, 3, H, W)`` with poses ``(B, K, 2)``, of the joints ``(B, K)`` that are shown."""
    factor = max(1, round(_HEIGHT / crops.shape[-2]))
    large = crops.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    return [
        as_address(draw_poses(crop, pose[None] * factor, s[None].float(), skeleton, threshold=0.5))
        for crop, pose, s in zip(large, joints.cpu(), seen, strict=True)
    ]


def as_address(picture: Tensor) -> str:
    """A picture ``(3, H, W)`` uint8 as a ``data:`` URL."""
    return _address(encode_jpeg(picture.contiguous(), quality=85).numpy().tobytes())


def file_as_address(path: Path) -> str | None:
    """A JPEG file as a ``data:`` URL; None if missing."""
    return _address(path.read_bytes()) if path.is_file() else None


def _address(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
