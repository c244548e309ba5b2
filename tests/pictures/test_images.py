"""Images are what they should be, in size, in frames, and in what is drawn."""

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from ikem_fast.errors import InputError
from ikem_fast.pictures import THEMES, body_panel, write_gif, write_mp4, write_strip

CLIP = np.zeros((3, 4, 25, 2), np.float32)
CLIP[0, :, :, 0] = np.linspace(-0.3, 0.3, 25)
CLIP[1, :, :, 0] = np.cos(np.arange(25)) + np.arange(4)[:, None] * 0.01
PANELS = [body_panel(CLIP, "ntu-rgb+d", title=f"panel {i}", caption="of <four>") for i in range(3)]


def inked(image, color, near=40):
    """How many pixels are nearly of a color."""
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(np.asarray(image.convert("RGB"), int) - wanted).max(-1) < near).sum())


@pytest.mark.parametrize("theme", THEMES)
def test_a_gif_plays_every_frame_for_ever(tmp_path, theme):
    write_gif(PANELS, tmp_path / "a.gif", title="waving", theme=theme)
    image = Image.open(tmp_path / "a.gif")
    assert image.n_frames == 4 and image.info["loop"] == 0
    colors = THEMES[theme]
    assert inked(image, colors.panel, 3) > image.width * image.height / 2
    for side in (1, 2):  # left and right
        assert inked(image, colors.sides[side]) > 100


def test_frames_differ_where_bodies_move(tmp_path):
    write_gif(PANELS, tmp_path / "a.gif")
    image = Image.open(tmp_path / "a.gif")
    frames = []
    for i in range(2):
        image.seek(i)
        frames.append(np.asarray(image.convert("RGB"), int))
    assert (frames[0] != frames[1]).any()


def test_a_strip_has_a_row_for_each_panel(tmp_path):
    write_strip(PANELS, tmp_path / "a.png", title="waving", count=3)
    image = Image.open(tmp_path / "a.png")
    assert image.size == (150 + 3 * 200, 56 + 3 * 200)
    rows = [image.crop((150, 56 + 200 * row, image.width, 256 + 200 * row)) for row in range(3)]
    assert all(inked(row, THEMES["light"].sides[1]) > 50 for row in rows)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")
def test_a_film_has_every_frame(tmp_path):
    write_mp4(PANELS, tmp_path / "a.mp4")
    probe = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames,codec_type"]
    told = subprocess.run([*probe, str(tmp_path / "a.mp4")], capture_output=True, text=True, check=True)
    assert "nb_read_frames=4" in told.stdout and "codec_type=video" in told.stdout


def test_without_ffmpeg_a_film_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="expected ffmpeg"):
        write_mp4(PANELS, tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())
