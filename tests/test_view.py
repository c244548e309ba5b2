"""`ikem-fast view` shows clips of files and folders, in every form, and says what it cannot show."""

import json

import numpy as np
import pytest
from PIL import Image

from ikem_fast.cli import main
from ikem_fast.data import FORMATS, open_dataset
from tests.pages import scripts_and_links


def data_of(page):
    return json.loads(scripts_and_links(page.read_text(encoding="utf-8"))[0][0])


def write_ucla(folder, frames=6):
    points = np.random.default_rng(0).normal(size=(frames, 20, 3)).round(3).tolist()
    path = folder / "a01_s01_e00_v01.json"
    path.write_text(json.dumps({"skeletons": points}))
    return path


def test_a_page_of_a_prepared_clip_has_six_modalities(tiny_dataset, tmp_path, capsys):
    assert main(["view", str(tiny_dataset), "--index", "2", "--out", str(tmp_path / "a.html")]) == 0
    (clip,) = data_of(tmp_path / "a.html")["clips"]
    assert [panel["title"] for panel in clip["panels"]] == [
        "joint", "motion", "bone", "acceleration", "rotation axis", "angular velocity",
    ]  # fmt: skip
    assert capsys.readouterr().out == f"{tmp_path / 'a.html'}\n"


def test_a_raw_file_and_a_folder_share_a_page(tiny_dataset, tmp_path):
    raw = write_ucla(tmp_path)
    assert main(["view", str(raw), str(tiny_dataset), "--out", str(tmp_path / "a.html")]) == 0
    names = [clip["name"] for clip in data_of(tmp_path / "a.html")["clips"]]
    assert names[0] == "a01_s01_e00_v01" and len(names) == 2


@pytest.mark.parametrize("name", ["arrays", "crossclr", "pyskl"])
def test_what_was_written_shows_the_clip_that_it_is(name, tiny_dataset, tmp_path):
    """It is prepared already: its true frame count, which scales derivatives, is in it or beside it."""
    dataset = open_dataset(tiny_dataset)
    (tmp_path / "plain").mkdir()
    FORMATS[name].write(dataset, tmp_path / "plain")
    split, first = dataset["test"], 0
    if name == "arrays":
        file = tmp_path / "plain" / "test" / f"{split.names[0]}.npy"
    elif name == "crossclr":
        file = tmp_path / "plain" / "val_position.npy"
    else:
        (file,), first = (tmp_path / "plain").glob("*.pkl"), len(dataset["train"])
    words = ["view", str(file), "--layout", dataset.layout, "--index", str(first)]
    assert main([*words, "--out", str(tmp_path / "a.html")]) == 0
    folder = ["view", str(tiny_dataset), "--split", "test", "--index", "0"]
    assert main([*folder, "--out", str(tmp_path / "b.html")]) == 0
    (shown,), (wanted,) = (data_of(tmp_path / page)["clips"] for page in ("a.html", "b.html"))
    assert shown["panels"] == wanted["panels"]


def test_augmented_views_show_each_augmentation_and_all(tiny_dataset, tmp_path):
    words = ["--augmentations", "[{name: shear, amplitude: 1.0}, {name: flip, probability: 0.5}]"]
    assert main(["view", str(tiny_dataset), *words, "--out", str(tmp_path / "a.html")]) == 0
    panels = data_of(tmp_path / "a.html")["clips"][0]["panels"]
    assert [panel["title"] for panel in panels] == ["the clip", "shear", "flip", "view 1", "view 2"]
    assert len({panel["points"]["data"] for panel in panels}) >= 4


def test_a_seed_gives_the_same_views_again(tiny_dataset, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = ["--out", str(tmp_path / f"{name}.html"), "--seed", str(seed)]
        assert main(["view", str(tiny_dataset), "--augmented", *out]) == 0
    pages = {name: data_of(tmp_path / f"{name}.html") for name in "abc"}
    assert pages["a"] == pages["b"] != pages["c"]


def test_a_strip_is_an_image(tmp_path):
    assert main(["view", str(write_ucla(tmp_path)), "--out", str(tmp_path / "a.png")]) == 0
    assert Image.open(tmp_path / "a.png").height == 56 + 6 * 200


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "expected a file with a clip, or a prepared folder"),
        (["{data}", "--out", "a.jpeg"], "expected a name ending in .html, .gif, .mp4, .png"),
        (["{data}", "--index", "999"], "expected an index below"),
        (["{data}", "--split", "validation"], "expected a split among"),
        (["{data}", "{data}", "--out", "a.gif"], "expected one, or several for an .html"),
        (["{raw}", "--index", "1"], "expected more than 1 clips"),
        (["{raw}", "--layout", "octopus"], "layout: expected one of"),
        (["{raw}", "--layout", "sbu"], "for layout sbu, found"),
        (["{other}"], "expected clips of one of"),
    ],
)
def test_what_cannot_be_shown_is_named(tiny_dataset, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.txt").write_text("nothing")
    paths = {"data": tiny_dataset, "raw": write_ucla(tmp_path), "other": tmp_path / "other.txt"}
    assert main(["view", *(word.format(**paths) for word in words)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("a.*")) and not (tmp_path / "view.html").exists()
