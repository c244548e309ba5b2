"""One step of training: forward, backward, gradients of all processes, optimiser.

Eager, with compiled encoders, or replayed from a CUDA graph.
"""

import torch
from torch import nn

from ikem_fast.errors import InputError
from ikem_fast.tracing import span

COMPILE_MODES = {"on": "default", "max": "max-autotune-no-cudagraphs"}
WARM_UP = 3  # eager steps ahead of a capture: they create gradients, momenta, workspaces


class Step:
    """Trains `model` a batch at a time. Nothing in it waits for the device.

    Args:
        model: on its device; parameters that require a gradient are trained.
        forward: forward(clips, frames, first, second, phase, gather) → losses (L,), means over the clips
            given; gather turns the keys of this process into those of all.
        config: `TrainConfig`.
        processes: `distributed.Processes`.

    Raises InputError for `cuda_graph` without a GPU.
    """

    def __init__(self, model, forward, config, processes):
        if config.cuda_graph and processes.device.type != "cuda":
            raise InputError(
                f"cuda_graph: expected a run on a GPU, found device {processes.device}; leave it false here"
            )
        self.model = model
        self.forward = forward
        self.processes = processes
        self.amp = config.amp
        self.batch_size = config.batch_size
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(
            self.parameters,
            # A captured step reads the learning rate from the device.
            lr=torch.tensor(config.lr, device=processes.device) if config.cuda_graph else config.lr,
            momentum=config.sgd_momentum,
            weight_decay=config.weight_decay,
            fused=processes.device.type in ("cpu", "cuda"),
        )
        self._start_momenta()
        if config.compile != "off":
            for encoder in _encoders(model):
                encoder.compile(mode=COMPILE_MODES[config.compile])
        self.captures = config.cuda_graph
        self.captured = None, None  # the present phase, and its graph: none goes back to an earlier one

    def set_learning_rate(self, value):
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(value)
            else:
                group["lr"] = value

    def load_optimizer(self, state):
        """Take over momenta; the settings stay this run's own.

        Raises ValueError where they belong to other parameters.
        """
        mine = self.optimizer.state_dict()["param_groups"]
        counts = [[len(group["params"]) for group in groups] for groups in (mine, state["param_groups"])]
        if counts[0] != counts[1]:
            raise ValueError(f"expected an optimiser of {counts[0]} parameters, found one of {counts[1]}")
        self.optimizer.load_state_dict({"state": state["state"], "param_groups": mine})
        self._start_momenta()

    def _start_momenta(self):
        """A momentum of 0 where there is none: the fused step wants all or none, and some learn later."""
        if self.optimizer.defaults["momentum"]:
            for parameter in self.parameters:
                state = self.optimizer.state[parameter]
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = torch.zeros_like(parameter)

    def __call__(self, clips, frames, views, size, phase):
        """One step on this process's share of a batch.

        Args:
            clips: (n,3,T,V,M), frames: (n,).
            views: two of {"shear": (n,3,3), "crop_start": (n,)}.
            size: clips in the batch, of all processes.
            phase: passed on to `forward`.

        Returns:
            (L,) this process's part of the batch's mean losses: their sum over the processes is the mean.
        """
        if size < self.batch_size:  # the last of an epoch: neither worth a compilation nor a capture
            with torch.compiler.set_stance("force_eager"):
                return self._run(clips, frames, views, size, phase)
        if not self.captures:
            return self._run(clips, frames, views, size, phase)
        if phase != self.captured[0]:
            self.captured = phase, _Captured(lambda *inputs: self._run(*inputs, size, phase))
        return self.captured[1](clips, frames, views)

    def _run(self, clips, frames, views, size, phase):
        gather = lambda keys: self.processes.gather_keys(keys, size)  # noqa: E731
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=self.amp):
            losses = self.forward(clips, frames, *views, phase, gather=gather)
        losses = losses * self.processes.share(size).weight
        with span("backward"):
            self.optimizer.zero_grad()
            losses.sum().backward()
        with span("optimiser"):
            self.processes.add_gradients(self.parameters)
            self.optimizer.step()
        return losses.detach()


class _Captured:
    """run(clips, frames, views), from its fourth call on as one CUDA graph that reads static copies of them.

    Every input must keep its shape. The first calls run eagerly, on a side stream, as capturing asks for.
    """

    def __init__(self, run):
        self.run = run
        self.calls = 0
        self.graph = None
        self.side = torch.cuda.Stream()

    def __call__(self, clips, frames, views):
        self.calls += 1
        if self.calls <= WARM_UP:
            return self._aside(clips, frames, views)
        if self.graph is None:
            inputs = clips.clone(), frames.clone(), [_cloned(view) for view in views]
            self.static = _tensors(*inputs)
            self.graph = torch.cuda.CUDAGraph()
            # Other threads (the loader's) may allocate meanwhile.
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.output = self.run(*inputs)
        torch._foreach_copy_(self.static, _tensors(clips, frames, views))
        self.graph.replay()
        return self.output

    def _aside(self, *inputs):
        present, side = torch.cuda.current_stream(), self.side
        side.wait_stream(present)
        with torch.cuda.stream(side):
            output = self.run(*inputs)
        present.wait_stream(side)
        for tensor in _tensors(*inputs):
            tensor.record_stream(side)
        output.record_stream(present)
        return output


def _tensors(clips, frames, views):
    return [clips, frames, *(view[name] for view in views for name in sorted(view))]


def _cloned(view):
    return {name: values.clone() for name, values in view.items()}


def _encoders(model):
    return [m for part in model.children() if isinstance(part, nn.ModuleDict) for m in part.values()]
