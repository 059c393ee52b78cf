"""Stage 1: a SimCC student under a teacher, or a SimCC network on its own."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdpose.codecs.simcc import SimCC
from kdpose.data.taught import StoredTeacher
from kdpose.losses.terms import LossTerm, distill_decay, gradient_norms, total, weighted_terms
from kdpose.pose_net import PoseNet
from kdpose.skeletons.shared import SkeletonBridge
from kdpose.training.balance import feature_balance, pose_balance
from kdpose.training.pose_module import PoseModule
from kdpose.training.stored_teacher import best_known, taught_spread, taught_weight
from kdpose.types import PoseBatch, PoseOutput, Target

_log = logging.getLogger(__name__)
_OWN = {"teacher_pose", "teacher_target", "teacher_feature"}  # from a teacher of any head
_GRADIENTS_EVERY = 50  # steps, from each epoch's first: rare enough to cost no time


class DistillStage1Module(PoseModule):
    """Trains a SimCC network with the terms of Eq. 5; without a teacher, by L_KL alone.

    The student's feature is aligned to the teacher's by the learned 1x1 convolution of Eq. 1,
    which is dropped after training.  Both poses of Eq. 2 and 3 are soft-argmaxes of one
    temperature: labels that are smoothed bias them alike, so they agree where the nets do.
    Under a teacher of another skeleton, Eq. 2 counts the joints that both have and Eq. 3 the limbs
    between such joints; L_KL and Eq. 1 are unchanged.

    Args:
        net: the student.
        losses: may ask for ``logits, target, student_feature, teacher_feature, student_pose,
            teacher_pose, teacher_target, joint_mask, limbs, limb_weight, epoch``; poses are in the
            student's pixels, ``teacher_target`` is what the teacher says in the form of a target.
            A head's extras are there by their names, the teacher's with ``teacher_`` before them.
        optimizer: see :class:`TrainingOptions`.
        scheduler: see :class:`TrainingOptions`.
        teacher: see :class:`PoseModule`.
        balance: weights of terms that compare poses or features are given as at the paper's
            setting and multiplied by the factors of :mod:`kdpose.training.balance`.
        label_trust: under a stored teacher, see :func:`best_known`.
        joint_mask: joints that Eq. 2 and 3 count: ``all`` (the teacher knows hidden ones too),
            or the ``labelled`` ones.
        limb_weights: omega of Eq. 3, see :meth:`Skeleton.limb_weights`.
        temperature: of the soft-argmax.
        options: the rest of :class:`TrainingOptions`.

    Raises:
        ValueError: see :class:`PoseModule`; or Eq. 3 is asked for and no limb has both its ends
            in the teacher's skeleton; or ``teacher_target`` is, and the two nets' bins differ.
    """

    limbs: Tensor
    limb_weight: Tensor

    def __init__(
        self,
        net: PoseNet,
        losses: Mapping[str, LossTerm],
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler],
        teacher: PoseNet | StoredTeacher | None = None,
        *,
        balance: bool = False,
        label_trust: float | None = None,
        joint_mask: Literal["all", "labelled"] = "all",
        limb_weights: str = "uniform",
        temperature: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(net, losses, optimizer, scheduler, teacher, **options)
        self.net: PoseNet = net
        if balance:
            self.losses = self._balanced(temperature)
        self.label_trust = label_trust
        self.joint_mask = joint_mask
        self.temperature = temperature
        limbs = torch.tensor(net.skeleton.limbs, dtype=torch.long).reshape(-1, 2)
        self.register_buffer("limbs", limbs, persistent=False)
        weight = torch.tensor(net.skeleton.limb_weights(limb_weights))
        self.register_buffer("limb_weight", weight, persistent=False)
        if self.feature is not None:
            self.align = nn.Conv2d(net.backbone.channels[0], self.feature.channels, kernel_size=1)
        if self.teacher is None:
            return
        if "student_feature" in self.needs:
            taught = self.teacher.net.backbone.channels[0]
            self.align = nn.Conv2d(net.backbone.channels[0], taught, kernel_size=1)
        if {"limbs", "teacher_pose"} <= self.needs:
            _check_limbs(self.teacher.bridge)
        if "teacher_target" in self.needs:
            _check_bins(net, self.teacher.net)

    def _balanced(self, temperature: float) -> dict[str, LossTerm]:
        """The terms with weights that mean here what they mean in the paper."""
        losses = dict(self.losses)
        for name, term in losses.items():
            factor = 1.0
            if "student_pose" in term.needs and isinstance(self.net.codec, SimCC):
                factor = pose_balance(self.net.codec, temperature)
            elif "student_feature" in term.needs:
                factor = feature_balance(self._compared_map())
            if factor != 1:
                losses[name] = replace(term, weight=term.weight * factor)
                _log.info("module.balance: weight of %s %g x %.3g", name, term.weight, factor)
        return losses

    def _compared_map(self) -> tuple[int, int, int]:
        """C, h and w of the maps of Eq. 1."""
        net = self.net if self.teacher is None else self.teacher.net
        channels = net.backbone.channels[0] if self.feature is None else self.feature.channels
        width, height = (-(-side // net.backbone.strides[0]) for side in net.codec.input_size)
        return channels, height, width

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        """One step of Eq. 5."""
        output = self.net(batch.image)
        target = self._target(batch)
        context: dict[str, Any] = {
            "logits": output.logits,
            "target": target,
            "epoch": self.current_epoch,
            **output.extras,
        }
        if self.stored:
            context |= self._stored_lessons(batch, output)
        if self.teacher is not None:
            context |= self._lessons(batch, output, target)
        gamma = distill_decay(self.current_epoch, self.trainer.max_epochs or 1)
        loss, parts = total(self.losses, context, gamma)
        self.log_losses(loss, parts, batch)
        feature = output.features[0]
        if self.teacher is not None and feature.requires_grad and batch_idx % _GRADIENTS_EVERY == 0:
            norms = gradient_norms(weighted_terms(self.losses, context, gamma), feature)
            named = {f"train/grad_{name}": norm for name, norm in norms.items()}
            self.log_dict(named, on_step=False, on_epoch=True, batch_size=len(batch.image))
        if self.teacher is not None:
            # a tensor made on the device: one made of a number would wait for it
            self.log("train/gamma", loss.new_full((), gamma), batch_size=len(batch.image))
        return loss

    def _target(self, batch: PoseBatch) -> Target:
        """The labels, and where there are none the stored answers, weighted by their scores."""
        codec = self.net.codec
        if batch.taught is None:
            target: Target = codec.encode(batch.joints, batch.visible)
            return target
        joints, weight = best_known(batch, self.label_trust)
        encoded: Target = codec.encode(joints, 2 * (weight > 0).float(), **_spread(batch, joints))
        return encoded._replace(weight=encoded.weight * weight)

    def _stored_lessons(self, batch: PoseBatch, output: PoseOutput) -> dict[str, Any]:
        """What the distillation terms compare with stored answers."""
        assert batch.taught is not None
        weight, codec = taught_weight(batch), self.net.codec
        taught: Target = codec.encode(
            batch.taught, 2 * (weight > 0).float(), **_spread(batch, batch.taught)
        )
        maps: dict[str, Any] = {}
        if self.feature is not None:
            aligned = self.align(output.features[0])
            feature = self.feature(batch.image, aligned.shape[-2:])
            maps = {"student_feature": aligned, "teacher_feature": feature}
        return {
            **maps,
            **self._student_pose(output),
            "teacher_pose": batch.taught,
            "joint_mask": (taught.weight > 0).float()
            if self.joint_mask == "all"
            else taught.weight,
            "teacher_target": taught._replace(weight=taught.weight * weight),
            "limbs": self.limbs,
            "limb_weight": self.limb_weight,
        }

    def _lessons(self, batch: PoseBatch, output: PoseOutput, target: Target) -> dict[str, Any]:
        """What the distillation terms compare."""
        assert self.teacher is not None
        teacher = self.teacher.net
        with torch.no_grad():
            taught = teacher(self.teacher_image(batch), extras=bool(self._asked - _OWN))
        counted = torch.ones_like(target.weight) if self.joint_mask == "all" else target.weight
        lessons: dict[str, Any] = {
            **{f"teacher_{name}": value for name, value in taught.extras.items()},
            **self._student_pose(output),
            "joint_mask": counted * self.teacher.mask,
            "limbs": self.limbs,
            "limb_weight": self.limb_weight,
        }
        if "teacher_pose" in self.needs:
            with torch.no_grad():
                teacher_pose = teacher.codec.expectation(taught.logits, self.temperature)
            lessons["teacher_pose"] = self.teacher.in_student_joints(
                teacher_pose * self.teacher_scale(), otherwise=lessons["student_pose"].detach()
            )
        if "teacher_target" in self.needs:
            said = teacher.codec.as_target(taught.logits, lessons["joint_mask"])
            lessons["teacher_target"] = self._in_student_joints(said, target)
        if "student_feature" in self.needs:
            feature = taught.features[0]
            aligned = self.align(output.features[0])
            if aligned.shape[-2:] != feature.shape[-2:]:
                aligned = F.interpolate(aligned, feature.shape[-2:], mode="bilinear")
            lessons |= {"student_feature": aligned, "teacher_feature": feature}
        return lessons

    @property
    def _asked(self) -> set[str]:
        """What the losses want of the teacher."""
        return {name for name in self.needs if name.startswith("teacher_")}

    def _student_pose(self, output: PoseOutput) -> dict[str, Tensor]:
        """The soft-argmax of the student's scores, where a term compares poses."""
        if not self.needs & {"student_pose", "teacher_pose"}:
            return {}
        return {"student_pose": self.net.codec.expectation(output.logits, self.temperature)}

    def _in_student_joints(self, said: Target, target: Target) -> Target:
        """The teacher's target; joints that it does not know have the label's, or zeros."""
        assert self.teacher is not None
        *parts, weight = said
        kind: Any = type(said)
        if isinstance(target, kind):
            others = list(target[:-1])
        else:
            others = [part.new_zeros(*weight.shape, *part.shape[2:]) for part in parts]
        moved = map(self.teacher.in_student_joints, parts, others)
        moved_target: Target = kind(*moved, weight)
        return moved_target


def _spread(batch: PoseBatch, joints: Tensor) -> dict[str, Tensor]:
    """What tells the codec how wide the stored answers are, where that is known."""
    spread = taught_spread(batch, joints)
    return {} if spread is None else {"spread": spread}


def _check_limbs(bridge: SkeletonBridge) -> None:
    """Eq. 3 needs a limb that both skeletons have."""
    if not bridge.shared_limbs:
        raise ValueError(
            f"no limb of skeleton '{bridge.student.name}' has both its ends in the teacher's "
            f"'{bridge.teacher.name}', so Eq. 3 compares nothing: take loss without limb_length"
        )


def _check_bins(student: PoseNet, teacher: PoseNet) -> None:
    """The teacher's bins are targets only for bins like them."""
    ours, its = student.codec.bins, teacher.codec.bins
    if ours != its:
        raise ValueError(
            f"loss simcc_teacher compares bins, and the student has {ours}, the teacher {its}: "
            "give both one codec.input_size and codec.split_ratio, or take loss without "
            "simcc_teacher"
        )
