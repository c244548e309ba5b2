"""What a run left, opened: it answers for raw clips, is written as a folder, and goes to the hub and back."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ikem_fast.data.conversion import convert
from ikem_fast.data.preparation import Preprocessing
from ikem_fast.data.preprocess import Clip, RawClip, Skipped, preprocess_clips
from ikem_fast.errors import InputError, printable
from ikem_fast.nn.config import ModelConfig
from ikem_fast.nn.recognizer import Recognizer
from ikem_fast.predict.sources import Named, Source, named_clips
from ikem_fast.runtime.bundle import CONFIG, FOLDER, Description, read_bundle, write_bundle
from ikem_fast.runtime.checkpoint import NAME, load_checkpoint, stored_bodies, trained_layout
from ikem_fast.runtime.device import choose_device
from ikem_fast.runtime.encoders import stored_encoders
from ikem_fast.skeleton import Layout, find_layout

BATCH = 64  # clips at a time
FRAMES = 50  # of a clip, where an old checkpoint does not say


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found in one clip.

    name: of the clip.
    probabilities: (C,) float32 array; None where there is no classifier, or no clip.
    features: (S,H) float32 array; None where there is no clip.
    reason: why there is none.
    """

    name: str
    probabilities: Any = None
    features: Any = None
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Prediction:
    """What was found in N clips.

    names: of the clips.
    classes: of the C columns.
    labels: the likeliest class of each clip; None where there is no classifier.
    probabilities: (N,C) float32 array; None likewise.
    features: (N,S,H) float32, of the S modalities that answered.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    labels: tuple[str, ...] | None
    probabilities: Any
    features: np.ndarray


class Bundle:
    """Answer for raw clips, by encoders and classifiers; see `ikem_fast.load`.

    Args:
        recognizer: encoders and classifiers.
        description: layout, preprocessing, classes, settings, figures.
        folder: where they are from.

    Example:
        bundle = ikem_fast.load("runs/teacher")
        bundle.predict(["wave.skeleton"]).labels  # ("wave hand",)
    """

    def __init__(self, recognizer: Recognizer, description: Description, folder: Path | None = None) -> None:
        self.recognizer = recognizer
        self.description = description
        self.folder = folder
        self._preprocessing = replace(
            Preprocessing.of(description.prepared), frames=description.frames, to_layout=None
        )
        self._device = torch.device("cpu")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the actions, in the order of probabilities."""
        return self.description.classes

    @property
    def sets(self) -> tuple[str, ...]:
        """Sets of modalities that there is a classifier for, joined by "+"; empty for encoders alone."""
        return tuple(self.recognizer.heads)

    def to(self, device: str) -> "Bundle":
        """Compute on this device from now on: "cpu", "cuda", "auto", …. Raises InputError without it."""
        self._device = choose_device(device)
        self.recognizer.to(self._device)
        return self

    def chosen(self, of: str | None = None) -> str | None:
        """Return the set that answers: this one, or the one of most modalities.

        Raises InputError where there is no classifier for it.
        """
        if of is not None and of not in self.sets:
            raise InputError(
                f"set: expected one of {', '.join(self.sets) or '(there is no classifier)'}, found {of!r}"
            )
        return of or self.recognizer.largest

    def answering(self, of: str | None = None) -> str:
        """Return the set that `chosen` returns.

        Raises InputError, which says how to fit a classifier, where there are encoders alone.
        """
        if (chosen := self.chosen(of)) is None:
            raise InputError(
                f"{self.folder}: expected a classifier, found encoders alone; make one: ikem-fast evaluate "
                f"linear --data DATA --checkpoint {self.folder} --out {self.folder}/linear"
            )
        return chosen

    def predict(
        self,
        clips: Source | Iterable[Source],
        *,
        of: str | None = None,
        layout: str | Layout | None = None,
        format: str | None = None,
    ) -> Prediction:
        """Recognize the actions of raw clips.

        Each clip is centered, resampled and turned as the training clips were (but files that `write` left,
        which were already); frames without a body are left out, bodies beyond those that the model
        knows too.

        Args:
            clips: a raw clip (3,F,V,M), a batch of them (N,3,F,V,M), the path of a file, folder or
                .zip of any format of `data.FORMATS`, or several of these.
            of: the set of modalities that answers, such as "joint+motion+bone"; that of most, if not given.
            layout: of the clips' joints, where it is neither that of their files' format nor the model's.
            format: of the files, if it is not to be found out.

        Returns:
            A row for each clip. Where the bundle has encoders alone, features of all modalities, no labels.

        Raises InputError naming the first clip that cannot be used; `predict_each` goes on behind it.

        Example:
            prediction = bundle.predict(["a.skeleton", "b.skeleton"])
            prediction.labels, prediction.probabilities.max(1)
        """
        answers = list(self.predict_each(clips, of=of, layout=layout, format=format))
        for answer in answers:
            if answer.reason is not None:
                raise InputError(f"{answer.name}: {answer.reason}")
        if not answers:
            raise InputError("clips: expected at least one, found none")
        probabilities = None
        if self.chosen(of) is not None:
            probabilities = np.stack([answer.probabilities for answer in answers])
        return Prediction(
            names=tuple(answer.name for answer in answers),
            classes=self.classes,
            labels=None if probabilities is None else tuple(self.classes[i] for i in probabilities.argmax(1)),
            probabilities=probabilities,
            features=np.stack([answer.features for answer in answers]),
        )

    def predict_each(
        self,
        clips: Source | Iterable[Source],
        *,
        of: str | None = None,
        layout: str | Layout | None = None,
        format: str | None = None,
    ) -> Iterator[Answer]:
        """Yield the `Answer` to each clip in order, with the reason where one cannot be used.

        Args:
            clips, of, layout, format: see `predict`.

        Raises InputError for a set, layout or format that there is not.

        Example:
            for answer in bundle.predict_each("raw/"):
                print(answer.name, answer.reason or answer.probabilities.argmax())
        """
        yield from self.answer(named_clips(clips, format, self.layout(layout)), of=of, layout=layout)

    def answer(
        self,
        named: Iterable[Named],
        *,
        of: str | None = None,
        layout: str | Layout | None = None,
    ) -> Iterator[Answer]:
        """Yield the `Answer` to each (name, raw clip or `Skipped`), computed some clips at a time.

        Args:
            named: what is asked about.
            of, layout: see `predict`.
        """
        name, source, waiting = self.chosen(of), layout and find_layout(layout), iter(named)
        while several := list(islice(waiting, BATCH)):
            yield from self._answers(several, name, source)

    def layout(self, layout: str | Layout | None = None) -> Layout:
        """Find the layout of clips: this one, or the model's. Raises InputError for one that there is not."""
        return find_layout(layout or self.description.layout)

    def _answers(self, named, of, layout):
        raws = [self._raw(raw, layout) for _, raw in named]
        done = iter(
            preprocess_clips(
                [raw for raw in raws if not isinstance(raw, Clip | Skipped)],
                layout=self.description.layout,
                preprocessing=self._preprocessing,
            )
        )
        results = [raw if isinstance(raw, Clip | Skipped) else next(done) for raw in raws]
        usable = [one for one in results if not isinstance(one, Skipped)]
        found = iter(self._compute(usable, of) if usable else ())
        for (name, _), result in zip(named, results, strict=True):
            if isinstance(result, Skipped):
                yield Answer(name, reason=result.reason)
            else:
                yield Answer(name, *next(found))

    def _raw(self, raw, layout):
        """A clip in the model's layout, or why there is none; `layout` is its own, where that is said."""
        if isinstance(raw, Skipped):
            return raw
        known, wrapped = self.description.layout, isinstance(raw, RawClip | Clip)
        said = raw.layout if isinstance(raw, RawClip) else None
        layout = layout or (find_layout(said) if said else known)
        clip = raw.coordinates if wrapped else raw
        if isinstance(raw, Clip) and clip.shape[1] != self._preprocessing.frames:
            return Skipped(
                f"expected {self._preprocessing.frames} frames of a clip that was prepared already, as the "
                f"frame count beside it says, found {clip.shape[1]}; raw clips have none there"
            )
        if layout == known:
            return raw
        try:
            clip = convert(clip, layout, known)
        except ValueError as error:
            return Skipped.of(error)
        return raw._replace(coordinates=clip) if wrapped else clip

    @torch.no_grad()
    def _compute(self, clips, of):
        """(probabilities or None, features) of each preprocessed clip."""
        fitted = np.stack([_with_bodies(clip.coordinates, self.description.bodies) for clip in clips])
        x = torch.from_numpy(np.ascontiguousarray(fitted, dtype=np.float32)).to(self._device)
        frames = torch.tensor([clip.frames for clip in clips]).to(self._device)
        if of is None:
            features = self.recognizer.features(x, frames).cpu().numpy()
            return [(None, one) for one in features]
        probabilities, features = self.recognizer(x, frames, of)
        return list(zip(probabilities.cpu().numpy(), features.cpu().numpy(), strict=True))

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write the bundle as a folder: model.safetensors, config.json, README.md.

        Example:
            ikem_fast.load("runs/teacher").save("for_the_robot")
        """
        return write_bundle(folder, self.recognizer, self.description)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        message: str | None = None,
    ) -> str:
        """Upload the bundle to the Hugging Face hub, and return the address of the commit.

        Args:
            repo_id: "user/name"; made where there is none.
            private: whether a new one is private; as the account has it, if not given.
            token: of the account; the one that is logged in, if not given.
            message: of the commit.

        Raises InputError where huggingface_hub is not installed; whatever that raises where the hub refuses.

        Example:
            ikem_fast.load("runs/teacher").push_to_hub("someone/ikem-utd-mhad")
        """
        from ikem_fast.predict.hub import push

        return push(self.save, repo_id, private=private, token=token, message=message)

    @classmethod
    def from_pretrained(
        cls, repo_id: str, *, revision: str | None = None, token: str | None = None
    ) -> "Bundle":
        """Download a bundle from the Hugging Face hub, once, and open it.

        Args:
            repo_id: "user/name".
            revision: a branch, tag or commit.
            token: of the account; the one that is logged in, if not given.

        Raises InputError where huggingface_hub is not installed, or what was downloaded is no bundle.

        Example:
            Bundle.from_pretrained("someone/ikem-utd-mhad").predict("clip.skeleton").labels
        """
        from ikem_fast.predict.hub import pull

        return load(pull(repo_id, revision=revision, token=token))


def load(path: str | PathLike[str]) -> Bundle:
    """Open what answers for clips: a bundle, the folder of an evaluation or of a run, or a checkpoint.

    Of a run's folder, the bundle that `ikem-fast evaluate linear` left last, in it or one folder below; where
    there is none, the checkpoint's encoders, which give features and no labels.

    Raises InputError where there is nothing of the kind, or it cannot be used.

    Example:
        ikem_fast.load("runs/teacher").predict("clip.skeleton").labels
    """
    path = Path(path)
    if (path / CONFIG).is_file():
        return Bundle(*read_bundle(path), path)
    bundles = [file.parent for below in ("", "*/") for file in path.glob(f"{below}{FOLDER}/{CONFIG}")]
    if bundles:
        latest = max(bundles, key=lambda folder: (folder / CONFIG).stat().st_mtime_ns)
        return Bundle(*read_bundle(latest), latest)
    if path.is_file() or (path / NAME).is_file():
        return _of_checkpoint(path)
    raise InputError(
        f"{printable(path)}: expected a bundle, a run's folder or a checkpoint, found neither {CONFIG} nor "
        f"{NAME} there"
    )


def _with_bodies(clip, bodies):
    """(3,T,V,M) with M = bodies: those beyond are left out, missing ones are zero."""
    return np.pad(clip, [(0, 0)] * 3 + [(0, max(bodies - clip.shape[3], 0))])[..., :bodies]


def _of_checkpoint(path):
    state = load_checkpoint(path)
    encoders = stored_encoders(state, path)
    for encoder in encoders.values():
        encoder.fc = torch.nn.Identity()
    dataset, shape = state["dataset"], state["dataset"].get("shape")
    layout = trained_layout(state, path)
    description = Description(
        dataset=str(dataset.get("name", "")),
        layout=layout,
        bodies=stored_bodies(state, path),
        frames=shape[1] if shape else FRAMES,
        classes=(),
        modalities=tuple(encoders),
        model=ModelConfig.of(state["model_config"]),
        training={name: state[name] for name in ("kind", "epoch")},
    )
    return Bundle(Recognizer(encoders, layout, {}), description, path)
