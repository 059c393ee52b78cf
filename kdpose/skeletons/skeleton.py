"""Skeletons: facts about joints, not hyper-parameters."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from kdpose.skeletons.sides import NamedSides, joint_key, named_sides

SIGMA_SOURCES = ("given", "estimated", "default")


@dataclass(frozen=True)
class Skeleton:
    """The joints of a kind of body, with limbs, sigmas and sides.

    Attributes:
        name: identifies the skeleton in configs, logs and checkpoints.
        joints: K joint names; those that differ by a side alone (``left_ear`` and ``right_ear``,
            ``earL`` and ``earR``) make flip pairs.
        limbs: E joint-index pairs joined by a limb: the edge set of Eq. 3 and of the GCN.
        sigmas: K OKS constants.
        upper_body: joints that half-body augmentation treats as the upper half.
        flip_pairs: (left, right) joint names that a flip exchanges; None derives them by name.
        sigma_source: ``given``, ``estimated`` from repeated labels, or ``default``: not
            measured, so AP is also shown at half and double the sigmas.

    Raises:
        ValueError: the parts are inconsistent; the message names the joint.
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    upper_body: tuple[int, ...] = ()
    flip_pairs: tuple[tuple[str, str], ...] | None = None
    sigma_source: str = "given"

    def __post_init__(self) -> None:
        if len({joint_key(joint) for joint in self.joints}) != len(self.joints):
            raise ValueError(f"skeleton '{self.name}': joint names must differ, got {self.joints}")
        if len(self.sigmas) != len(self.joints):
            raise ValueError(
                f"skeleton '{self.name}': needs one sigma per joint, "
                f"got {len(self.sigmas)} sigmas and {len(self.joints)} joints"
            )
        if not all(0 < sigma < float("inf") for sigma in self.sigmas):
            raise ValueError(f"skeleton '{self.name}': sigmas must be above 0, got {self.sigmas}")
        if self.sigma_source not in SIGMA_SOURCES:
            raise ValueError(
                f"skeleton '{self.name}': sigma_source must be one of {', '.join(SIGMA_SOURCES)}, "
                f"got '{self.sigma_source}'"
            )
        for a, b in self.limbs:
            if not (0 <= a < len(self.joints) and 0 <= b < len(self.joints) and a != b):
                raise ValueError(
                    f"skeleton '{self.name}': limb ({a}, {b}) must join two of "
                    f"{len(self.joints)} joints"
                )
        self._check_flip()

    def _check_flip(self) -> None:
        """Check that a flip undoes itself: partners of joints are mutual."""
        if self.flip_pairs is None:
            return
        paired = [joint for pair in self.flip_pairs for joint in pair]
        for joint in paired:
            if joint not in self.joints:
                raise ValueError(
                    f"skeleton '{self.name}': flip_pairs: no joint is called '{joint}'"
                )
            if paired.count(joint) > 1:
                raise ValueError(
                    f"skeleton '{self.name}': flip_pairs must undo themselves, but '{joint}' has "
                    "more than one partner"
                )

    def __len__(self) -> int:
        """Number of joints K."""
        return len(self.joints)

    @cached_property
    def flip_order(self) -> tuple[int, ...]:
        """Joint order after a horizontal flip: ``flipped[k] = original[flip_order[k]]``."""
        order = list(range(len(self)))
        for left, right in self.sides:
            order[left], order[right] = right, left
        return tuple(order)

    @cached_property
    def sides(self) -> tuple[tuple[int, int], ...]:
        """(left, right) joint indices of the pairs that a flip exchanges."""
        if self.flip_pairs is not None:
            index = {joint: k for k, joint in enumerate(self.joints)}
            return tuple((index[left], index[right]) for left, right in self.flip_pairs)
        return self.named_sides.pairs

    @cached_property
    def named_sides(self) -> NamedSides:
        """What the joints' names say of sides, whatever ``flip_pairs`` says."""
        return named_sides(self.joints)

    @cached_property
    def lower_body(self) -> tuple[int, ...]:
        """The joints that are not in the upper body."""
        return tuple(k for k in range(len(self)) if k not in self.upper_body)

    def limb_weights(self, scheme: str = "uniform") -> tuple[float, ...]:
        """Edge weights omega of Eq. 3, of mean 1.

        The paper takes them from a work that does not print them, so two choices are offered:
        ``uniform``, or ``oks``, where omega is proportional to 1/sqrt(sigma_i^2 + sigma_j^2).

        Raises:
            ValueError: the scheme is unknown.
        """
        if scheme == "uniform":
            return (1.0,) * len(self.limbs)
        if scheme == "oks":
            raw = [(self.sigmas[a] ** 2 + self.sigmas[b] ** 2) ** -0.5 for a, b in self.limbs]
            return tuple(float(w) for w in np.array(raw) / np.mean(raw))
        raise ValueError(f"limb weight scheme must be 'uniform' or 'oks', got '{scheme}'")

    def to_category(self) -> dict[str, Any]:
        """The skeleton as a COCO category; its limbs count from 1."""
        return {
            "supercategory": "person",
            "id": 1,
            "name": "person",
            "keypoints": list(self.joints),
            "skeleton": [[a + 1, b + 1] for a, b in self.limbs],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Rebuild what :meth:`to_dict` wrote."""
        return cls(
            values["name"],
            tuple(values["joints"]),
            tuple((int(a), int(b)) for a, b in values["limbs"]),
            tuple(values["sigmas"]),
            tuple(values["upper_body"]),
            None if (flip := values.get("flip_pairs")) is None else tuple((a, b) for a, b in flip),
            values.get("sigma_source", "given"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for checkpoints and results."""
        return {
            "name": self.name,
            "joints": list(self.joints),
            "limbs": [list(limb) for limb in self.limbs],
            "sigmas": list(self.sigmas),
            "upper_body": list(self.upper_body),
            "flip_pairs": None
            if self.flip_pairs is None
            else [list(pair) for pair in self.flip_pairs],
            "sigma_source": self.sigma_source,
        }
