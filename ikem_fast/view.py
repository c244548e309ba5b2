"""Showing a clip: what its encoders see, or what training makes of it, as moving pictures."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch

from ikem_fast import ops
from ikem_fast.augment import Recipe, Shape, named
from ikem_fast.configs import read_section
from ikem_fast.data import open_dataset, preprocess_clips
from ikem_fast.data.dataset import DESCRIPTION
from ikem_fast.data.formats import find_format
from ikem_fast.data.preprocess import Clip, RawClip, Skipped
from ikem_fast.errors import InputError, printable
from ikem_fast.ops.modalities.definitions import derivable
from ikem_fast.pictures import (
    Panel,
    body_panel,
    modality_panels,
    write_gif,
    write_mp4,
    write_page,
    write_strip,
)
from ikem_fast.settings import Allowed, checked
from ikem_fast.skeleton import Layout, find_layout, get_layout, layout_names

WRITERS = {".gif": write_gif, ".mp4": write_mp4, ".png": write_strip}
VIEWS = 2  # of the whole recipe: what a query sees, and what its key sees


class _Shown(NamedTuple):
    """A preprocessed clip: its name, (3,T,V,M) float32, its frames, its layout, whether it is flat."""

    title: str
    coordinates: np.ndarray
    frames: int
    layout: Layout
    planar: bool = False


@checked
def view(
    clips: tuple[Path, ...],
    out: Path = Path("view.html"),
    index: Annotated[int, Allowed(least=0)] = 0,
    split: str = "test",
    layout: str | None = None,
    augmented: bool = False,
    augmentations: tuple[dict[str, Any], ...] | None = None,
    theme: Literal["light", "dark"] = "light",
    seed: Annotated[int, Allowed(least=0, most=2**63 - 1)] = 0,
) -> None:
    """Show clips' six modalities, or augmented views of them, as moving pictures.

    Args:
        clips: Files of any format, or prepared folders; a page shows several, an image one.
        out: What to write, by its ending: .html, to turn and step through; .gif; .mp4, where ffmpeg is; .png,
            a strip of frames.
        index: Which clip of a file or of a split, from 0.
        split: Which split of a prepared folder.
        layout: Joint layout of a raw file, a name or a YAML file, where its format leaves that open.
        augmented: Whether to show what augmentations do, each alone and all together, in place of modalities.
        augmentations: Which they are, as training takes them; those of the recipe for small datasets, if not
            given.
        theme: Colors of an image; a page follows the reader's.
        seed: What augmentations are drawn from.
    """
    if out.suffix not in (*WRITERS, ".html"):
        raise InputError(f"out: expected a name ending in .html, {', '.join(WRITERS)}, found {str(out)!r}")
    if not clips or (len(clips) > 1 and out.suffix != ".html"):
        raise InputError(f"clips: expected one, or several for an .html, found {len(clips)}")
    panels = {}
    for path in map(Path.expanduser, clips):
        prepared = path.is_dir() and (path / DESCRIPTION).is_file()
        shown = _of_dataset(path, split, index) if prepared else _of_file(path, index, layout)
        if augmented or augmentations is not None:
            entries = read_section("small", "pretrain")["augmentations"]
            made = augmented_panels(shown, entries if augmentations is None else augmentations, seed)
        else:
            made = modality_panels(shown.coordinates, _derived(shown), shown.layout)
        panels[shown.title if shown.title not in panels else f"{shown.title} ({path})"] = made
    out.parent.mkdir(parents=True, exist_ok=True)
    title = next(iter(panels))
    if out.suffix == ".html":
        write_page(panels, out, title=title if len(panels) == 1 else f"{len(panels)} clips")
    else:
        WRITERS[out.suffix](panels[title], out, title=title, theme=theme)
    print(out)


def augmented_panels(shown: _Shown, entries: Any, seed: int) -> list[Panel]:
    """Make a panel of the clip, one for each augmentation alone, and one for each view by all of them."""
    _, frames, _, bodies = shown.coordinates.shape
    shape = Shape(frames, bodies, shown.layout, shown.planar)
    recipes = [(entry["name"], [{**entry, "probability": 1.0}]) for entry in entries if _is_named(entry)]
    recipes = [(name.replace("_", " "), "alone", one) for name, one in recipes]
    recipes += [(f"view {number}", "all of them", list(entries)) for number in range(1, VIEWS + 1)]
    source = torch.Generator().manual_seed(seed)
    panels = [body_panel(shown.coordinates, shown.layout, title="the clip", caption="as it was prepared")]
    for title, caption, recipe in recipes:
        augmentation = Recipe(named(recipe), shape)
        clips, rest = augmentation.apply(_tensor(shown), augmentation.draw(1, source))
        seen = ops.derive_modalities(
            clips, torch.tensor([shown.frames]), modalities=("joint",), layout=shown.layout, **rest
        )
        panels.append(body_panel(seen[0, 0].numpy(), shown.layout, title=title, caption=caption))
    return panels


def _is_named(entry):
    return isinstance(entry, dict) and isinstance(entry.get("name"), str)


def _tensor(shown):
    return torch.from_numpy(np.array(shown.coordinates))[None]


def _derived(shown):
    modalities = derivable(shown.layout)
    derived = ops.derive_modalities(
        _tensor(shown), torch.tensor([shown.frames]), modalities=modalities, layout=shown.layout
    )
    return dict(zip(modalities, derived[:, 0].numpy(), strict=True))


def _of_dataset(folder, split, index):
    dataset = open_dataset(folder)
    part = dataset[split]
    if index >= len(part):
        raise InputError(f"{folder}: expected an index below {len(part)} in {split}, found {index}")
    title = f"{dataset.classes[part.labels[index]]} · {part.names[index]}"
    clip, frames = np.array(part.clips[index]), int(part.frames[index])
    return _Shown(title, clip, frames, dataset.skeleton, dataset.preprocessing.planar)


def _of_file(path, index, layout):
    if not path.is_file():
        raise InputError(f"{path}: expected a file with a clip, or a prepared folder, found neither")
    format, _ = find_format(path)
    if format.read is None:
        raise InputError(f"{path}: expected a file of clips, found what only ikem-fast prepare reads")
    said = find_layout(layout) if layout and format.needs_layout else None
    raw = next(islice(format.read(path, said) if said else format.read(path), index, None), None)
    if raw is None:
        raise InputError(f"{path}: expected more than {index} clips in it, found fewer; see --index")
    coordinates = raw.coordinates if isinstance(raw, RawClip | Clip) else raw
    skeleton = find_layout(layout or format.layout or _layout_by_size(path, coordinates.shape[2]))
    (clip,) = [raw] if isinstance(raw, Clip) else preprocess_clips([raw], layout=skeleton)
    if isinstance(clip, Skipped):
        raise InputError(f"{path}: {clip.reason}")
    return _Shown(printable(path.stem), clip.coordinates, clip.frames, skeleton)


def _layout_by_size(path, joints):
    """The only layout of so many joints."""
    fitting = [name for name in layout_names() if get_layout(name).num_joints == joints]
    if len(fitting) != 1:
        names = ", ".join(fitting or layout_names())
        raise InputError(f"{path}: found {joints} joints; say which layout they are with --layout ({names})")
    return fitting[0]
