"""Pose networks of Hugging Face's transformers: heatmaps of one person in a crop."""

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdpose.checkpoints.guest_net import GuestCodec, GuestNet
from kdpose.codecs.heatmap import peaks
from kdpose.codecs.spread import map_spread
from kdpose.skeletons.known import COCO
from kdpose.skeletons.skeleton import Skeleton
from kdpose.types import Answer

_log = logging.getLogger(__name__)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of 0..1


class HuggingFaceNet(GuestNet):
    """A pose network of transformers, such as ViTPose, that gives a heatmap for each joint.

    The corner cells of a heatmap are the crop's corner pixels, as in ViTPose's training.

    Args:
        model: a local folder that ``save_pretrained`` wrote, or a name on the hub.
        skeleton: of its joints.
        padding: the crop's size relative to the box.
        mean: of RGB in 0..1; None: the folder's ``preprocessor_config.json``, else ImageNet's.
        std: see ``mean``.
        sure: the score of a joint that it has no doubt of.
        dataset_index: which experts answer, in networks of several (ViTPose+: 0 is COCO's).

    Raises:
        ValueError: transformers is missing, the model cannot be read or is not a pose network, or
            it has another number of joints.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: str,
        skeleton: Skeleton = COCO,
        padding: float = 1.25,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        sure: float = 1.0,
        dataset_index: int = 0,
    ) -> None:
        super().__init__()
        self.name = Path(model).name
        local = Path(model).is_dir()
        self.where = f"{Path(model).absolute() if local else model} (from teacher.model)"
        self.skeleton, self.padding, self.sure = skeleton, padding, sure
        self.net, said = _read(model, self.where)
        config: Any = self.net.config
        backbone = getattr(config, "backbone_config", config)
        side: Any = backbone.image_size
        height, width = (side, side) if isinstance(side, int) else side
        self.codec = GuestCodec((width, height))
        for name, value, usual in (("mean", mean, _MEAN), ("std", std, _STD)):
            chosen = said.get(f"image_{name}", usual) if value is None else value
            self.register_buffer(name, 255 * torch.tensor(chosen).view(3, 1, 1))  # of the hash
        experts = getattr(backbone, "num_experts", 1)
        self.expert = dataset_index if experts > 1 else None
        self._check()
        _log.info("%s: %s", self.where, self)

    def __str__(self) -> str:
        """What was read."""
        width, height = self.codec.input_size
        return (
            f"{type(self.net).__name__}, heatmaps of {len(self.skeleton)} joints "
            f"({self.skeleton.name}) from {width}x{height}, padding {self.padding:g}"
        )

    def look(self, image: Tensor) -> Answer:
        """What the network answers of crops ``(B, 3, H, W)``, uint8 RGB."""
        maps = self._maps(image)
        cells, scores = peaks(maps)
        last_pixel, last_cell = (
            cells.new_tensor(size) - 1 for size in (self.codec.input_size, maps.shape[:1:-1])
        )
        scale = last_pixel / last_cell
        return Answer(cells * scale, scores, map_spread(maps) * scale)

    def feature(self, image: Tensor) -> Tensor | None:
        """The last map ``(B, C, h, w)``, which the network's head reads."""
        head, seen = getattr(self.net, "head", None), []
        if not isinstance(head, nn.Module):
            return None
        hook = head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        self._maps(image)
        hook.remove()
        last: Tensor = seen[0].float()
        return last if last.ndim == 4 else None

    @torch.no_grad()
    def _maps(self, image: Tensor) -> Tensor:
        """Heatmaps ``(B, K, h, w)``."""
        pixels = (image.float() - self.mean) / self.std
        options: dict[str, Any] = {}
        if self.expert is not None:
            options["dataset_index"] = torch.full((len(image),), self.expert, device=image.device)
        maps: Tensor = self.net(pixel_values=pixels, **options).heatmaps
        return maps.float()

    def _check(self) -> None:
        width, height = self.codec.input_size
        seen = tuple(self._maps(torch.zeros(1, 3, height, width)).shape)
        if len(seen) != 4 or seen[1] != len(self.skeleton):
            raise ValueError(
                f"{self.where} gives {seen}, which is not a heatmap for each of the "
                f"{len(self.skeleton)} joints of '{self.skeleton.name}': set teacher.skeleton"
            )


def _read(model: str, where: str) -> tuple[nn.Module, dict[str, Any]]:
    """The network, every weight from the file, and what is said of its pixels."""
    try:
        transformers = importlib.import_module("transformers")
    except ImportError:
        raise ValueError(f"{where} needs transformers: pip install 'kdpose[huggingface]'") from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        net, found = transformers.AutoModelForPoseEstimation.from_pretrained(
            model, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{where} cannot be read as a pose network: {reason}") from None
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise ValueError(f"{where} lacks {len(missing)} of the network's tensors {missing[:2]}")
    try:
        said, _ = transformers.ImageProcessingMixin.get_image_processor_dict(model)
    except OSError:  # none is there
        said = {}
    return net.eval().requires_grad_(False), said
