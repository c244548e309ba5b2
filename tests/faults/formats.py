"""Preparing the smallest files of every format, by the command line."""

from ikem_fast.data import FORMATS
from tests.data.test_formats import MAKERS

MARKERS = "name: markers\njoints: [A, B]\nparents: [-1, A]\n"
OPTIONS = {
    "ntu": ("--protocol", "ntu60-xsub"), "npz": ("--layout", "kinect-v1", "--train", "ratio=0.8"),
    "arrays": ("--layout", "kinect-v1"), "crossclr": ("--lengths", "90"),
}  # fmt: skip


def sources(name, folder):
    """Make the smallest files of a format below a new folder, and return where they are."""
    raw = folder / "raw"
    where = raw / "walk" if name == "c3d" else raw  # a class is the folder, where no name says it
    where.mkdir(parents=True)
    MAKERS[name](where)
    return raw


def path_of(name, raw):
    """What `--source` takes of them: the one file of formats that are one, or the folder."""
    files = sorted(path for path in raw.rglob("*") if path.is_file())
    return files[0] if name in ("npz", "ctrgcn", "pyskl") else raw


def prepare_words(name, raw, out):
    """Words of the command line that prepares them."""
    options = OPTIONS.get(name, ())
    if name == "c3d":
        layout = raw.parent / "markers.yaml"
        layout.write_text(MARKERS)
        options = ("--layout", layout, "--align", "none")
    words = ["prepare", name, "--source", path_of(name, raw), "--out", out, *options]
    takes_workers = "workers" in FORMATS[name].prepare.__annotations__
    return [*map(str, words), *(["--workers", "1"] if takes_workers else [])]
