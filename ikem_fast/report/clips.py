"""Sections that show clips by what the encoders make of them: a map of features, nearest neighbors."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ikem_fast.data import Dataset
from ikem_fast.errors import printable
from ikem_fast.evaluate.config import EncoderEvaluateConfig
from ikem_fast.evaluate.features import frozen_features
from ikem_fast.evaluate.render.html.elements import Markup, section, tag
from ikem_fast.pictures.page import packed_array
from ikem_fast.pictures.raster import fitting_scale
from ikem_fast.pictures.scene import body_panel
from ikem_fast.skeleton import Layout

MAPPED = 600  # test clips on the map
SEARCHED = 4000  # training clips among which neighbors are
ASKED, NEAREST = 6, 5
FRAMES = 16  # of a clip that plays; what is between them is interpolated
SIZE = 560  # of the map, in units of its own


@dataclass
class Shelf:
    """The clips that a page plays, each once."""

    layout: Layout
    points: list[dict[str, Any]] = field(default_factory=list)
    bones: dict[int, Any] = field(default_factory=dict)
    places: dict[tuple[str, int], int] = field(default_factory=dict)

    def place(self, split: str, index: int, clip: np.ndarray) -> int:
        """Put a clip (3,T,V,M) on the shelf, and say where it is."""
        if (split, index) not in self.places:
            T = clip.shape[1]
            frames = np.linspace(0, T - 1, min(FRAMES, T)).round().astype(int)
            panel = body_panel(clip[:, frames], self.layout, trails=False)
            self.bones[panel.points.shape[1]] = panel.bones
            self.places[split, index] = len(self.points)
            alone = panel.points.shape[1] == self.layout.num_joints
            scale = round(fitting_scale([panel], 0.56 if alone else 1.0), 2)
            self.points.append({**packed_array(panel.points, bits=8), "scale": scale})
        return self.places[split, index]

    def data(self) -> dict[str, Any]:
        """List what the page's script plays."""
        return {"points": self.points, "bones": self.bones, "fps": FRAMES / 2.2}


@dataclass(frozen=True)
class Seen:
    """Features of some clips of a dataset, all modalities side by side, standardised: unit rows.

    train, test: (N,H) float32. train_at, test_at: (N,) places of the clips in their splits.
    """

    dataset: Dataset
    train: np.ndarray
    test: np.ndarray
    train_at: np.ndarray
    test_at: np.ndarray


def features_of(checkpoint: Any, dataset: Dataset, device: torch.device) -> Seen:
    """Compute the features of at most so many clips of each split, evenly chosen.

    Raises InputError where the checkpoint does not fit the dataset.
    """
    at = {name: _some(len(dataset[name]), most) for name, most in (("train", SEARCHED), ("test", MAPPED))}
    part = replace(dataset, splits={name: dataset[name].take(where) for name, where in at.items()})
    config = EncoderEvaluateConfig(data=dataset.folder, out=dataset.folder, checkpoint=checkpoint)
    features = frozen_features(config, part, device)
    train, test = (one.x.float().cpu().flatten(1).numpy() for one in (features.train, features.test))
    mean, spread = train.mean(0), train.std(0) + 1e-6
    train, test = ((x - mean) / spread for x in (train, test))
    train, test = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (train, test))
    return Seen(dataset, train, test, at["train"], at["test"])


def flattened(features: np.ndarray, seed: int = 0) -> tuple[np.ndarray, str]:
    """Lay features (N,H) out on a plane: (N,2), and by what."""
    centered = features - features.mean(0)
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        left, values, _ = np.linalg.svd(centered, full_matrices=False)
        return left[:, :2] * values[:2], "PCA (t-SNE needs scikit-learn: pip install 'ikem-fast[report]')"
    few = max(1.0, min(30.0, (len(features) - 1) / 3))
    placed = TSNE(perplexity=few, init="pca", random_state=seed).fit_transform(centered)
    return placed, "t-SNE"


def map_section(seen: Seen, taken: dict[str, int], shelf: Shelf) -> tuple[Markup, list[dict[str, Any]]]:
    """Show where the features of test clips lie; also what the script finds of each.

    taken: clip's name → the class that it was taken for.
    """
    placed, how = flattened(seen.test)
    low, high = placed.min(0), placed.max(0)
    placed = 14 + (placed - low) / np.maximum(high - low, 1e-12) * (SIZE - 28)
    split, classes = seen.dataset["test"], seen.dataset.classes
    data, circles = [], []
    for index, (x, y) in zip(seen.test_at.tolist(), placed.tolist(), strict=True):
        label, name = int(split.labels[index]), str(split.names[index])
        mistaken = taken.get(name, label) != label
        data.append({
            "clip": shelf.place("test", index, split.clips[index]), "label": label,
            "taken": taken.get(name), "name": printable(name, 80),
        })  # fmt: skip
        circles.append(tag(
            "circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=6, style=f"fill:{color(label, len(classes))}",
            class_="wrong" if mistaken else None, data_point=len(data) - 1, data_label=label,
        ))  # fmt: skip
    card = tag("div", tag("canvas"), tag("div", tag("p", style="font-weight:620"), tag("p"),
               tag("p", class_="quiet")), class_="card")  # fmt: skip
    known = sorted({point["label"] for point in data})
    chips = [
        tag("button", tag("i", style=f"background:{color(label, len(classes))}"), classes[label],
            data_label=label, aria_pressed="false", type="button")
        for label in known
    ]  # fmt: skip
    lead = (
        f"Features of {len(data)} test clips, all modalities side by side, laid out by {how}. Touch a point "
        "to see its clip; choose a class to see it alone."
        + (" Ringed: mistaken by the probe." if taken else "")
    )
    picture = tag("svg", circles, viewBox=f"0 0 {SIZE} {SIZE}", role="img", aria_label="map of features")
    chosen = tag("div", chips, class_="classes")
    return section("Map", lead, tag("div", tag("div", tag("figure", picture), chosen), card, class_="map"),
                   name="map"), data  # fmt: skip


def neighbors_section(seen: Seen, shelf: Shelf) -> Markup:
    """Show a few test clips beside the training clips whose features are nearest."""
    train, test, classes = seen.dataset["train"], seen.dataset["test"], seen.dataset.classes
    cosines = seen.test @ seen.train.T
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :NEAREST]
    right = train.labels[seen.train_at[nearest[:, 0]]] == test.labels[seen.test_at]
    rows = []
    for row in _asked(test.labels[seen.test_at], right):
        index = int(seen.test_at[row])
        label = int(test.labels[index])
        place = shelf.place("test", index, test.clips[index])
        clips = [_clip(place, classes[label], "asked for", "asked")]
        for column in nearest[row].tolist():
            other = int(seen.train_at[column])
            theirs = int(train.labels[other])
            place = shelf.place("train", other, train.clips[other])
            kind = "same" if theirs == label else "other"
            clips.append(_clip(place, classes[theirs], f"cosine {cosines[row, column]:.2f}", kind))
        rows.append(tag("div", clips))
    lead = (
        "Test clips (left) and the training clips whose features are nearest. The nearest is of the same "
        f"class for {100 * right.mean():.1f} % of {len(right)} clips; half of those shown are among the "
        "others, where there are any."
    )
    return section("Neighbors", lead, tag("div", rows, class_="neighbors"), name="neighbors")


def color(label: int, classes: int) -> str:
    """Choose a class's color: neighbors in number differ in hue and in lightness."""
    return f"oklch({(0.62, 0.74, 0.55)[label % 3]} 0.16 {360 * label / max(classes, 1):.0f})"


def _clip(place, label, told, kind):
    return tag("div", tag("canvas", data_clip=place), tag("p", label), tag("p", told, class_="quiet"),
               class_=f"clip {kind}")  # fmt: skip


def _asked(labels, right):
    """Rows to ask for: half right and half wrong, where there are, each of another class."""
    order = np.random.default_rng(0).permutation(len(labels))
    chosen: list[int] = []
    for wanted, most in ((True, ASKED // 2), (False, ASKED), (True, ASKED)):
        for row in order.tolist():
            if len(chosen) < most and right[row] == wanted and labels[row] not in labels[chosen]:
                chosen.append(row)
    return chosen


def _some(count, most):
    """Places of at most so many of a split's clips, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
