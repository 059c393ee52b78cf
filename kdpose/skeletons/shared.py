"""Match two skeletons: the joints that a teacher with another skeleton can teach."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

from kdpose.skeletons.sides import joint_key
from kdpose.skeletons.skeleton import Skeleton

_FEWEST = 3  # joints to share; with fewer the skeletons are hardly of the same body


@dataclass(frozen=True)
class SkeletonBridge:
    """The joints that two skeletons share, matched by name.

    Attributes:
        student: skeleton of the student.
        teacher: skeleton of the teacher.
        student_joints: S joint indices of the student's skeleton, ascending.
        teacher_joints: the same joints in the teacher's.
    """

    student: Skeleton
    teacher: Skeleton
    student_joints: tuple[int, ...]
    teacher_joints: tuple[int, ...]

    @classmethod
    def between(cls, student: Skeleton, teacher: Skeleton) -> Self:
        """Match by :func:`joint_key`, that is, by name only: a nose is not a head.

        Raises:
            ValueError: the skeletons share too few joints, with the names of both.
        """
        known = {joint_key(name): k for k, name in enumerate(teacher.joints)}
        keys = [joint_key(name) for name in student.joints]
        shared = [k for k, key in enumerate(keys) if key in known]
        fewest = min(_FEWEST, len(student))
        if len(shared) < fewest:
            raise ValueError(
                f"teacher's skeleton '{teacher.name}' ({', '.join(teacher.joints)}) and "
                f"student's '{student.name}' ({', '.join(student.joints)}) share {len(shared)} "
                f"joints by name and must share {fewest}: rename joints in the annotations' "
                "category or use another teacher"
            )
        return cls(student, teacher, tuple(shared), tuple(known[keys[k]] for k in shared))

    @property
    def untaught(self) -> tuple[int, ...]:
        """The student's joints that are learned from labels alone."""
        return tuple(k for k in range(len(self.student)) if k not in self.student_joints)

    @cached_property
    def mask(self) -> tuple[float, ...]:
        """1 for each of the student's K joints that the teacher has, else 0."""
        return tuple(float(k in self.student_joints) for k in range(len(self.student)))

    @property
    def shared(self) -> Skeleton:
        """The shared joints alone, as the student's skeleton has them, without limbs."""
        ours = self.student
        return Skeleton(
            ours.name,
            tuple(ours.joints[k] for k in self.student_joints),
            (),
            tuple(ours.sigmas[k] for k in self.student_joints),
            flip_pairs=(),
            sigma_source=ours.sigma_source,
        )

    @property
    def shared_limbs(self) -> tuple[tuple[int, int], ...]:
        """The student's limbs whose two joints the teacher has: those that Eq. 3 compares."""
        return tuple(limb for limb in self.student.limbs if set(limb) <= set(self.student_joints))

    def __str__(self) -> str:
        """The mapping as text; a joint with another name in the teacher is ``ours<-its``."""
        ours = [self.student.joints[k] for k in self.student_joints]
        theirs = [self.teacher.joints[k] for k in self.teacher_joints]
        counted = (
            f"{len(ours)} of {len(self.student)} joints and {len(self.shared_limbs)} of "
            f"{len(self.student.limbs)} limbs taught by '{self.teacher.name}'"
        )
        if theirs == list(self.student.joints):
            return counted
        pairs = [a if a == b else f"{a}<-{b}" for a, b in zip(ours, theirs, strict=True)]
        labels = [self.student.joints[k] for k in self.untaught]
        return f"{counted}: {' '.join(pairs)}; from labels: {' '.join(labels) or 'none'}"
