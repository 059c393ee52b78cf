"""Detection networks of torchvision, with its own weights or those of a local file."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

from torch import nn
from torch.hub import get_dir
from torchvision.models import detection, get_model, get_model_weights, list_models

from kdpose.checkpoints.tensors import read_checkpoint, tensors


def detection_names() -> list[str]:
    """The names of torchvision's detection networks."""
    return sorted(list_models(module=detection))


def cached_weights(name: str) -> Path:
    """The path at which torchvision stores a network's downloaded weights."""
    return Path(get_dir()) / "checkpoints" / Path(get_model_weights(name).DEFAULT.url).name


def load_detection_net(
    name: str, file: str | None, key: str, instead: str = "", **options: Any
) -> nn.Module:
    """Load a detection network.

    Args:
        name: torchvision's.
        file: a local file of weights; None: torchvision's own, downloaded if necessary.
        key: config key that the file came from, for the errors.
        instead: what else a user without the download can do, for the error.
        options: of the network.

    Raises:
        FileNotFoundError: the file does not exist, or the weights cannot be downloaded.
        ValueError: the file does not fit the network, or torchvision's own do not.
    """
    if file is None:
        url = get_model_weights(name).DEFAULT.url
        try:
            return get_model(name, weights="DEFAULT", **options)
        except (URLError, OSError) as error:
            raise FileNotFoundError(
                f"the weights of {name} cannot be downloaded ({error}): put {url} at "
                f"{cached_weights(name)} or at {key}=FILE{instead}"
            ) from None
    net = get_model(name, weights=None, weights_backbone=None, **options)
    where = f"{Path(file).absolute()} (from {key})"
    try:
        net.load_state_dict(tensors(read_checkpoint(file, key), where))
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()[:120]
        raise ValueError(f"{where} does not fit {name}: {reason}") from None
    return net
