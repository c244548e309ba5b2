"""Files of strangers: no code runs, nothing outside is touched, memory and time are bounded, one message."""

import io
import json
import os
import shutil
import zipfile
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from ikem_fast.cli import main
from ikem_fast.data import FORMATS, open_dataset
from ikem_fast.data.formats.pickles import load_pickle
from ikem_fast.data.sources import SourceFile
from ikem_fast.skeleton.files import load_layout
from ikem_fast.train import load_checkpoint
from tests.faults.confined import confined
from tests.faults.formats import prepare_words, sources
from tests.faults.hostile import archives, numbers, programs, settings, texts
from tests.faults.runs import TINY

pytestmark = pytest.mark.skipif(
    not os.path.exists("/proc/self/clear_refs"), reason="Linux alone tells a peak"
)


def of_format(name, folder, spoil):
    """Read and prepare a format's smallest files, of which the first was replaced; yields (case, work)."""
    raw = sources(name, folder / name)
    files = sorted(path for path in raw.rglob("*") if path.is_file())
    for case, content in spoil(files[0].read_bytes()).items():
        here = folder / name / f"case{sha256(case.encode()).hexdigest()[:8]}" / "raw"
        shutil.copytree(raw, here)
        file = here / files[0].relative_to(raw)
        file.write_bytes(content)
        yield f"{name}: {case}", partial(_read_and_prepare, name, here, file)


def _read_and_prepare(name, raw, file):
    status = main(["-q", *prepare_words(name, raw, raw.parent / "out")])
    assert status in (0, 2), status
    for _ in FORMATS[name].read(file):
        pass


def zipped(folder):
    """The same in archives."""
    raw = sources("ntu", folder / "inside")
    (file,) = raw.iterdir()
    for case, content in archives.archives({file.name: file.read_bytes()}, (file.name,)).items():
        here = folder / f"zip{sha256(case.encode()).hexdigest()[:8]}" / "raw"
        here.mkdir(parents=True)
        (here / "a.zip").write_bytes(content)
        argv = ["-q", *prepare_words("ntu", here, here.parent / "out")]
        yield f"zip: {case}", lambda argv=argv: main(argv)


def packed(right):
    with zipfile.ZipFile(io.BytesIO(right)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    found = archives.archives(members, tuple(members))
    for case, content in programs.arrays().items():
        found[f"x {case}"] = archives.zipped({**members, "x.npy": content})
        found[f"y {case}"] = archives.zipped({**members, "y.npy": content})
    return found


KINDS = {  # format → what its files are spoiled by
    name: spoil
    for spoil, names in {
        texts.json_texts: ("nw-ucla", "smarthome", "openpose", "mediapipe", "coco"),
        texts.texts: ("sbu", "msr-action3d", "uav-human", "pku-mmd"),
        texts.skeletons: ("ntu",),
        texts.motions: ("bvh",),
        numbers.matlab: ("utd-mhad",),
        numbers.markers: ("c3d",),
        packed: ("npz",),
        lambda right: programs.arrays(): ("arrays", "agcn", "crossclr"),
        lambda right: programs.pickles(): ("pyskl",),
    }.items()
    for name in names
}


def formats(folder):
    """The whole corpus of clips: every format, by what its files are."""
    return [one for name, spoil in KINDS.items() for one in of_format(name, folder, spoil)]


def others(folder):
    """What is read besides clips."""

    def each(prefix, found, ending, read):
        for number, (case, content) in enumerate(found.items()):
            path = folder / f"{prefix}{number}{ending}"
            path.write_bytes(content)
            yield f"{prefix}: {case}", partial(read, path)

    yield from each("pickle", programs.pickles(), ".pkl", lambda path: load_pickle(SourceFile(path)))
    yield from each("checkpoint", programs.pickles(), ".pt", load_checkpoint)
    inside = {
        case: archives.zipped({"a/data.pkl": content, "a/version": b"3\n", "a/byteorder": b"little"}, 0)
        for case, content in programs.pickles().items()
    }
    yield from each("state", inside, ".pt", load_checkpoint)
    yield from each("layout", settings.layouts(), ".yaml", load_layout)
    run = ["--data", str(TINY), "--out", str(folder / "run"), "--dry-run"]
    yield from each("config", settings.yaml_texts(), ".yml",
                    lambda path: main(["pretrain", "--config", str(path), *run]))  # fmt: skip
    yield from each("dataset", described(), "-dataset.json", partial(opened, folder / "opened"))


def described():
    """Descriptions of prepared folders."""
    right = (TINY / "dataset.json").read_bytes()
    counts = {"large": b"9" * 400, "long": b"9" * 100_000, "list": b"[4]", "infinite": b"1e999"}
    found = {case: right.replace(b'"frames": 4', b'"frames": ' + value) for case, value in counts.items()}
    content = json.loads(right)
    for number, escape in enumerate(programs.ESCAPES):
        entries = {
            "name": escape, "layout": escape, "classes": [escape, "b"], "splits": {escape: 4},
            "skipped": [[escape, escape]],
        }  # fmt: skip
        for entry, value in entries.items():
            found[f"{entry}, escapes {number}"] = json.dumps({**content, entry: value}).encode()
    nested = json.dumps(content).replace('"test"', "[" * 90 + "]" * 90).encode()
    return found | {"deep": b"[" * 200_000, "nested": nested, "NUL": bytes(100)}


def opened(folder, path):
    shutil.copytree(TINY, folder, dirs_exist_ok=True)
    shutil.copy(path, folder / "dataset.json")
    open_dataset(folder)


def survived(tries, folder):
    """What was said of each file; none of them did what it must not."""
    found = dict(confined(tries, folder))
    assert len(found) == len(tries)
    bad = {name: outcome.problem for name, outcome in found.items() if outcome.problem}
    assert not bad, "\n".join(f"{name}: {problem[-700:]}" for name, problem in bad.items())
    assert not Path(programs.MARK).exists()
    return {name.partition(": ")[2]: outcome.said for name, outcome in found.items()}


@pytest.mark.parametrize("name", KINDS)
def test_clips(name, tmp_path):
    """Every sixth of the corpus; `make torture` tries them all."""
    said = survived(list(of_format(name, tmp_path, KINDS[name]))[::6], tmp_path)
    assert sum("expected" in text for text in said.values()) > len(said) // 3


def test_archives(tmp_path):
    said = survived(list(zipped(tmp_path)), tmp_path)
    assert "1 train, 0 test clips" in said["right"] and "1 train" in said["traversal"]
    for case in ("bomb", "bomb that lies", "link", "encrypted", "LZMA", "no directory"):
        assert "expected" in said[case], case


def test_whatever_else_is_read(tmp_path):
    """Every third; `make torture` tries them all."""
    said = survived(list(others(tmp_path))[::3], tmp_path)
    refused = {case: text for case, text in said.items() if case.startswith(("code", "system", "tag"))}
    assert refused and all("expected" in text for text in refused.values())


def test_a_process_that_dies_is_told_of_and_others_are_tried(tmp_path):
    elsewhere = Path("/tmp/ikem-fast-elsewhere")
    elsewhere.unlink(missing_ok=True)
    tries = [
        ("dies", lambda: os.kill(os.getpid(), 9)),
        ("writes", elsewhere.touch),
        ("takes", lambda: bytearray(1 << 33)),
        ("well", lambda: print("read")),
    ]
    found = dict(confined(tries, tmp_path))
    assert found["dies"].said is None and str(elsewhere) in found["writes"].problem
    assert "MemoryError" in found["takes"].problem
    assert (found["well"].said, found["well"].problem) == ("read\n", "")
    elsewhere.unlink()
