"""PCK: the share of joints found within a fraction of the torso's length."""

import numpy as np

from kdpose.skeletons.skeleton import Skeleton

_TORSO = ("left_shoulder", "right_hip")


def torso_pck(
    found: np.ndarray,
    joints: np.ndarray,
    visible: np.ndarray,
    skeleton: Skeleton,
    fraction: float = 0.2,
) -> tuple[float, int] | None:
    """PCK by the torso's diameter, left shoulder to right hip, as is usual on LSP.

    Args:
        found: ``(N, K, 2)`` a pose per person; NaN for a person without one, who has found nothing.
        joints: ``(N, K, 2)`` the labels, in the same pixels.
        visible: ``(N, K)`` COCO's v.
        skeleton: names the joints.
        fraction: of the torso, within which a joint counts as found.

    Returns:
        The share of labelled joints found, and of how many persons: those whose torso is labelled.
        None where the skeleton has no such joints or nobody's are labelled.
    """
    if not set(_TORSO) <= set(skeleton.joints):
        return None
    shoulder, hip = (skeleton.joints.index(joint) for joint in _TORSO)
    torso = np.linalg.norm(joints[:, shoulder] - joints[:, hip], axis=-1)
    known = (visible[:, shoulder] > 0) & (visible[:, hip] > 0) & (torso > 0)
    if not known.any():
        return None
    right = np.linalg.norm(found - joints, axis=-1) <= fraction * torso[:, None]
    return float(right[(visible > 0) & known[:, None]].mean()), int(known.sum())
