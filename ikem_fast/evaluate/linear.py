"""Linear evaluation: how well one linear layer on frozen features tells the actions apart."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from ikem_fast.data import open_dataset
from ikem_fast.errors import InputError
from ikem_fast.evaluate.features import estimate_statistics, extract_features, load_encoders
from ikem_fast.evaluate.report import draw_linear
from ikem_fast.train.checkpoint import plain
from ikem_fast.train.device import choose_device

RESULTS = "linear.json"
PICTURE = "linear.png"
TRIO = ("joint", "motion", "bone")


@dataclass(kw_only=True)
class LinearConfig:
    """Settings of linear evaluation. Source of the defaults: arXiv 2309.12009, section 4.2.

    Args:
        data: folder of a prepared dataset.
        checkpoint: of pretraining or distillation.
        out: folder for results and picture.
        sets: modalities whose classifiers' outputs are averaged, joined by "+"; sets separated by commas.
            Each alone, joint+motion+bone and all together where left out.
        untrained: evaluate encoders with random weights instead, for comparison; their normalisation
            statistics are estimated on the training clips.
        epochs: how many.
        batch_size: clips in a step.
        lr: learning rate of SGD, momentum 0.9.
        lr_milestones: epochs after which the learning rate is multiplied by 0.1.
        amp: extract features in bfloat16 where that is safe.
        device: cpu, cuda, cuda:1, …; auto takes a GPU where there is one.
        seed: of the classifiers' weights and the order of clips.
    """

    data: Path
    checkpoint: Path
    out: Path
    sets: str | None = None
    untrained: bool = False
    epochs: int = 100
    batch_size: int = 128
    lr: float = 3.0
    lr_milestones: tuple[int, ...] = (80,)
    amp: bool = False
    device: str = "auto"
    seed: int = 0


def evaluate_linear(config):
    """Train linear classifiers on the features of the split "train", score them on "test".

    The features never change, so they are computed once. A set of several modalities has a classifier each,
    trained together on the mean of their outputs, as the published code does.

    Args:
        config: `LinearConfig`.

    Returns:
        What is written to `out`/linear.json: settings, and for each set top-1, top-5 and the accuracy of
        each class in percent, the confusion matrix (row: true class), and the curves over epochs.

    Raises InputError for a dataset, checkpoint, set or device that cannot be used.
    """
    dataset = open_dataset(config.data)
    device = choose_device(config.device)
    encoders = load_encoders(
        config.checkpoint, dataset, untrained_seed=config.seed if config.untrained else None
    )
    sets = _parse_sets(config.sets, tuple(encoders))
    train, test = dataset["train"], dataset["test"]
    for name, split in (("train", train), ("test", test)):
        if not len(split):
            raise InputError(f"{config.data}: expected clips in the split {name!r}, found none")
    if config.untrained:
        estimate_statistics(encoders, train, dataset.layout, device=device)

    options = {"device": device, "amp": config.amp}
    x_train = extract_features(encoders, train, dataset.layout, title="train features", **options)
    x_test = extract_features(encoders, test, dataset.layout, title="test features", **options)
    y_train, y_test = torch.tensor(train.labels), torch.tensor(test.labels)

    order = list(encoders)
    results = {}
    for name in sets:
        columns = [order.index(modality) for modality in name.split("+")]
        results[name] = _train_and_score(
            x_train[:, columns].to(device),
            y_train.to(device),
            x_test[:, columns].to(device),
            y_test.to(device),
            dataset.classes,
            config,
        )
    report = {
        "dataset": dataset.name,
        "settings": plain(asdict(config)),
        "clips": {"train": len(train), "test": len(test)},
        "classes": list(dataset.classes),
        "sets": results,
    }
    _write(report, Path(config.out))
    return report


def _parse_sets(text, modalities):
    if text is None:
        together = [TRIO] if set(TRIO) < set(modalities) else []
        together += [modalities] if len(modalities) > 1 else []
        return [*modalities, *("+".join(names) for names in together)]
    sets = [part.strip() for part in text.split(",")]
    for name in sets:
        unknown = [modality for modality in name.split("+") if modality not in modalities]
        if unknown:
            raise InputError(
                f"sets: expected modalities out of {', '.join(modalities)}, found {unknown[0]!r} in {name!r}"
            )
    return sets


def _train_and_score(x_train, y_train, x_test, y_test, classes, config):
    """Features (N,S,H) of S modalities → scores of S classifiers trained on the mean of their outputs."""
    random = torch.Generator().manual_seed(config.seed)
    N, S, H = x_train.shape
    # The mean of S linear maps is one linear map of all features side by side, divided by S.
    x_train, x_test = x_train.flatten(1) / S, x_test.flatten(1) / S
    weight = torch.empty(S * H, len(classes)).normal_(0, 0.01, generator=random).to(x_train.device)
    bias = torch.zeros(len(classes), device=x_train.device)
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    optimizer = torch.optim.SGD(parameters, lr=config.lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, config.lr_milestones)

    curves = {"loss": [], "top1": []}
    for _ in range(config.epochs):
        order = torch.randperm(N, generator=random).to(x_train.device)
        total = torch.zeros((), device=x_train.device)
        for batch in order.split(config.batch_size):
            loss = F.cross_entropy(torch.addmm(bias, x_train[batch], weight), y_train[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(batch)
        schedule.step()
        with torch.no_grad():
            scores = torch.addmm(bias, x_test, weight)
        curves["loss"].append(total.item() / N)
        curves["top1"].append(_percent(scores.argmax(1) == y_test))

    top = scores.topk(min(5, len(classes)), 1).indices
    confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    confusion.index_put_(
        (y_test.cpu(), top[:, 0].cpu()), torch.ones(len(y_test), dtype=torch.int64), accumulate=True
    )
    of_class = confusion.sum(1).tolist()
    right = confusion.diagonal().tolist()
    return {
        "top1": _percent(top[:, 0] == y_test),
        "top5": _percent((top == y_test[:, None]).any(1)),
        "per_class": {
            name: 100 * r / n if n else None for name, r, n in zip(classes, right, of_class, strict=True)
        },
        "confusion": confusion.tolist(),
        "curves": curves,
    }


def _percent(mask):
    return 100 * mask.double().mean().item()


def _write(report, out):
    out.mkdir(parents=True, exist_ok=True)
    beside = out / (RESULTS + ".partial")
    beside.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(out / RESULTS)
    draw_linear(report, out / PICTURE)
