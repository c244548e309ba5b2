"""Relational cross-modality knowledge distillation: a frozen teacher of many modalities, students of few."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from ikem_fast import ops
from ikem_fast.nn.config import DEFAULTS
from ikem_fast.nn.encoders.base import EncoderConfig, encode_views, encoder_maker
from ikem_fast.nn.heads import HEADS, projection, two_layers
from ikem_fast.nn.ikem import IKEM, Watch
from ikem_fast.nn.memory_bank import MemoryBank
from ikem_fast.ops._checks import check_choice
from ikem_fast.ops._support import Implementation
from ikem_fast.ops.modalities.definitions import check_derivable
from ikem_fast.skeleton import Layout, get_layout
from ikem_fast.tracing import span

TEACHER_MODES = ("eval", "train")
STARTS = ("random", "teacher")
STUDENTS = ("joint", "motion", "bone")


class RelationalDistiller(nn.Module):
    """Train students that learn how the teacher's modalities relate to the clips in its bank.

    Args:
        feature_dim: D, size of the teacher's features.
        queue_size: K, rows of the bank.
        hidden_channels, hidden_dim, dropout, strategy: of the encoders, where they have them; None is the
            encoder's own default.
        temperature, topk, context: of the loss, see `ops.relational_distillation`.
        layout: name of a joint layout, or a `skeleton.Layout`.
        modalities: the teacher's.
        students: the students', out of `ikem_fast.MODALITIES`.
        encoder: of the students: a name of `ENCODERS` or an `EncoderConfig`; or a module, copied for each, or
            a function that makes one. It maps (N,C,T,V,M) to (output (N,P·feature_dim), feature (N,·)).
        teacher: a pretrained `IKEM`; its query encoders and bank are copied, and the sizes, layout and
            modalities above must be its own. Without one, the teacher is to be loaded.
        initialize: "random" weights of the students, as published, or those of the "teacher", of its encoder
            of the same modality, under a head of random weights.
        teacher_mode: "eval" freezes the teacher whole; "train" keeps its dropout and batch statistics
            running, as the published code does.
        impl: implementation of the ops: "auto", "fused" or "reference"; with "reference" STGCN too is plain
            torch.
        bodies: M, of a clip, for encoders that depend on it.
        head: of teacher and students, see `nn.heads`.

    In any dtype: views are cast to their encoder's, and the bank has the model's.

    Raises:
        ValueError: an argument is out of range, or the teacher is of other sizes or modalities.

    Example:
        model = RelationalDistiller(queue_size=1024, teacher=IKEM(queue_size=1024))
        clips = torch.randn(8, 3, 50, 25, 2)
        model(clips, clips).sum().backward()

    Source: arXiv 2309.12009, section 3.4.
    """

    def __init__(
        self,
        feature_dim: int = DEFAULTS.feature_dim,
        queue_size: int = DEFAULTS.queue_size,
        hidden_channels: int | None = None,
        hidden_dim: int | None = None,
        dropout: float | None = None,
        temperature: float = DEFAULTS.temperature,
        topk: int = DEFAULTS.topk,
        layout: str | Layout = "ntu-rgb+d",
        modalities: Sequence[str] = DEFAULTS.modalities,
        students: Sequence[str] = STUDENTS,
        encoder: str | EncoderConfig | nn.Module | Callable[[], nn.Module] | None = None,
        teacher: IKEM | None = None,
        context: bool = DEFAULTS.context,
        strategy: str = DEFAULTS.strategy,
        teacher_mode: str = "eval",
        impl: Implementation = DEFAULTS.impl,
        *,
        bodies: int = 2,
        head: str = DEFAULTS.head,
        initialize: str = "random",
    ) -> None:
        super().__init__()
        check_choice("teacher_mode", teacher_mode, TEACHER_MODES)
        check_choice("head", head, HEADS)
        check_choice("initialize", initialize, STARTS)
        self.modalities = tuple(modalities)
        self.student_modalities = tuple(students)
        check_derivable((*self.modalities, *self.student_modalities), get_layout(layout))
        self.layout = layout
        self.temperature = temperature
        self.topk = topk
        self.context = context
        self.teacher_mode = teacher_mode
        self.impl = impl
        width = len(self.modalities) * feature_dim

        sizes = {
            "hidden_channels": hidden_channels,
            "hidden_dim": hidden_dim,
            "dropout": dropout,
            "layout": layout,
            "bodies": bodies,
            "strategy": strategy,
            "impl": "reference" if impl == "reference" else "auto",
        }

        if teacher is None:
            listed = encoder if isinstance(encoder, str | EncoderConfig) else None
            contrast = partial(projection, outputs=feature_dim, hidden_dim=hidden_dim, head=head)
            make = encoder_maker(listed, contrast, num_classes=feature_dim, **sizes)
            self.teacher = nn.ModuleDict({name: make() for name in self.modalities})
            self.bank = MemoryBank(len(self.modalities), queue_size, feature_dim)
        else:
            found = (teacher.modalities, *teacher.bank.rows.shape[1:])
            if found != (self.modalities, queue_size, feature_dim):
                raise ValueError(
                    "teacher: expected (modalities, queue_size, feature_dim) = "
                    f"{(self.modalities, queue_size, feature_dim)}, found {found}"
                )
            self.teacher = copy.deepcopy(teacher.query_encoders)
            self.bank = copy.deepcopy(teacher.bank)
        self.teacher.requires_grad_(False)

        distilled = partial(two_layers, hidden=width, outputs=width, head=head)
        make = encoder_maker(encoder, distilled, num_classes=width, **sizes)
        self.students = nn.ModuleDict({name: make() for name in self.student_modalities})
        if initialize == "teacher":
            self._start_from_teacher()
        self.train()

    def _start_from_teacher(self):
        """Give each student the weights of the teacher's encoder of its modality, but not its head."""
        for name, student in self.students.items():
            if name not in self.teacher:
                raise ValueError(
                    f"initialize: expected students out of the teacher's modalities {self.modalities}, to "
                    f"start from, found {name!r}"
                )
            weights = self.teacher[name].state_dict()
            student.load_state_dict(
                {k: v for k, v in weights.items() if not k.startswith("fc.")}, strict=False
            )

    def train(self, mode: bool = True) -> "RelationalDistiller":
        """Set training mode for the students, and for the teacher as `teacher_mode` says."""
        super().train(mode)
        self.teacher.train(mode and self.teacher_mode == "train")
        return self

    def forward(
        self,
        x_teacher: torch.Tensor,
        x_student: torch.Tensor,
        frames: torch.Tensor | None = None,
        augment_teacher: Mapping[str, torch.Tensor] | None = None,
        augment_student: Mapping[str, torch.Tensor] | None = None,
        gather: Callable[[torch.Tensor], torch.Tensor] | None = None,
        watch: Watch | None = None,
    ) -> torch.Tensor:
        """Take one step of distillation up to the losses; in training mode the bank takes the features in.

        Args:
            x_teacher, x_student: (N,3,T,V,M) two views of the same clips, N ≤ queue_size.
            frames: (N,) frame counts of the clips before resampling.
            augment_teacher, augment_student: {"shear": …, "crop_start": …} for `ops.derive_modalities`.
            gather: the teacher's features (P,n,D) → those that enter the bank (P,N,D): of all processes,
                where several train.
            watch: is shown the students' outputs (S,N,P·D), the teacher's (P,N,D) and the students' pooled
                features (S,N,·), without gradients.

        Returns:
            (S,) losses, differentiable with respect to the students.
        """
        with torch.no_grad(), span("key"):
            t, _ = self._encode(self.teacher, self.modalities, x_teacher, frames, augment_teacher)
        with span("query"):
            u, hidden = self._encode(
                self.students, self.student_modalities, x_student, frames, augment_student
            )
        # The bank changes below, before the backward pass reads it again.
        queue = self.bank.rows.clone() if torch.is_grad_enabled() and self.training else self.bank.rows
        options: dict[str, Any] = {
            "temperature": self.temperature,
            "topk": self.topk,
            "context": self.context,
        }
        with span("loss"):
            losses = ops.relational_distillation(u, t, queue, impl=self.impl, **options)
        if watch is not None:
            watch(u.detach(), t, hidden.detach())
        if self.training:
            self.bank.enqueue(t if gather is None else gather(t))
        return losses

    @torch.no_grad()
    def fill_bank(
        self,
        x: torch.Tensor,
        frames: torch.Tensor | None = None,
        gather: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        """Put the teacher's features of clips (N,3,T,V,M), as they are, into the bank; see `forward`."""
        features, _ = self._encode(self.teacher, self.modalities, x, frames, None)
        self.bank.enqueue(features if gather is None else gather(features))

    def _encode(self, encoders, modalities, x, frames, augmentation):
        options = {"modalities": modalities, "layout": self.layout, "impl": self.impl}
        with span("augment+derive"):
            views = ops.derive_modalities(x, frames, **options, **(augmentation or {}))
        return encode_views(encoders, views)
