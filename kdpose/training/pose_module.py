"""What both stages share: validation, optimizer and logging."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdpose.checkpoints.load import KEY
from kdpose.data.taught import StoredTeacher
from kdpose.evaluation.validation import score_validation
from kdpose.losses.terms import LossTerm
from kdpose.metrics.pose_results import PoseResults
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.runtime.memory import keep_memory
from kdpose.skeletons.shared import SkeletonBridge
from kdpose.skeletons.skeleton import Skeleton
from kdpose.training.fast_nets import folded
from kdpose.training.parameter_groups import parameter_groups
from kdpose.training.safeguards import CompiledNets, FiniteLosses, RealBfloat16, UsedParameters
from kdpose.types import PoseBatch


class FrozenTeacher:
    """A teacher that is used and never trained.

    It is no ``nn.Module``, so that it stays out of the student's checkpoints, parameters and
    training mode; hence it must be moved to the device by hand.

    Args:
        net: put into eval mode, without gradients.
        student: whose joints it is to speak of, where its own are others.

    Attributes:
        bridge: the joints that both skeletons have.
        mask: ``(K,)``, 1 for each of the student's joints that the teacher knows.

    Raises:
        ValueError: the skeletons share too few joints.
    """

    def __init__(self, net: PoseNet, student: Skeleton) -> None:
        self.net = net.requires_grad_(False).eval()
        self.bridge = SkeletonBridge.between(student, net.skeleton)
        self.mask = torch.tensor(self.bridge.mask)
        self._ours = torch.tensor(self.bridge.student_joints)
        self._its = torch.tensor(self.bridge.teacher_joints)

    def to(self, device: torch.device) -> None:
        """Move the teacher."""
        self.net.to(device)
        self.mask = self.mask.to(device)
        self._ours, self._its = self._ours.to(device), self._its.to(device)

    def in_student_joints(self, pose: Tensor, otherwise: Tensor) -> Tensor:
        """What the teacher says of its joints, as said of the student's.

        Args:
            pose: ``(B, K_teacher, n)``: coordinates, or the bins' probabilities.
            otherwise: ``(B, K, n)``, taken for the joints that the teacher does not know.

        Returns:
            ``(B, K, n)``.
        """
        return otherwise.to(pose.dtype).index_copy(1, self._ours, pose[:, self._its])


@dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained and validated, the same for both stages.

    Attributes:
        optimizer: builds the optimizer from the parameters that need gradients.
        scheduler: builds the schedule from ``optimizer``, ``total_steps``, ``steps_per_epoch``.
        flip_test: validate on both the crop and its mirror image.
        description: plain values that every checkpoint carries, see :mod:`kdpose.checkpoints.load`.
        compile: options of ``torch.compile`` for the nets, see :class:`CompiledNets`; None: eager.
        fold_teacher: fold the teacher's batch norms, see :func:`folded`.
        backbone_lr: the backbone's learning rate as a share of the other parameters'; 0 freezes it,
            batch statistics and all.
        layer_decay: see :func:`parameter_groups`.
    """

    optimizer: Callable[..., Optimizer]
    scheduler: Callable[..., LRScheduler]
    flip_test: bool = True
    description: Mapping[str, Any] = field(default_factory=dict)
    compile: Mapping[str, Any] | None = None
    fold_teacher: bool = False
    backbone_lr: float = 1.0
    layer_decay: float | None = None


class PoseModule(L.LightningModule):
    """Validation by AP, optimisation and logging around one pose network.

    Args:
        net: what is trained and, at the end, used.
        losses: the terms of the objective by the name they are logged under.
        optimizer: see :class:`TrainingOptions`.
        scheduler: see :class:`TrainingOptions`.
        teacher: None where no term needs one.
        options: the rest of :class:`TrainingOptions`.

    Raises:
        ValueError: a loss needs a teacher and there is none, or the two skeletons share too few
            joints.
    """

    options_kind = TrainingOptions

    def __init__(
        self,
        net: PoseNet | RefinedPoseNet,
        losses: Mapping[str, LossTerm],
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler],
        teacher: PoseNet | StoredTeacher | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.net = net
        self.options = TrainingOptions(optimizer, scheduler, **options)
        self.losses = dict(losses)
        self.loss_modules = nn.ModuleDict(
            {name: term.fn for name, term in losses.items() if isinstance(term.fn, nn.Module)}
        )
        self.needs = frozenset[str]().union(*(term.needs for term in self.losses.values()))
        self.stored = isinstance(teacher, StoredTeacher)
        self.feature = teacher.feature if isinstance(teacher, StoredTeacher) else None
        self.teacher = self._frozen(teacher)
        self.results = PoseResults(net.codec.input_size)
        self.finite = FiniteLosses()
        if self.options.backbone_lr == 0 and isinstance(net, PoseNet):
            net.get_submodule("backbone").requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Switch to training; a frozen backbone keeps its batch statistics."""
        super().train(mode)
        if self.options.backbone_lr == 0 and isinstance(self.net, PoseNet):
            self.net.get_submodule("backbone").eval()
        return self

    def _frozen(self, teacher: PoseNet | StoredTeacher | None) -> FrozenTeacher | None:
        """The network that teaches, where a term needs one; stored answers come with the data."""
        taught = sorted(name for name in self.needs if name.startswith("teacher_"))
        if taught and teacher is None:
            raise ValueError(
                f"the losses {sorted(self.losses)} need {taught}: give a teacher "
                "(teacher=checkpoint teacher.ckpt=PATH) or take losses without one"
            )
        if self.stored and self.feature is None and "teacher_feature" in self.needs:
            raise ValueError(
                "stored answers have no feature map for Eq. 1: take loss without feature_mse"
            )
        if not taught or teacher is None or isinstance(teacher, StoredTeacher):
            return None
        if self.options.fold_teacher:
            teacher = folded(teacher.eval())
        return FrozenTeacher(teacher, self.net.skeleton)

    def configure_callbacks(self) -> list[L.Callback]:
        """What guards every training, beside whatever callbacks the trainer was given."""
        guards = [RealBfloat16(), UsedParameters(self.losses), self.finite]
        if self.options.compile is None:
            return guards
        nets = [self.net] if self.teacher is None else [self.net, self.teacher.net]
        return [*guards, CompiledNets(nets, self.options.compile)]

    def on_fit_start(self) -> None:
        """Bring the teacher to the device that the student was moved to."""
        if self.device.type == "cpu":
            keep_memory()
        for net in (self.teacher, self.feature):
            if net is not None:
                net.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description; a file without optimizer state keeps what inference needs."""
        checkpoint[KEY] = dict(self.options.description)
        if "optimizer_states" not in checkpoint:
            weights = checkpoint["state_dict"]
            checkpoint["state_dict"] = {k: v for k, v in weights.items() if k.startswith("net.")}

    def teacher_scale(self) -> float:
        """Student crop pixels per teacher crop pixel."""
        assert self.teacher is not None
        return self.net.codec.input_size[0] / self.teacher.net.codec.input_size[0]

    @staticmethod
    def teacher_image(batch: PoseBatch) -> Tensor:
        """The crop at the teacher's input size."""
        return batch.image if batch.teacher_image is None else batch.teacher_image

    def log_losses(self, loss: Tensor, parts: Mapping[str, Tensor], batch: PoseBatch) -> None:
        """Log the weighted terms, and stop if one is not finite.

        Raises:
            ValueError: naming the term, the step and the images.
        """
        where = f"epoch {self.current_epoch}, step {self.global_step}"
        self.finite.add(parts, where, batch.image_id)
        size = len(batch.image)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=size)
        self.log_dict({f"train/loss_{k}": part for k, part in parts.items()}, batch_size=size)

    def validation_step(self, batch: PoseBatch, batch_idx: int) -> None:
        """Decode the batch's poses and keep them.

        Eager: nets in evaluation mode, and a last batch that is not full, are graphs of their own,
        which take longer to compile than many validations take.
        """
        with torch.compiler.set_stance("force_eager"):
            pose = self.net.pose(batch.image, self.options.flip_test)
        self.results.update(
            batch.image_id,
            batch.person,
            pose.joints,
            pose.scores,
            batch.box_score,
            batch.center,
            batch.size,
        )

    def on_validation_epoch_end(self) -> None:
        """Score the split's poses by OKS; subsets without ground truth log nothing."""
        predictions = self.results.compute()
        self.results.reset()
        threshold = self.net.score_threshold
        trainer: Any = self.trainer  # whose type does not know of its data module
        scores = score_validation(trainer.datamodule, predictions, threshold)
        logged = {f"val/{name}": value for name, value in scores.items() if value is not None}
        self.log_dict(logged, rank_zero_only=False)
        if "val/AP" in logged:
            self.log("AP", logged["val/AP"], prog_bar=True, logger=False)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer over what is trained, its schedule stepped every step."""
        options = self.options
        optimizer = options.optimizer(
            parameter_groups(self, options.optimizer, options.backbone_lr, options.layer_decay)
        )
        total = int(self.trainer.estimated_stepping_batches)
        per_epoch = max(1, total // max(1, self.trainer.max_epochs or 1))
        schedule = options.scheduler(optimizer, total_steps=total, steps_per_epoch=per_epoch)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def lr_scheduler_step(self, scheduler: LRScheduler, metric: Any) -> None:
        """Step the schedule; plain, so that any scheduler will do."""
        scheduler.step()
