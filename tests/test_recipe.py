"""The recipe that training takes where none is named."""

from pathlib import Path

import pytest

from ikem_fast.cli import all_commands, main
from ikem_fast.cli import recipe as recipe_module
from ikem_fast.cli.recipe import with_recipe
from ikem_fast.configs import read_section
from ikem_fast.train import load_checkpoint

TINY = str(Path(__file__).parent / "version1" / "data")
WORDS = ["--out", "run", "--data", TINY]


@pytest.mark.parametrize(("clips", "name"), [(9_999, "small"), (10_000, "ntu")])
@pytest.mark.parametrize("command", ["pretrain", "distill"])
def test_the_number_of_training_clips_decides(command, clips, name, monkeypatch, capsys):
    dataset = {"train": range(clips)}
    monkeypatch.setattr(recipe_module, "open_dataset", lambda folder: dataset)
    assert with_recipe(all_commands()[command], WORDS) == ["--config", name, *WORDS]
    assert capsys.readouterr().out.startswith(f"recipe: {name} ({clips} training clips")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("pretrain", ["--config", "ntu", *WORDS]),
        ("pretrain", [*WORDS, "--config=demo"]),
        ("pretrain", ["--out", "run", "--data", "nowhere"]),
        ("pretrain", ["--help"]),
        ("pretrain", []),
        ("evaluate linear", [*WORDS, "--checkpoint", "run"]),
    ],
)
def test_what_is_named_or_not_trained_or_not_there_has_no_recipe(command, words, capsys):
    assert with_recipe(all_commands()[command], words) == words
    assert not capsys.readouterr().out


def test_only_the_first_of_several_processes_says_it(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert with_recipe(all_commands()["pretrain"], WORDS)[1] == "small"
    assert not capsys.readouterr().out


def test_the_whole_recipe_is_taken_options_come_on_top_and_the_first_line_says_so(tmp_path, capsys):
    """The students' too, from the first line on: with nothing but sizes that take a second."""
    small = ["--max-steps", "1", "--batch-size", "2", "--device", "cpu"]
    model = [
        "--model.queue-size",
        "8",
        "--model.hidden-channels",
        "4",
        "--model.modalities",
        "[joint,motion]",
    ]
    teacher, student = (str(tmp_path / name) for name in ("teacher", "student"))
    assert main(["pretrain", "--data", TINY, "--out", teacher, *small, *model]) == 0
    assert (
        main(
            [
                "distill",
                "--data",
                TINY,
                "--teacher",
                teacher,
                "--out",
                student,
                "--students",
                "[motion]",
                *small,
            ]
        )
        == 0
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("recipe")]
    assert lines == ["recipe: small (4 training clips, fewer than 10000); --config takes another"] * 2
    for folder, section in ((teacher, "pretrain"), (student, "distill")):
        config, recipe = load_checkpoint(folder)["config"], read_section("small", section)
        assert (config["max_steps"], config["batch_size"]) == (1, 2)
        assert (config["optimizer"], config["lr"]) == (recipe["optimizer"], recipe["lr"])
