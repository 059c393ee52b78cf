"""The skeletons of COCO and CrowdPose, and sigmas for joints that have none."""

from collections.abc import Sequence

from kdpose.skeletons.sides import joint_key
from kdpose.skeletons.skeleton import Skeleton

_DEFAULT_SIGMA = 0.079  # between COCO's wrist and knee; for joints that COCO does not have

COCO = Skeleton(
    name="coco",
    joints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder",
        "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
        "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
        (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107,
        0.087, 0.087, 0.089, 0.089,
    ),
    upper_body=tuple(range(11)),
)  # fmt: skip

CROWDPOSE = Skeleton(
    name="crowdpose",
    joints=(
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist",
        "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle", "head", "neck",
    ),
    limbs=(
        (10, 8), (8, 6), (11, 9), (9, 7), (6, 7), (0, 6), (1, 7), (0, 1), (0, 2), (1, 3), (2, 4),
        (3, 5), (12, 13), (1, 13), (0, 13),
    ),
    sigmas=(
        0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079,
        0.079,
    ),
    upper_body=(0, 1, 2, 3, 4, 5, 12, 13),
)  # fmt: skip


def default_sigmas(joints: Sequence[str]) -> tuple[float, ...]:
    """Sigmas for joints without measured ones: COCO's by joint name, else 0.079."""
    known = {
        joint_key(joint): sigma
        for skeleton in (CROWDPOSE, COCO)
        for joint, sigma in zip(skeleton.joints, skeleton.sigmas, strict=True)
    }
    return tuple(known.get(joint_key(joint), _DEFAULT_SIGMA) for joint in joints)
