"""Relational cross-modality knowledge distillation: a frozen teacher of many modalities, students of few."""

import copy

import torch
from torch import nn

from ikem_fast import ops
from ikem_fast.nn.encoders.stgcn import STGCN
from ikem_fast.nn.ikem import encode_views, encoder_factory, two_layers
from ikem_fast.nn.memory_bank import MemoryBank
from ikem_fast.skeleton import MODALITIES
from ikem_fast.tracing import span

TEACHER_MODES = ("eval", "train")


class RelationalDistiller(nn.Module):
    """Students that learn how the teacher's modalities relate to the clips in its bank.

    Args:
        feature_dim: D, size of the teacher's features.
        queue_size: K, rows of the bank.
        hidden_channels, hidden_dim, dropout, strategy: of the encoders, see `STGCN`.
        temperature, topk, context: of the loss, see `ops.relational_distillation`.
        layout: name of a joint layout, or a `skeleton.Layout`.
        modalities: the teacher's.
        students: the students', out of `ikem_fast.MODALITIES`.
        encoder: the students' encoder, if not STGCN: a module, copied for each, or a function that makes one.
            It maps (N,C,T,V,M) to (output (N,P·feature_dim), feature (N,·)).
        teacher: a pretrained `IKEM`; its query encoders and bank are copied, and the sizes, layout and
            modalities above must be its own. Without one, the teacher is to be loaded.
        teacher_mode: "eval" freezes the teacher whole; "train" keeps its dropout and batch statistics
            running, as the published code does.
        impl: implementation of the ops: "auto", "fused" or "reference"; with "reference" STGCN too is plain
            torch.

    Source: arXiv 2309.12009, section 3.4.
    """

    def __init__(
        self,
        feature_dim=128,
        queue_size=32768,
        hidden_channels=16,
        hidden_dim=256,
        dropout=0.5,
        temperature=0.07,
        topk=1,
        layout="ntu-rgb+d",
        modalities=MODALITIES,
        students=("joint", "motion", "bone"),
        encoder=None,
        teacher=None,
        context=True,
        strategy="spatial",
        teacher_mode="eval",
        impl="auto",
    ):
        super().__init__()
        if teacher_mode not in TEACHER_MODES:
            raise ValueError(f"teacher_mode: expected one of {TEACHER_MODES}, found {teacher_mode!r}")
        self.modalities = tuple(modalities)
        self.student_modalities = tuple(students)
        self.layout = layout
        self.temperature = temperature
        self.topk = topk
        self.context = context
        self.teacher_mode = teacher_mode
        self.impl = impl
        width = len(self.modalities) * feature_dim

        def stgcn(head):
            network = STGCN(
                hidden_channels=hidden_channels,
                hidden_dim=hidden_dim,
                dropout=dropout,
                layout=layout,
                strategy=strategy,
                impl="reference" if impl == "reference" else "auto",
            )
            network.fc = head
            return network

        if teacher is None:
            self.teacher = nn.ModuleDict(
                {name: stgcn(two_layers(hidden_dim, hidden_dim, feature_dim)) for name in self.modalities}
            )
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

        make = encoder_factory(encoder or (lambda: stgcn(two_layers(hidden_dim, width, width))))
        self.students = nn.ModuleDict({name: make() for name in self.student_modalities})
        self.train()

    def train(self, mode=True):
        super().train(mode)
        self.teacher.train(mode and self.teacher_mode == "train")
        return self

    def forward(
        self, x_teacher, x_student, frames=None, augment_teacher=None, augment_student=None, gather=None
    ):
        """One step of distillation up to the losses; in training mode the teacher's features enter the bank.

        Args:
            x_teacher, x_student: (N,3,T,V,M) two views of the same clips, N ≤ queue_size.
            frames: (N,) frame counts of the clips before resampling.
            augment_teacher, augment_student: {"shear": …, "crop_start": …} for `ops.derive_modalities`.
            gather: turns the teacher's features of this process into those of all processes, which enter the
                bank; without it this one's do.

        Returns:
            (S,) losses, differentiable with respect to the students.
        """
        with torch.no_grad(), span("key"):
            t = self._encode(self.teacher, self.modalities, x_teacher, frames, augment_teacher)
        with span("query"):
            u = self._encode(self.students, self.student_modalities, x_student, frames, augment_student)
        # The bank changes below, before the backward pass reads it again.
        queue = self.bank.rows.clone() if torch.is_grad_enabled() and self.training else self.bank.rows
        options = {"temperature": self.temperature, "topk": self.topk, "context": self.context}
        with span("loss"):
            losses = ops.relational_distillation(u, t, queue, impl=self.impl, **options)
        if self.training:
            self.bank.enqueue(t if gather is None else gather(t))
        return losses

    def _encode(self, encoders, modalities, x, frames, augmentation):
        options = {"modalities": modalities, "layout": self.layout, "impl": self.impl}
        with span("augment+derive"):
            views = ops.derive_modalities(x, frames, **options, **(augmentation or {}))
        return encode_views(encoders, views)[0]
