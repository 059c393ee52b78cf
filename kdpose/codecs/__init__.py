from torch import Tensor


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
