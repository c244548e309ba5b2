"""What says early that nothing is learned: similarities, rank, nearest neighbors, the loss against chance."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ikem_fast.train.budget import Progress
from ikem_fast.train.task import Task

ROWS = 256  # recent features that are kept of each modality
EVERY = 100  # steps between two looks, which cost less than a tenth of a second each on a core
PATIENCE = 1 / 3  # share of the budget after which a modality is to have learned something
AT_CHANCE = 0.98  # of the loss at chance, or of the highest of a phase: a loss above it has not fallen
COLLAPSED = 2.0  # effective rank below which features say next to nothing


@dataclass(frozen=True)
class Report:
    """A look at a run.

    figures: loss's name → {"positive", "negative": mean cosine of queries with their keys and with others;
        "rank": effective rank of recent features; "knn": how many in % of recent features have a clip of
        their class nearest, None without classes; "chance": the loss of features that tell nothing}.
    warnings: what was not warned of before.
    """

    figures: dict[str, dict[str, float | None]]
    warnings: tuple[str, ...]

    def summary(self) -> str:
        """Say it in a few words."""
        knn = [figure["knn"] for figure in self.figures.values() if figure["knn"] is not None]
        ranks = [figure["rank"] or 0.0 for figure in self.figures.values()]
        chance = sum(figure["chance"] or 0.0 for figure in self.figures.values())
        votes = f"  nearest {sum(knn) / len(knn):.0f}%" if knn else ""
        return f"(chance {chance:.3f}){votes}  rank {sum(ranks) / len(ranks):.0f}"


class Health:
    """Keeps recent features of a task and looks at them now and then; nothing is trained on what it finds.

    To keep them is a copy on the device; only a look waits for it.

    Args:
        task: what is trained.
        labels: (clips,) class of each clip of the split that is trained on.

    Example:
        health = Health(task, dataset["train"].labels)
        health.keep(places)  # behind each step
        report = health.look(progress, phase, losses)  # now and then
    """

    def __init__(self, task: Task, labels: np.ndarray) -> None:
        self.task = task
        self.labels = np.asarray(labels)
        self.rows: torch.Tensor | None = None
        self.places = np.full(ROWS, -1)
        self.written = 0
        self.looked = -math.inf
        self.phase: str | None = None  # that was looked at last
        self.highest: dict[tuple[str, str], float] = {}
        self.since: dict[str, float] = {}
        self.warned: set[tuple[str, str, str]] = set()

    def keep(self, places: np.ndarray) -> None:
        """Keep the features of the last step, of the clips at `places` of the split."""
        seen = self.task.seen
        if seen is None:
            return
        features, places = seen.features[:, -ROWS:].nan_to_num(), places[-ROWS:]  # a step may be passed over
        if self.rows is None:
            self.rows = features.new_zeros(len(features), ROWS, features.shape[2], dtype=torch.float32)
        at = (self.written + np.arange(len(places))) % ROWS
        split = min(
            len(at), ROWS - at[0]
        )  # a slice, or two where the ring wraps: no index goes to the device
        for first, part in ((int(at[0]), features[:, :split]), (0, features[:, split:])):
            self.rows[:, first : first + part.shape[1]].copy_(part)
        self.places[at] = places
        self.written += len(places)

    def due(self, progress: Progress, phase: str) -> bool:
        """Tell whether it is time for a look: now and then, at the end, and where a phase is new."""
        return progress.over or phase != self.phase or progress.steps - self.looked >= EVERY

    def state(self) -> dict[str, Any]:
        """Gather what a run that is gone on with needs for the same figures, in plain containers."""
        return {
            "rows": None if self.rows is None else self.rows.clone(),
            "places": self.places.tolist(),
            "written": self.written,
            "looked": None if self.looked == -math.inf else self.looked,
            "phase": self.phase,
            "highest": [[*key, value] for key, value in self.highest.items()],
            "since": dict(self.since),
            "warned": [list(key) for key in sorted(self.warned)],
        }

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from what `state` gathered."""
        self.rows = None if state["rows"] is None else state["rows"].to(device)
        self.places = np.array(state["places"])
        self.written = state["written"]
        self.looked = -math.inf if state["looked"] is None else state["looked"]
        self.phase = state.get("phase")
        self.highest = {(phase, name): value for phase, name, value in state["highest"]}
        self.since = dict(state["since"])
        self.warned = {(name, phase, reason) for name, phase, reason in state["warned"]}

    def follow(self, progress: Progress, phase: str, losses: dict[str, float]) -> None:
        """Take note of the losses of a stretch of steps."""
        self.since.setdefault(phase, progress.share)
        for name, loss in losses.items():
            self.highest[phase, name] = max(loss, self.highest.get((phase, name), 0.0))

    @torch.no_grad()
    def look(self, progress: Progress, phase: str, losses: dict[str, float]) -> Report | None:
        """Compute the figures, and what is to be warned of; None before the first step."""
        seen = self.task.seen
        if seen is None or self.rows is None:
            return None
        self.looked, self.phase = progress.steps, phase
        kept = min(self.written, ROWS)
        rows, places = self.rows[:, :kept], self.places[:kept]
        queries = F.normalize(seen.queries.float().nan_to_num(), dim=-1)
        positive = (queries * F.normalize(seen.keys.float().nan_to_num(), dim=-1)).sum(-1).mean(1)
        negative = (queries @ self.task.negatives().float()[:, :, None]).mean((1, 2))
        ranks = effective_rank(rows)
        votes = nearest_of_class(rows, places, self.labels[places])
        chance = self.task.chance(phase)
        columns = torch.stack([positive, negative, ranks]).T.tolist()
        figures: dict[str, dict[str, float | None]] = {}
        for name, (p, n, rank), knn in zip(self.task.names, columns, votes, strict=True):
            figures[name] = {"positive": p, "negative": n, "rank": rank, "knn": knn, "chance": chance}
        return Report(figures, tuple(self._warnings(progress, phase, losses, figures)))

    def _warnings(self, progress, phase, losses, figures):
        """One for each modality, phase and reason, once."""
        if progress.share - self.since.get(phase, 0.0) < PATIENCE:
            return
        for name, figure in figures.items():
            highest = self.highest.get((phase, name), math.inf)
            if figure["rank"] < COLLAPSED:
                reason, text = (
                    "rank",
                    f"has collapsed: the effective rank of its features is {figure['rank']:.1f}",
                )
            elif losses[name] >= AT_CHANCE * figure["chance"]:
                reason = "chance"
                text = f"stands at chance: its loss is {losses[name]:.3f}, at chance {figure['chance']:.3f}"
            elif losses[name] >= AT_CHANCE * highest:
                reason = "still"
                text = f"does not learn: its loss is {losses[name]:.3f} and has been at most {highest:.3f}"
            else:
                continue
            if (name, phase, reason) not in self.warned:
                self.warned.add((name, phase, reason))
                yield f"{name} {text}"


def effective_rank(rows: torch.Tensor) -> torch.Tensor:
    """Compute the effective rank (L,) of features (L,R,H): exp of the entropy of their singular values.

    Of features less their mean; 1 where all are alike.

    Source: Roy and Vetterli 2007; RankMe (Garrido et al. 2023).

    Example:
        effective_rank(torch.randn(1, 512, 16))  # nearly 16
    """
    centered = rows.float() - rows.float().mean(1, keepdim=True)
    products = centered.mT @ centered if rows.shape[1] >= rows.shape[2] else centered @ centered.mT
    values = torch.linalg.eigvalsh(products.double()).clamp(min=0).sqrt()
    values = values * (values > 1e-5 * values.amax(-1, keepdim=True))  # what is rounding alone
    shares = values / values.sum(-1, keepdim=True).clamp(min=1e-30)
    return torch.special.entr(shares).sum(-1).exp().float()


def nearest_of_class(rows: torch.Tensor, places: np.ndarray, labels: np.ndarray) -> list[float | None]:
    """Compute for how many in % of features (L,R,H) the nearest is of their class; None without classes.

    Cosines of standardised features; what belongs to the same clip does not count.

    Args:
        rows: (L,R,H). places: (R,) the clip of each. labels: (R,) its class.
    """
    if len(np.unique(labels)) < 2:
        return [None] * len(rows)
    variance, mean = torch.var_mean(rows.float(), 1, keepdim=True, correction=0)
    units = F.normalize((rows.float() - mean) / (variance + 1e-12).sqrt(), dim=-1)
    of, classes = (torch.as_tensor(values, device=rows.device) for values in (places, labels))
    cosines = (units @ units.mT).masked_fill(of[:, None] == of, -2)
    return (100 * (classes[cosines.argmax(-1)] == classes).float().mean(1)).tolist()
