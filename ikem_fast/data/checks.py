"""What prepared clips look like that are not what they are taken for: the mistakes that users really make.

Each check says what it found once, with counts, examples and what to do, or nothing. Bodies are judged by a
sample of clips; joints are known by their names, so that a layout whose names say nothing is judged less.
"""

import re
from collections.abc import Iterator

import numpy as np

from ikem_fast.data.dataset import Dataset, digests
from ikem_fast.errors import printable
from ikem_fast.skeleton import Layout, get_layout, layout_names
from ikem_fast.skeleton.correspondence import common_names

EXAMPLES = 3
MEASURED = 200  # clips that are looked at
FEW = 4  # clips by fewer of which nothing is judged
BODY_REACH = (0.05, 20.0)  # meters, from the root to the farthest joint: about 1, wherever the root is
MILLIMETERS = (100.0, 5000.0)  # the same
MOST = 0.8  # of the clips must look so
FAR = 6.0  # bones of the median length: a joint that lies so far from its parent was not there
SHORTER = 0.7  # bones of another layout of as many joints must be, where they differ, to be suspected

_HIGH = ("head", "neck", "shoulder centre", "left shoulder", "right shoulder")
_LOW = (
    "left foot",
    "right foot",
    "left ankle",
    "right ankle",
    "left knee",
    "right knee",
    "pelvis",
    "left hip",
)
_AHEAD = (  # joint → what it is ahead of on a body, whichever way that looks
    ("left foot", ("left ankle",)), ("right foot", ("right ankle",)),
    ("left big toe", ("left ankle",)), ("right big toe", ("right ankle",)),
    ("left knee", ("left hip", "left ankle")), ("right knee", ("right hip", "right ankle")),
)  # fmt: skip


def examples(items: list[str]) -> str:
    """Show the first few of some texts, and how many more there are."""
    rest = len(items) - EXAMPLES
    return ", ".join(items[:EXAMPLES]) + (f" and {rest} more" if rest > 0 else "")


def doubts_about(dataset: Dataset) -> Iterator[str]:
    """Yield what a prepared dataset's clips should be looked at for, each with what was found.

    Example:
        list(doubts_about(open_dataset("data/own")))  # ["y points down: …"]
    """
    names, clips = _sample(dataset)
    if len(clips):
        yield from _units(clips)
        if len(clips) >= FEW and not dataset.preprocessing.planar:
            yield from _upright(clips, dataset.skeleton)
            yield from _mirrored(clips, dataset.skeleton)
        yield from _another_layout(clips, dataset.skeleton)
        yield from _lost_joints(names, clips, dataset.skeleton)
    yield from _still(names, clips)
    yield from _duplicates(dataset)
    yield from _subjects_in_both(dataset)


def _sample(dataset: Dataset) -> tuple[list[str], np.ndarray]:
    """Names and first bodies (n,3,T,V) of clips that are spread evenly over the splits."""
    splits = [split for split in dataset.splits.values() if len(split)]
    share = -(-MEASURED // max(len(splits), 1))
    names, clips = [], []
    for split in splits:
        for place in np.unique(np.linspace(0, len(split) - 1, share).astype(int)):
            names.append(printable(split.names[place]))
            clips.append(np.array(split.clips[place][..., 0]))
    return names, np.array(clips)


def _units(clips: np.ndarray) -> Iterator[str]:
    reach = float(np.median(np.abs(clips).max(axis=(1, 2, 3))))
    if BODY_REACH[0] <= reach <= BODY_REACH[1]:
        return
    guess = "; millimeters become meters by --scale 0.001" if MILLIMETERS[0] < reach < MILLIMETERS[1] else ""
    yield (
        f"the farthest joint lies {reach:.4g} from the root (median over clips), expected about 1, in "
        "metres; coordinates in pixels or millimetres are kept as they are, but the noise of augmentations "
        f"and models trained in metres do not fit them{guess}; --reach 1 brings any unit there"
    )


def _places(layout: Layout) -> dict[str, int]:
    names = common_names(layout)
    return {name: v for v, name in reversed(list(enumerate(names)))}


def _up(clips: np.ndarray, layout: Layout) -> np.ndarray | None:
    """From low joints to high ones, a mean over each clip: (n, 3); None where their names are not known."""
    places = _places(layout)
    high, low = ([places[name] for name in names if name in places] for names in (_HIGH, _LOW))
    if not high or not low:
        return None
    return clips[..., high].mean(axis=(2, 3)) - clips[..., low].mean(axis=(2, 3))


def _upright(clips: np.ndarray, layout: Layout) -> Iterator[str]:
    up = _up(clips, layout)
    if up is None:
        return
    axis = np.abs(up).argmax(axis=1)
    for way, found, remedy in (
        ("y points down, as in images", (axis == 1) & (up[:, 1] < 0), "--up y-down"),
        ("z points up or down, not y", axis == 2, "--up z"),
    ):
        if found.mean() >= MOST:
            yield (
                f"{way}, in {int(found.sum())} of {len(clips)} clips: clips are turned about y, which must "
                f"point up; prepare with {remedy}"
            )


def _mirrored(clips: np.ndarray, layout: Layout) -> Iterator[str]:
    up, places = _up(clips, layout), _places(layout)
    pairs = [
        (places[f"left {part}"], places[f"right {part}"])
        for part in ("shoulder", "hip")
        if f"left {part}" in places and f"right {part}" in places
    ]
    cues = [
        (places[joint], [places[other] for other in others])
        for joint, others in _AHEAD
        if joint in places and all(other in places for other in others)
    ]
    if up is None or not pairs or not cues:
        return
    to_left = sum(clips[..., left] - clips[..., right] for left, right in pairs)  # (n,3,T)
    ahead = np.cross(to_left, np.broadcast_to(up[:, :, None], to_left.shape), axis=1)
    reached = sum(clips[..., joint] - clips[..., others].mean(axis=-1) for joint, others in cues)
    backward = (ahead * reached).sum(axis=1).mean(axis=1) < 0
    if backward.mean() >= MOST:
        yield (
            f"feet and knees point backward in {int(backward.sum())} of {len(clips)} clips: left and right "
            f"are exchanged in layout {layout.name!r}, or one axis of the coordinates is mirrored"
        )


def _bones(clips: np.ndarray, layout: Layout) -> np.ndarray:
    """Median length of each joint's bone over the frames of each clip: (n, V)."""
    bones = clips - clips[..., list(layout.parents)]
    return np.median(np.linalg.norm(bones, axis=1), axis=1)


def _another_layout(clips: np.ndarray, layout: Layout) -> Iterator[str]:
    lengths = {}
    for other in map(get_layout, layout_names()):
        if other.num_joints == layout.num_joints and other.joints != layout.joints:
            moved = [v for v, parent in enumerate(layout.parents) if parent != other.parents[v]]
            moved = [v for v in moved if v not in (*layout.roots, *other.roots)]
            own, their = (_bones(clips, one)[:, moved].sum(axis=1) for one in (layout, other))
            if moved and their.any():
                lengths[other.name] = float(np.median(own / np.maximum(their, 1e-12)))
    best = max(lengths, key=lambda name: lengths[name], default=None)
    if best is not None and SHORTER * lengths[best] > 1:
        yield (
            f"where layouts {layout.name!r} and {best!r} differ, the bones of the first are "
            f"{lengths[best]:.1f} times as long; both have {layout.num_joints} joints: is it {best!r}?"
        )


def _lost_joints(names: list[str], clips: np.ndarray, layout: Layout) -> Iterator[str]:
    bones = _bones(clips, layout)
    children = [v for v in range(layout.num_joints) if v not in layout.roots]
    if not children or clips.shape[2] < 2:
        return
    usual = np.median(bones[:, children])
    local = clips - clips[..., list(layout.parents)]
    still = (np.ptp(local, axis=2) == 0).all(axis=1)  # (n, V)
    moves = ~still[:, children].all(axis=1, keepdims=True)
    for what, found in (
        ("far from where they hang, as joints that are missing (0, 0, 0) are", bones > FAR * usual),
        ("where they hang throughout, as joints that were not tracked are", (bones == 0) & moves),
        ("frozen: they do not move against what they hang on", still & (bones > 0) & moves),
    ):
        joints = [v for v in children if found[:, v].mean() > 0.1]
        if joints:
            places = np.flatnonzero(found[:, joints].any(axis=1))
            yield (
                f"joints are {what}: {examples([layout.joints[v] for v in joints])}, in {len(places)} of "
                f"{len(clips)} clips, such as {examples([names[place] for place in places])}"
            )


def _still(names: list[str], clips: np.ndarray) -> Iterator[str]:
    still = [name for name, clip in zip(names, clips, strict=True) if not np.ptp(clip, axis=1).any()]
    if still and clips.shape[2] > 1:
        yield f"{len(still)} of {len(clips)} clips do not move at all, such as {examples(still)}"


def _duplicates(dataset: Dataset) -> Iterator[str]:
    """Clips whose coordinates are another's, bit for bit."""
    first: dict[bytes, tuple[str, str]] = {}
    twice, across = [], {name: [] for name in dataset.splits}
    for name, split in dataset.splits.items():
        for place, digest in enumerate(digests(split)):
            clip = printable(split.names[place])
            if digest in first:
                twice.append(f"{clip} ({name}) and {first[digest][1]} ({first[digest][0]})")
                if first[digest][0] != name:
                    across[name].append(place)
            else:
                first[digest] = (name, clip)
    if not twice:
        return
    said = f"{len(twice)} clips are there twice"
    if shared := sum(map(len, across.values())):
        said += f", {shared} of them in train and test both"
    yield f"{said}: {examples(twice)}"
    for name, places in across.items():
        yield from _copied_classes(dataset, name, places)


def _copied_classes(dataset: Dataset, name: str, places: list[int]) -> Iterator[str]:
    """Classes all of whose clips in a split are copies of another split's."""
    labels = np.asarray(dataset[name].labels)
    classes = len(dataset.classes)
    there, copied = np.bincount(labels, minlength=classes), np.bincount(labels[places], minlength=classes)
    whole = [printable(dataset.classes[k]) for k in np.flatnonzero((there > 0) & (copied == there))]
    if whole:
        yield (
            f"every {name} clip of {examples(whole)} is a copy of another split's: accuracies of these say "
            "nothing of new clips (evaluate leaves them out by --drop-copies)"
        )


def _subjects_in_both(dataset: Dataset) -> Iterator[str]:
    train, test = (dataset.splits.get(name) for name in ("train", "test"))
    if train is None or test is None or train.subjects is None or test.subjects is None:
        return
    tested = set(test.subjects.tolist())
    both = sorted(tested & set(train.subjects.tolist()))
    rules = " ".join(str(dataset.prepared.get(name) or "") for name in ("protocol", "train", "test"))
    drawn = re.search(r"(ratio|fold|list)=", rules) and "by=subject" not in rules
    other = re.search(r"view|set|camera|trial|episode|replication", rules)
    if both and (drawn or (not other and len(both) < len(tested))):
        yield (
            f"{len(both)} of {len(tested)} test subjects are training subjects, too: "
            f"{examples(list(map(printable, both)))}; accuracies then are not those of new people "
            "(--train ratio=0.8,by=subject keeps people apart)"
        )
