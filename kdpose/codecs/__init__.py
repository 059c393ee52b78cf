from collections.abc import Sequence

from torch import Tensor

STRIDE = 4  # crop pixels per cell of a heatmap


def check_joints(joints: Tensor, visible: Tensor) -> None:
    """Check the inputs of a codec.

    Raises:
        ValueError: ``joints`` are not ``(B, K, 2)`` or ``visible`` not ``(B, K)``.
    """
    if joints.shape[-1] != 2 or joints.shape[:-1] != visible.shape:
        raise ValueError(
            "joints must be (B, K, 2) and visible (B, K), "
            f"got {tuple(joints.shape)} and {tuple(visible.shape)}"
        )


def whole_cells(input_size: Sequence[int]) -> tuple[int, ...]:
    """A network input's ``(W, H)`` of whole cells, pixels.

    Raises:
        ValueError: they are not two multiples of 4.
    """
    sizes = tuple(input_size)
    if len(sizes) != 2 or any(side < 1 or side % STRIDE for side in sizes):
        raise ValueError(f"input_size must be two multiples of {STRIDE} px, got {sizes}")
    return sizes
