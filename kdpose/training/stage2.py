"""Stage 2: the progressive GCN refines the frozen student's pose."""

from typing import Any

import torch
from torch import Tensor

from kdpose.losses.terms import total
from kdpose.pose_net import RefinedPoseNet
from kdpose.runtime.ranks import mean_over_ranks
from kdpose.training.pose_module import PoseModule
from kdpose.training.stored_teacher import best_known, taught_weight
from kdpose.types import PoseBatch


class RefineStage2Module(PoseModule):
    """Trains the refiner of a :class:`RefinedPoseNet` by Eq. 6 and 7.

    The losses may ask for ``refined`` (poses of the blocks, coarse to fine), ``teacher_pose``
    and ``label_pose`` (crop pixels), ``joint_mask`` (M of Eq. 6: labelled and inside the crop) and
    its ``count`` on this device, or where several share the batch, their mean, and ``input_size``;
    which pose they are given as target is the loss config's choice.  The teacher's pose is the
    decoded one, as it is at test time, without flip.

    Under a teacher of another skeleton, the joints that it does not know keep the label's place in
    ``teacher_pose``: M counts labelled joints alone, so that each of them has a target, and the
    graph network, which moves all joints together, is led by all of them.
    """

    net: RefinedPoseNet

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        """One step of Eq. 7."""
        _, refined = self.net(batch.image)
        codec = self.net.codec
        labels, visible = batch.joints, batch.visible
        if batch.taught is not None:
            labels, visible = best_known(batch, None)
        mask = codec.encode(labels, visible).weight
        context: dict[str, Any] = {
            "refined": refined,
            "label_pose": labels,
            "joint_mask": mask,
            "count": mean_over_ranks(mask.sum()),
            "input_size": codec.input_size,
        }
        if batch.taught is not None:
            known = taught_weight(batch)[..., None] > 0
            context["teacher_pose"] = torch.where(known, batch.taught, labels)
        if self.teacher is not None:
            with torch.no_grad():
                pose = self.teacher.net.pose(self.teacher_image(batch))
            context["teacher_pose"] = self.teacher.in_student_joints(
                pose.joints * self.teacher_scale(), otherwise=batch.joints
            )
        loss, parts = total(self.losses, context, gamma=1.0)
        self.log_losses(loss, parts, batch)
        return loss
