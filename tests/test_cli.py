"""The command line: every command end to end on tiny data, and what wrong usage says."""

import subprocess
import sys

import pytest

from ikem_fast import cli
from ikem_fast.configs import read_section, shipped_configs
from ikem_fast.errors import InputError
from ikem_fast.train import load_checkpoint


def run(capsys, *words):
    status = cli.main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


TINY = (
    "--epochs", 2, "--batch-size", 8, "--lr", 0.05, "--device", "cpu",
)  # fmt: skip
TINY_MODEL = (
    "--model.feature-dim", 8, "--model.queue-size", 16, "--model.hidden-channels", 4, "--model.hidden-dim=12",
)  # fmt: skip


def test_the_whole_way(tmp_path, capsys):
    data, teacher, student = tmp_path / "data", tmp_path / "teacher", tmp_path / "student"
    steps = (
        ("prepare", "synthetic", "--out", data, "--clips-per-class", 3),
        ("pretrain", "--data", data, "--out", teacher, "--exchange-from", 2, *TINY, *TINY_MODEL),
        ("pretrain", "--data", data, "--out", teacher, "--exchange-from", 2, *TINY, *TINY_MODEL, "--resume"),
        ("distill", "--data", data, "--teacher", teacher, "--out", student, *TINY, "--amp"),
        ("evaluate", "knn", "--data", data, "--checkpoint", student, "--out", student, "--k", 3),
        ("evaluate", "linear", "--data", data, "--checkpoint", student, "--out", student, "--epochs", 2),
    )
    for step in steps:
        status, out, err = run(capsys, *step)
        assert status == 0, (step, out, err)
    assert "joint + motion + bone" in out and "top-1" in out
    for name in ("knn.json", "linear.json", "linear.png"):
        assert (student / name).is_file()
    assert load_checkpoint(student)["config"]["amp"] is True


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command_has_options_and_an_example(name, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main([*name.split(), "--help"])
    out = capsys.readouterr().out
    assert exit_.value.code == 0
    assert f"example: ikem-fast {name}" in " ".join(out.split())
    assert "_" not in "".join(word for word in out.split() if word.startswith("--"))


@pytest.mark.parametrize("name", [name for name, command in cli.COMMANDS.items() if command.section])
def test_examples_are_valid_commands(name):
    command = cli.COMMANDS[name]
    settings = cli._named(command.settings)
    words = command.example.split()[1 + len(name.split()) :]
    parser = cli._parser(name, command, settings)
    parser.parse_args(cli._normalised(words, settings))


@pytest.mark.parametrize("config", shipped_configs())
@pytest.mark.parametrize("name", ["pretrain", "distill", "evaluate linear"])
def test_shipped_configurations_fill_the_settings(config, name):
    command = cli.COMMANDS[name]
    settings = cli._named(command.settings)
    parser = cli._parser(name, command, settings)
    required = {"pretrain": "--data d --out o", "distill": "--data d --out o --teacher t",
                "evaluate linear": "--data d --out o --checkpoint c"}[name]  # fmt: skip
    parsed = parser.parse_args(["--config", config, *required.split()])
    section = read_section(config, command.section)
    assert name == "evaluate linear" or section, f"{config} has no settings for {name}"
    for key, value in section.items():
        if not isinstance(value, dict | list):
            assert parsed[key] == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected a command"),
        (["train"], "found 'train'"),
        (["prepare"], "prepare ntu"),
        (["prepare", "ntu90"], "found 'prepare ntu90'"),
        (["pretrain"], "required: data, out"),
        (["pretrain", "--data", "d", "--out", "o", "--epochs", "ten"], "epochs"),
        (["pretrain", "--data", "d", "--out", "o", "--epoch", "3"], "epoch"),
        (["pretrain", "--data", "d", "--out", "o", "--config", "nope"], "ntu60_xsub"),
        (["pretrain", "--data", "nowhere", "--out", "o"], "nowhere: expected a prepared dataset"),
        (["distill", "--data", "d", "--out", "o", "--teacher", "t"], "d: expected a prepared dataset"),
        (["evaluate", "linear", "--data", "d", "--checkpoint", "c", "--out", "o"], "d: expected"),
        (["evaluate", "knn", "--data", "d", "--checkpoint", "c", "--out", "o"], "d: expected"),
        (["prepare", "npz", "--file", "no.npz", "--layout", "sbu", "--train", "a=1", "--out", "o"], "no.npz"),
        (["prepare", "ntu", "--skeletons", "no", "--protocol", "ntu60-xsub", "--out", "o"], "no"),
        (["prepare", "ntu", "--skeletons", "no", "--protocol", "ntu90", "--out", "o"], "ntu60-xsub"),
    ],
)
def test_wrong_usage_is_one_message_and_status_2(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *words)
    assert status == 2
    assert message in err and err.startswith("ikem-fast: ") and err.count("\n") == 1, err
    assert not out
    assert not list(tmp_path.iterdir()), "something was left behind"


def test_debug_shows_the_traceback():
    with pytest.raises(InputError):
        cli.main(["--debug", "pretrain", "--data", "nowhere", "--out", "o"])


def test_ctrl_c_is_one_message(monkeypatch, capsys):
    def interrupt(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_dispatch", interrupt)
    status, _, err = run(capsys, "doctor")
    assert status == 130 and "stopped" in err and "Traceback" not in err


@pytest.mark.parametrize("content", ["pretrain: [1, 2]", "pretrain: {epochs: 3", "surprise: {}", "\x00"])
def test_a_bad_configuration_file_is_named(content, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    status, _, err = run(capsys, "pretrain", "--config", path, "--data", "d", "--out", "o")
    assert status == 2 and "mine.yaml" in err


def test_the_users_own_configuration_and_overrides(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("pretrain: {epochs: 7, lr: 0.5, model: {queue_size: 99}}")
    command = cli.COMMANDS["pretrain"]
    settings = cli._named(command.settings)
    parser = cli._parser("pretrain", command, settings)
    words = f"--config {path} --data d --out o --lr 0.25 --no-such"
    with pytest.raises(InputError, match=r"no.such"):
        parser.parse_args(words.split())
    parsed = parser.instantiate(parser.parse_args(words.removesuffix(" --no-such").split()))
    assert (parsed["epochs"], parsed["lr"], parsed["model"].queue_size) == (7, 0.25, 99)
    assert parsed["model"].hidden_dim == 256


def test_doctor_says_what_is_active(capsys):
    status, out, _ = run(capsys, "doctor")
    assert status == 0
    for word in ("torch", "triton", "derive_modalities", "bank losses", "skeleton reader"):
        assert word in out


def test_import_needs_torch_and_numpy_alone():
    code = (
        "import sys, ikem_fast, ikem_fast.ops, ikem_fast.nn, ikem_fast.data, ikem_fast.augment\n"
        "heavy = {'rich', 'jsonargparse', 'matplotlib', 'scipy', 'tensorboard', 'yaml'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
