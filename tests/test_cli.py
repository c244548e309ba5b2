"""The command line: every command end to end on tiny data, and what wrong usage says."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ikem_fast.cli import all_commands, main, parse
from ikem_fast.cli.following import next_commands
from ikem_fast.cli.index import read_index
from ikem_fast.cli.parser import build_index
from ikem_fast.configs import read_section, shipped_configs
from ikem_fast.data import open_dataset
from ikem_fast.errors import InputError
from ikem_fast.evaluate import PROTOCOLS
from ikem_fast.settings import check
from ikem_fast.train import load_checkpoint
from tests.helpers import run

TINY = (
    "--epochs", 2, "--batch-size", 8, "--lr", 0.05, "--device", "cpu",
)  # fmt: skip
TINY_DEMO = {
    "synthetic": {"clips_per_class": 3, "frames": 10},
    "pretrain": {
        "max_steps": 10, "exchange_from": 0.5, "batch_size": 8,
        "model": {"queue_size": 16, "encoder": {"name": "tcn", "sizes": {"blocks": 1}}},
    },
    "distill": {"max_steps": 4, "batch_size": 8},
}  # fmt: skip
TINY_MODEL = (
    "--model.feature-dim", 8, "--model.queue-size", 16, "--model.hidden-channels", 4, "--model.hidden-dim=12",
)  # fmt: skip


def test_the_whole_way(tmp_path, capsys):
    data, teacher, student = tmp_path / "data", tmp_path / "teacher", tmp_path / "student"
    steps = (
        ("prepare", "synthetic", "--out", data, "--clips-per-class", 3),
        ("pretrain", "--data", data, "--out", teacher, "--exchange-from", 2, *TINY, *TINY_MODEL),
        ("pretrain", "--resume", "--data", data, "--out", teacher, "--exchange-from", 2, *TINY, *TINY_MODEL),
        ("distill", "--data", data, "--teacher", teacher, "--out", student, *TINY, "--amp"),
        ("evaluate", "knn", "--data", data, "--checkpoint", student, "--out", student, "--k", 3),
        ("evaluate", "linear", "--data", data, "--checkpoint", student, "--out", student, "--epochs", 2),
    )
    for step in steps:
        status, out, err = run(capsys, *step)
        assert status == 0, (step, out, err)
    assert "joint+motion+bone" in out and "top-1" in out
    for name in ("knn.json", "linear.json", "linear.png", "linear.npz"):
        assert (student / name).is_file()
    assert load_checkpoint(student)["config"]["amp"] is True


@pytest.mark.parametrize("name", all_commands())
def test_help_of_every_command_has_options_and_an_example(name, capsys):
    assert main([*name.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert f"example: ikem-fast {name}" in " ".join(out.split())
    assert "_" not in "".join(word for word in out.split() if word.startswith("--"))
    assert "--model CONFIG" not in out and "<class" not in out and "Literal" not in out
    assert all(len(line) <= 110 for line in out.splitlines())


@pytest.mark.parametrize("name", all_commands())
def test_examples_are_valid_commands(name):
    command = all_commands()[name]
    parse(command, command.example.split()[1 + len(name.split()) :])


def test_every_protocol_is_a_command():
    names = [name.removeprefix("evaluate ") for name in all_commands() if name.startswith("evaluate ")]
    assert names == list(PROTOCOLS)


REQUIRED = {"pretrain": "--data d --out o", "distill": "--data d --out o --teacher t",
            "evaluate linear": "--data d --out o --checkpoint c"}  # fmt: skip


@pytest.mark.parametrize("config", shipped_configs())
@pytest.mark.parametrize("name", REQUIRED)
def test_shipped_configurations_fill_the_settings(config, name):
    command = all_commands()[name]
    parsed = parse(command, ["--config", config, *REQUIRED[name].split()])
    check(command.settings(**parsed))
    section = read_section(config, command.section)
    assert name == "evaluate linear" or section, f"{config} has no settings for {name}"
    for key, value in section.items():
        if not isinstance(value, dict | list):
            assert parsed[key] == value


def test_every_protocol_of_ntu_has_the_published_recipe():
    for name in ("ntu60_xsub", "ntu60_xview", "ntu120_xsub", "ntu120_xset"):
        assert read_section(name, "pretrain") == read_section("ntu", "pretrain")
        assert read_section(name, "pretrain")["model"]["queue_size"] == 32768


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected a command"),
        (["train"], "found 'train'"),
        (["prepare"], "prepare ntu"),
        (["prepare", "ntu90"], "found 'prepare ntu90'"),
        (["pretrain"], "pretrain: expected --data, --out, found none"),
        (
            ["prepare", "ntu", "--source", "no", "--out", "o"],
            "expected --protocol (ntu60-xsub | ntu60-xview |",
        ),
        (["pretrain", "--data", "d", "--out", "o", "--epochs", "ten"], "epochs"),
        (["pretrain", "--data", "d", "--out", "o", "--epoch", "3"], "epoch"),
        (["pretrain", "--data", "d", "--out", "o", "--config", "nope"], "ntu60_xsub"),
        (["pretrain", "--data", "nowhere", "--out", "o"], "nowhere: expected a prepared dataset"),
        (["distill", "--data", "d", "--out", "o", "--teacher", "t"], "d: expected a prepared dataset"),
        (["evaluate", "linear", "--data", "d", "--checkpoint", "c", "--out", "o"], "d: expected"),
        (["evaluate", "knn", "--data", "d", "--checkpoint", "c", "--out", "o"], "d: expected"),
        (
            ["prepare", "npz", "--source", "no.npz", "--layout", "sbu", "--train", "a=1", "--out", "o"],
            "no.npz",
        ),
        (["prepare", "ntu", "--source", "no", "--protocol", "ntu60-xsub", "--out", "o"], "no"),
        (["prepare", "ntu", "--source", "no", "--protocol", "ntu90", "--out", "o"], "ntu60-xsub"),
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
        main(["--debug", "pretrain", "--data", "nowhere", "--out", "o"])


def test_ctrl_c_is_one_message(tmp_path, capsys, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("ikem_fast.train.tasks.pretrain.open_dataset", interrupt)
    status, _, err = run(capsys, "pretrain", "--data", "d", "--out", tmp_path)
    assert status == 130 and "stopped" in err and "Traceback" not in err


PRETRAIN = ("pretrain", "--data", "d", "--out", "o")
LINEAR = ("evaluate", "linear", "--data", "d", "--checkpoint", "c", "--out", "o")
KNN = ("evaluate", "knn", *LINEAR[2:])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*PRETRAIN, "--batch-size", 0), "batch_size: expected a number ≥ 1"),
        ((*PRETRAIN, "--lr", -1), "lr: expected a number > 0"),
        ((*PRETRAIN, "--lr", "1e6"), "lr: expected a number > 0 and ≤ 100"),
        ((*PRETRAIN, "--lr", ".nan"), "lr: expected a number"),
        ((*PRETRAIN, "--seed", -1), "seed: expected a number ≥ 0"),
        ((*PRETRAIN, "--weight-decay", -1), "weight_decay: expected a number ≥ 0"),
        ((*PRETRAIN, "--sgd-momentum", 1), "sgd_momentum: expected a number ≥ 0 and < 1"),
        ((*PRETRAIN, "--epochs", 0), "epochs: expected a number ≥ 1"),
        ((*PRETRAIN, "--epochs", -1), "epochs: expected a number ≥ 1"),
        ((*PRETRAIN, "--shear-amplitude", 0.5), "no longer a setting; say augmentations: [{name: shear"),
        ((*PRETRAIN, "--temporal-crop=false"), "no longer a setting; say augmentations: [{name: crop"),
        (
            (*PRETRAIN, "--augmentations", "[{name: crop}, {name: shear, amplitude: -1}]"),
            "augmentations, number 2: shear: amplitude: expected a number ≥ 0",
        ),
        (
            (*PRETRAIN, "--key-augmentations", "[{name: sheer}]"),
            "key_augmentations, number 1: expected settings with a name out of shear, crop",
        ),
        (
            (*PRETRAIN, "--augmentations", "[{name: noise, amplitude: 1}]"),
            "augmentations, number 1: noise has the settings probability, std, found 'amplitude'",
        ),
        ((*PRETRAIN, "--augmentations", "[{name: blur, low: 3}]"), "low: expected at most high, which is 2"),
        ((*PRETRAIN, "--lr-milestones", "[3,2]"), "lr_milestones: expected rising numbers > 0"),
        ((*PRETRAIN, "--lr-milestones", "[0.5,2.5]"), "lr_milestones: expected whole epochs, or shares"),
        ((*PRETRAIN, "--exchange-from", 0), "exchange_from: expected a number > 0"),
        ((*PRETRAIN, "--exchange-from", 1.5), "exchange_from: expected whole epochs, or shares"),
        ((*PRETRAIN, "--max-steps", 0), "max_steps: expected a number ≥ 1"),
        ((*PRETRAIN, "--max-minutes", 0), "max_minutes: expected a number > 0"),
        ((*PRETRAIN, "--warmup", 1), "warmup: expected a number ≥ 0 and < 1"),
        (
            (*PRETRAIN, "--model.queue_size", 7, "--model.topk", 8),
            "model.topk: expected at most queue_size = 7",
        ),
        ((*PRETRAIN, "--model.modalities", "[joint]"), "model.modalities: expected at least two"),
        (
            ("distill", *PRETRAIN[1:], "--teacher", "t", "--students", "[joint,joint]"),
            "students: expected names",
        ),
        (("distill", *PRETRAIN[1:], "--teacher", "t", "--students", "[]"), "students: expected names"),
        (("distill", *PRETRAIN[1:], "--teacher", "t", "--students", "[bonee]"), "students: expected names"),
        (
            ("distill", *PRETRAIN[1:], "--teacher", "t", "--temperature", 0),
            "temperature: expected a number > 0",
        ),
        ((*LINEAR, "--epochs", 0), "epochs: expected a number ≥ 1"),
        ((*LINEAR, "--lr", -1), "lr: expected a number > 0"),
        ((*LINEAR, "--batch-size", 0), "batch_size: expected a number ≥ 1"),
        ((*KNN, "--k", 0), "k: expected a number ≥ 1"),
        ((*KNN, "--temperature", 0), "temperature: expected a number > 0"),
        (("demo", "--out", "o", "--seed", -1), "seed: expected a number ≥ 0"),
        (("prepare", "synthetic", "--out", "o", "--clips-per-class", 2), "clips_per_class: expected"),
        (("prepare", "synthetic", "--out", "o", "--frames", 0), "frames: expected"),
        (("prepare", "synthetic", "--out", "o", "--seed", -1), "seed: expected"),
    ],
)
def test_settings_out_of_range_are_one_message_ahead_of_everything(
    words, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *words)
    assert status == 2
    assert message in err and err.count("\n") == 1, err
    assert not out and not list(tmp_path.iterdir()), "something was left behind"


@pytest.mark.parametrize(
    "content",
    [
        "pretrain: [1, 2]",
        "pretrain: {epochs: 3",
        "surprise: {}",
        "\x00",
        "pretrain: {epochs: ten}",
        "pretrain: {epoch: 3}",
        "pretrain: {config: /etc/hostname}",
        "pretrain: {model: /etc/hostname}",
        "pretrain: {model: {config: /etc/hostname}}",
        "pretrain: {print_config: ''}",
        "pretrain: {1: 2}",
        "pretrain: {data: !!binary aGVsbG8=}",
        "pretrain: {lr: !!python/object/apply:os.system [ls]}",
        'pretrain: {lr: "\\e[31mred\\a"}',
        "pretrain: &a {lr: *a}",
        "pretrain: {lr_milestones: &a [*a]}",
        "pretrain: {lr: " + 5000 * "[" + 5000 * "]" + "}",
        "pretrain: {epochs: " + 5000 * "9" + "}",
        "pretrain: {out: " + 70_000 * "x" + "}",
        "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"a{i}: &a{i} [{','.join(9 * [f'*a{i - 1}'])}]\n" for i in range(1, 9)),
    ],
)
def test_a_bad_configuration_file_is_one_message_that_names_it(content, tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, "pretrain", "--config", path, "--data", "d", "--out", "o")
    assert status == 2 and "mine.yaml" in err
    assert err.count("\n") == 1 and err[:-1].isprintable() and len(err) < 4200, err


@pytest.mark.parametrize("content", [b"\xff\xfe", b""])
def test_a_configuration_that_is_no_text_is_named(content, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    status, _, err = run(capsys, "pretrain", "--config", path, "--data", "d", "--out", "o")
    assert status == 2 and "mine.yaml: expected" in err


def test_settings_of_the_model_are_not_read_from_another_file(capsys):
    for words in (("--model", "/etc/hostname"), ("--model=/etc/hostname",)):
        status, _, err = run(capsys, *PRETRAIN, *words)
        assert status == 2 and "--model.NAME" in err


@pytest.mark.parametrize("place", [0, 1, 2])
def test_options_win_over_the_configuration_wherever_it_stands(place, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("pretrain: {epochs: 7, lr: 0.5, model: {queue_size: 99, topk: 3}}")
    parts = [["--lr", "0.25", "--data", "d"], ["--out=o", "--model.topk", "2"]]
    parts.insert(place, ["--config", str(path)])
    parsed = parse(all_commands()["pretrain"], [word for part in parts for word in part])
    assert (parsed["epochs"], parsed["lr"]) == (7, 0.25)
    assert (parsed["model"].queue_size, parsed["model"].topk, parsed["model"].hidden_dim) == (99, 2, None)


def test_former_names_of_the_models_settings_still_count(tmp_path):
    """`initialisation` is what version 1 called it."""
    path = tmp_path / "mine.yaml"
    path.write_text("pretrain: {model: {initialisation: published}}")
    for words in (f"--config {path}", "--model.initialisation published", "--model.initialisation=published"):
        parsed = parse(all_commands()["pretrain"], ["--data", "d", "--out", "o", *words.split()])
        assert "published" in vars(parsed["model"]).values()


def test_of_two_configurations_the_later_wins(tmp_path):
    for name, lr in (("a", 0.5), ("b", 0.25)):
        (tmp_path / f"{name}.yaml").write_text(f"pretrain: {{lr: {lr}}}")
    words = f"--config {tmp_path}/a.yaml --data d --out o --config={tmp_path}/b.yaml"
    assert parse(all_commands()["pretrain"], words.split())["lr"] == 0.25


def test_home_is_expanded_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("distill: {teacher: ~/teacher}")
    for words in ("--out=~/x --data ~/d --config ~/mine.yaml", "--data=~/d --config=~/mine.yaml --out ~/x"):
        parsed = parse(all_commands()["distill"], words.split())
        assert [parsed[name] for name in ("out", "data", "teacher")] == [
            tmp_path / name for name in ("x", "d", "teacher")
        ]
    assert parse(all_commands()["prepare synthetic"], ["--out=~/x"])["out"] == tmp_path / "x"


def test_home_of_nobody_is_one_message(capsys):
    status, _, err = run(capsys, *PRETRAIN[:3], "--out=~nobody-of-that-name/x")
    assert status == 2 and "~nobody-of-that-name" in err


def test_help_imports_nothing_that_commands_run():
    """Neither torch nor what parses options: an overview and a command's help are there at once."""
    code = (
        "import sys; from ikem_fast.cli import main\n"
        "main(['--help']); main(['pretrain', '--help']); main(['evaluate', '--help'])\n"
        "heavy = {'torch', 'jsonargparse', 'rich', 'yaml'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


def test_the_index_holds_what_the_commands_are():
    assert read_index() == build_index(), "run: python tools/cli_index.py"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command_and_choice(shell, capsys):
    status, out, _ = run(capsys, "completion", shell)
    assert status == 0
    for name, entry in read_index().items():
        assert name.split()[-1] in out
        for option, choices in entry["options"].items():
            assert option.removeprefix("--") in out and " ".join(choices) in out


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("ikem-fast pre", "prepare pretrain predict"),
        ("ikem-fast evaluate ", "linear"),
        ("ikem-fast prepare n", "ntu nw-ucla npz"),
        ("ikem-fast export --fo", "--format"),
        ("ikem-fast export --format ", "onnx torch-export"),
        ("ikem-fast evaluate linear --pro", "--probe"),
    ],
)
def test_bash_completes(words, found, capsys):
    _, script, _ = run(capsys, "completion", "bash")
    count = len(words.split(" ")) - 1
    typed = words + ('""' if words.endswith(" ") else "")
    ask = f"COMP_WORDS=({typed}); COMP_CWORD={count}; _ikem_fast; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True)
    assert set(found.split()) <= set(done.stdout.split()), done.stdout + done.stderr


def test_a_dry_run_says_what_it_takes_and_leaves_nothing(tiny_dataset, tmp_path, capsys):
    out_folder = tmp_path / "run"
    words = ("pretrain", "--data", tiny_dataset, "--out", out_folder, *TINY, *TINY_MODEL)
    status, out, err = run(capsys, *words, "--exchange-from", 2, "--dry-run")
    assert status == 0, err
    assert "24 training clips, 3 steps an epoch" in out and "phase 1: 3 steps, " in out
    assert "phase 2: 3 steps, " in out and "minutes: about " in out and " GiB of this process" in out
    assert err == "" and not out_folder.exists()


def test_a_dry_run_says_what_the_disk_needs_and_has(tiny_dataset, tmp_path, capsys, monkeypatch):
    words = ("pretrain", "--data", tiny_dataset, "--out", tmp_path / "out", *TINY, *TINY_MODEL, "--dry-run")
    status, out, _ = run(capsys, *words, "--keep-last", 1)
    assert status == 0
    found = re.search(r"disk: ([\d.]+) MB for checkpoints of ([\d.]+) MB each; [\d.]+ .B are free at ", out)
    assert found and float(found[1]) == pytest.approx(2 * float(found[2]), rel=0.01), out
    usage = shutil.disk_usage
    nearly_full = lambda path: SimpleNamespace(free=1000) if path == tmp_path else usage(path)  # noqa: E731
    monkeypatch.setattr("shutil.disk_usage", nearly_full)
    status, _, err = run(capsys, *words)
    assert status == 2 and f"expected {found[2]} MB free on its disk for a checkpoint, found 0.001 MB" in err


def test_dry_runs_of_finetuning_and_of_the_demo(tiny_dataset, tmp_path, capsys, monkeypatch):
    teacher = tmp_path / "teacher"
    words = ("pretrain", "--data", tiny_dataset, "--out", teacher, "--max-steps", 1, *TINY, *TINY_MODEL)
    assert run(capsys, *words, "--model.modalities", "[joint,bone]")[0] == 0
    words = ("evaluate", "finetune", "--data", tiny_dataset, "--checkpoint", teacher, "--out", tmp_path / "f")
    status, out, err = run(capsys, *words, "--steps", 600, "--batch-size", 8, "--dry-run")
    assert status == 0, err
    assert "from the checkpoint: 600 steps, " in out and "from random weights: 600 steps, " in out
    clips = sum(len(split) for split in open_dataset(tiny_dataset).splits.values())
    assert f"features: of {6 * clips} clips, " in out and "minutes: about " in out and "memory: " in out
    monkeypatch.setattr("ikem_fast.demo.read_section", lambda _, section: dict(TINY_DEMO[section]))
    status, out, err = run(capsys, "demo", "--out", tmp_path / "demo", "--dry-run")
    assert status == 0, err
    assert "phase 1: 5 steps, " in out and "phase 2: 5 steps, " in out and "distillation: 4 steps, " in out
    assert "prepare: " in out and "minutes: about " in out and err == ""
    assert {path.name for path in tmp_path.iterdir()} == {"teacher"}


OPTIONS = {
    "data": "d d", "out": "o", "checkpoint": "r/checkpoint.pt", "model": "m", "runs": ("a", "b b"),
    "format": "onnx",
}  # fmt: skip


def test_what_one_types_next_is_a_command(tiny_dataset):
    for name in all_commands():
        data = tiny_dataset if name.startswith("write ") else "d d"
        for following in next_commands(name, {**OPTIONS, "data": data}):
            program, *words = shlex.split(following)
            if program == "ikem-fast":
                known = next(" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in all_commands())
                parse(all_commands()[known], words[len(known.split()) :])
            else:
                assert program == "python" and Path(words[0]).is_file()
    assert next_commands("evaluate fuse", {"out": "o"}) == next_commands("doctor", {}) == []
    assert next_commands("export", {**OPTIONS, "format": "torch-export"}) == []


def test_what_one_types_next_leads_from_files_to_a_report_an_answer_and_an_exported_file(tiny_dataset):
    """From each command of the way to the next, by the closing lines alone."""

    def after(name, data="d"):
        found = (shlex.split(line)[1:] for line in next_commands(name, {**OPTIONS, "data": data}))
        return {" ".join(words[:n]) for words in found for n in (1, 2)} & all_commands().keys()

    assert after("prepare ntu") == {"pretrain"} and after("prepare synthetic") == {"pretrain"}
    assert after("pretrain") == after("distill") == {"evaluate linear"}
    assert after("evaluate linear") == {"report", "predict", "export"}
    assert after("evaluate knn") == after("evaluate semi") == after("compare") == {"report"}
    assert after("report") == {"predict", "export"} and after("predict") == {"export"}
    assert after("write pyskl", tiny_dataset) == {"prepare pyskl"}
    assert after("demo") == {"export", "prepare auto"}


def test_what_one_types_next_is_about_the_run_that_was_evaluated():
    inside = next_commands("evaluate linear", {"checkpoint": "r/a/checkpoint.pt", "out": "r/a/linear"})
    assert inside[0] == "ikem-fast report r/a --out r/a/report.html" and inside[1].endswith("--model r/a")
    apart = next_commands("evaluate linear", {"checkpoint": "r/v1.0", "out": "e"})
    assert apart[0] == "ikem-fast report r/v1.0 e --out r/v1.0/report.html" and apart[1].endswith("--model e")


def test_quiet_and_verbose(tiny_dataset, tmp_path, capsys):
    words = ("pretrain", "--data", tiny_dataset, "--max-steps", 1, *TINY, *TINY_MODEL)
    _, out, err = run(capsys, *words, "--out", tmp_path / "a", "-v")
    assert "recipe: small" in out and re.search(r"torch .* CPU threads; .* s", err)
    _, out, err = run(capsys, *words, "--out", tmp_path / "b", "-q")
    assert "recipe" not in out and err == ""


def test_import_needs_torch_and_numpy_alone():
    code = (
        "import sys, ikem_fast, ikem_fast.ops, ikem_fast.nn, ikem_fast.data, ikem_fast.augment\n"
        "heavy = {'rich', 'jsonargparse', 'matplotlib', 'scipy', 'tensorboard', 'yaml'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
