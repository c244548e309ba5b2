"""What `prepare` warns of, leaves out, repairs and leaves behind, whatever the format."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ikem_fast.data import preprocess_clip
from ikem_fast.data.formats.npz import prepare_npz
from ikem_fast.data.formats.nw_ucla import prepare_nw_ucla
from ikem_fast.data.preparation import Preparation, Preprocessing, preparing
from ikem_fast.errors import InputError


def packed(path, clips=8, scale=1.0, **changes):
    """Clips of 12 frames, 20 joints."""
    x = scale * np.random.default_rng(0).normal(size=(12 * clips, 20, 3)).astype(np.float32)
    entries = {"x": x, "len": np.full(clips, 12), "y": np.arange(clips) % 4, "subject": np.arange(clips) // 4}
    np.savez(path, **(entries | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"y": np.arange(8) % 4 + 1}, "1 of 5 classes have no clip: 0; labels .* found are 1 … 4\n"),
        (
            {"y": np.arange(8) % 4 * 3},
            "6 of 10 classes have no clip: 1, 2, 4 and 3 more; .* 0, 3, 6, 9\n",
        ),
        ({"scale": 400.0}, r"the farthest joint lies \d{4} from the root .* pixels or millimetres"),
        ({"scale": 9e7}, r"the farthest joint lies .*e\+08 from the root"),
        ({"scale": 1e-3}, r"the farthest joint lies 0\.00\d+ from the root"),
        ({"subject": np.zeros(8, int)}, "there is no clip in test\n"),
    ],
)
def test_warnings(tmp_path, capsys, changes, warning):
    prepare_npz(tmp_path / "out", packed(tmp_path / "a.npz", **changes), "utd-mhad", "subject=0")
    lines = capsys.readouterr().err.splitlines(keepends=True)
    assert len(lines) == 1 and re.match(f"warning: {warning}", lines[0])


def test_a_name_that_does_not_print(tmp_path):
    dataset = prepare_npz(tmp_path / "out", packed(tmp_path / "\x1b[2J.npz"), "utd-mhad", "subject=0")
    assert dataset.name == r"\x1b[2J" and dataset["train"].names[0] == r"\x1b[2J-0"


def test_nothing_to_warn_of(tmp_path, capsys):
    prepare_npz(tmp_path / "out", packed(tmp_path / "a.npz"), "utd-mhad", "subject=0")
    assert capsys.readouterr().err == ""


def test_damaged_frames_are_left_out_or_interpolated(tmp_path, capsys):
    path = packed(tmp_path / "a.npz")
    x = np.load(path)["x"]
    x[17, 3] = np.nan  # frame 5 of clip 1
    packed(path, x=x)
    left_out = prepare_npz(tmp_path / "a", path, "utd-mhad", "subject=0")
    assert [name for name, _ in left_out.skipped] == ["a-1"] and "in frame 5" in left_out.skipped[0][1]
    printed = capsys.readouterr()
    assert "warning: 1 of 8 clips were left out:\n  a-1: expected coordinates" in printed.err
    assert (printed.out + printed.err).count("a-1") == 1, "told once"
    with preparing(Preparation(Preprocessing(damaged="interpolate"))):
        repaired = prepare_npz(tmp_path / "b", path, "utd-mhad", "subject=0")
    x[17, 3] = (x[16, 3] + x[18, 3]) / 2
    expected = preprocess_clip(x[12:24].transpose(2, 0, 1)[..., None], layout="utd-mhad")
    np.testing.assert_allclose(repaired["train"].clips[1], expected, atol=1e-5)
    assert repaired.skipped == () and repaired.prepared["damaged"] == "interpolate"


def test_many_clips_left_out_are_told_in_part(tmp_path, capsys):
    path = packed(tmp_path / "a.npz", clips=80, subject=np.arange(80) % 2)
    x = np.load(path)["x"].reshape(80, 12, 20, 3)
    x[::2] = np.nan
    packed(path, clips=80, subject=np.arange(80) % 2, x=x[:70].reshape(-1, 20, 3), len=[12] * 70 + [0] * 10)
    with pytest.raises(InputError, match="found 35 of 80"):
        prepare_npz(tmp_path / "out", path, "utd-mhad", "subject=0,1")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "warning: 45 of 80 clips were left out:" and lines[1].startswith("  a-00: expected ")
    assert lines[21] == f"  … and 25 more, listed in {tmp_path / 'out' / 'dataset.json'}"


def test_foreign_files_leave_nothing_behind(shared, tmp_path):
    with pytest.raises(
        InputError, match=r"expected a name such as a01_s01_e00_v01\.json, .* none of the 2 files"
    ):
        prepare_nw_ucla(tmp_path / "out", shared / "faults" / "openpose_json")
    assert not any(tmp_path.iterdir())


def test_no_usable_clip_is_no_dataset(tmp_path):
    (tmp_path / "in").mkdir()
    for view in (1, 3):
        (tmp_path / "in" / f"a01_s01_e00_v0{view}.json").write_text('{"skeletons": []}')
    with pytest.raises(
        InputError, match=r"out: expected usable clips, found none among 2: a01_s01_e00_v01: "
    ):
        prepare_nw_ucla(tmp_path / "out", tmp_path / "in")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_importing_is_cheap():
    """Only the command that needs them imports the libraries that are not the point."""
    code = "import sys, ikem_fast.data; print({'scipy', 'rich', 'jsonargparse', 'torch'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "set()"
