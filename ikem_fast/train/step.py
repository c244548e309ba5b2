"""One step of training: forward, backward, gradients of all processes, optimizer.

Eager, with compiled encoders, or replayed from a CUDA graph.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from threading import Thread
from types import TracebackType

import torch
from torch import nn

from ikem_fast.errors import InputError
from ikem_fast.runtime.processes import Processes
from ikem_fast.tracing import span
from ikem_fast.train.config import TrainConfig
from ikem_fast.train.guard import Undo, gradient_norm
from ikem_fast.train.optimizer import make_optimizer
from ikem_fast.train.task import Batch, Seen, Task

COMPILE_MODES = {"on": "default", "max": "max-autotune-no-cudagraphs"}
Output = tuple[torch.Tensor, Seen | None, torch.Tensor]  # losses, what the step saw, the gradient's norm
WARM_UP = 3  # eager steps ahead of a capture: they create gradients, momenta, workspaces


class Step:
    """Trains a task's model a batch at a time. Nothing in it waits for the device.

    A gradient that is not finite changes no parameter; `norm` says which was one.

    Use it as a context manager: when the block ends, however it does, the captured graph and the compiled
    code are let go (a graph must not outlive the process group that it talks through).

    Args:
        task: what is trained.
        config: the settings.
        processes: those that train.

    Raises InputError for `cuda_graph` without a GPU.

    Example:
        with Step(task, config, processes) as step:
            losses = step(batch, clips_of_all, "contrast")
            step.norm  # of the gradient: float32 () on the device
    """

    def __init__(self, task: Task, config: TrainConfig, processes: Processes) -> None:
        if config.cuda_graph and processes.device.type != "cuda":
            raise InputError(
                f"cuda_graph: expected a run on a GPU, found device {processes.device}; leave it false here"
            )
        _import_compiler()
        self.task = task
        self.processes = processes
        self.amp = config.amp
        self.batch_size = config.batch_size
        self.parameters = [p for p in task.model.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(config, self.parameters, processes.device)
        self.undo = Undo(task.model) if config.nonfinite == "skip" else None
        self.norm: torch.Tensor | None = None
        self.rate: float | None = None
        self.compiled = _encoders(task.model) if config.compile != "off" else []
        for encoder in self.compiled:
            encoder.compile(mode=COMPILE_MODES[config.compile])
        self.captures = config.cuda_graph
        self.captured = None, None  # the present phase, and its graph: none goes back to an earlier one

    def __enter__(self) -> "Step":
        self.cudnn_benchmark = torch.backends.cudnn.benchmark
        # Every step has the same shapes: which of cuDNN's kernels is fastest is worth finding out once.
        torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.captured = None, None
        torch.backends.cudnn.benchmark = self.cudnn_benchmark
        for encoder in self.compiled:  # compile() makes a module refer to itself, and has no opposite
            encoder._compiled_call_impl = None
        self.compiled = []

    def set_learning_rate(self, value: float) -> None:
        """Set the rate of the steps to come, captured ones too."""
        if value == self.rate:
            return
        self.rate = value
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(value)
            else:
                group["lr"] = value

    def __call__(self, batch: Batch, clips: int, phase: str) -> torch.Tensor:
        """Take one step on this process's share of a batch.

        Args:
            batch: the share.
            clips: in the batch, of all processes.
            phase: passed on to the task.

        Returns:
            (L,) this process's part of the batch's mean losses: their sum over the processes is the mean.
        """
        losses, self.task.seen, norm = self._taken(batch, clips, phase)
        self.norm = norm.clone()  # a replayed step writes to the same place again
        return losses

    def _taken(self, batch, clips, phase):
        if clips < self.batch_size:  # the last of an epoch: neither worth a compilation nor a capture
            with torch.compiler.set_stance("force_eager"):
                return self._run(batch, clips, phase)
        if not self.captures:
            return self._run(batch, clips, phase)
        if phase != self.captured[0]:
            self.captured = phase, _Captured(self.processes.device)
        return self.captured[1](partial(self._run, clips=clips, phase=phase), batch)

    def _run(self, batch, clips, phase):
        """A step's losses, what it saw, and the norm of its gradient."""
        if self.undo is not None:
            self.undo.keep()
        gather = partial(self.processes.gather, clips=clips)
        with torch.autocast(batch.frames.device.type, torch.bfloat16, enabled=self.amp):
            losses = self.task.losses(batch, phase, gather)
        losses = losses * self.processes.share(clips).weight
        with span("backward"):
            self.optimizer.zero_grad()
            losses.sum().backward()
        with span("optimiser"):
            self.processes.add_gradients(self.parameters)
            norm = gradient_norm(self.parameters)
            if self.optimizer.defaults["fused"]:  # the others take no such word
                self.optimizer.found_inf = (~norm.isfinite()).float()
            self.optimizer.step()
            if self.undo is not None:
                self.undo.back(~norm.isfinite())
        return losses.detach(), self.task.seen, norm


class _Captured:
    """run(batch), from its fourth call on as one CUDA graph that reads a static copy of the batch.

    Every input must keep its shape. The first calls run eagerly, on a side stream, as capturing asks for.
    `run` is given anew to each call and not kept: it refers to the step, which refers to this.
    """

    def __init__(self, device: torch.device) -> None:
        self.calls = 0
        self.graph = None
        self.side = torch.cuda.Stream(device)

    def __call__(self, run: Callable[[Batch], Output], batch: Batch) -> Output:
        self.calls += 1
        if self.calls <= WARM_UP:
            return self._aside(run, batch)
        if self.graph is None:
            static = batch.clone()
            self.static = static.tensors()
            self.graph = torch.cuda.CUDAGraph()
            # Other threads (the loader's) may allocate meanwhile.
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.output = run(static)
        torch._foreach_copy_(self.static, batch.tensors())
        self.graph.replay()
        return self.output

    def _aside(self, run, batch):
        present, side = torch.cuda.current_stream(self.side.device), self.side
        side.wait_stream(present)
        with torch.cuda.stream(side):
            output = run(batch)
        present.wait_stream(side)
        for tensor in batch.tensors():
            tensor.record_stream(side)
        output[0].record_stream(present)
        output[2].record_stream(present)
        return output


def _import_compiler():
    """Import torch's compiler on a stack of its own.

    Otherwise the first optimizer of a process imports it, and an error that torch meets on the way and keeps
    would keep every frame that led there too, and with them the model, for good.
    """
    thread = Thread(target=import_module, args=("torch._dynamo",))
    thread.start()
    thread.join()


def _encoders(model):
    return [m for part in model.children() if isinstance(part, nn.ModuleDict) for m in part.values()]
