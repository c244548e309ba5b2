"""Figures and pictures reach each logger; one that fails or is missing stops no run and is named."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ikem_fast.errors import InputError
from ikem_fast.evaluate import RawConfig, evaluate_raw
from ikem_fast.runtime.loggers import LOGGERS, Loggers
from ikem_fast.train import ModelConfig, PretrainConfig, pretrain
from tests.helpers import ONE_BLOCK

SETTINGS = {"lr": 0.1, "model": {"queue_size": 12, "encoder": {}}}


class FakeRun:
    def __init__(self, **given):
        self.given, self.id = given, given.get("id") or "new-run"
        self.logged, self.finished = [], False

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """A module as wandb is used, which keeps what it is told."""
    module = ModuleType("wandb")
    module.runs = []
    module.init = lambda **given: module.runs.append(FakeRun(**given)) or module.runs[-1]
    module.Image = lambda path: ("image", path)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.fixture
def mlflow(monkeypatch):
    """A module as mlflow is used, which keeps what it is told."""
    module = ModuleType("mlflow")
    told = module.told = []

    class Client:
        def __getattr__(self, name):
            return lambda *given, **named: told.append((name, *given, named))

        def get_experiment_by_name(self, name):
            return None

        def create_experiment(self, name):
            told.append(("create_experiment", name))
            return "7"

        def create_run(self, experiment, run_name):
            told.append(("create_run", experiment, run_name))
            return SimpleNamespace(info=SimpleNamespace(run_id="abc"))

    module.MlflowClient = Client
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return module


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.full((4, 6, 3), 200, np.uint8)).save(path)
    return path


def tell(names, out, picture, done=0):
    out.mkdir(exist_ok=True)
    with Loggers(names, out, SETTINGS, done) as loggers:
        loggers.scalars({"loss/joint": 2.5}, step=7)
        loggers.picture("linear", picture, step=8)


def test_tensorboard_keeps_figures_and_pictures(tmp_path, picture):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tell(("tensorboard",), tmp_path / "run", picture)
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [(one.step, one.value) for one in events.Scalars("loss/joint")] == [(7, 2.5)]
    assert (events.Images("linear")[0].width, events.Images("linear")[0].height) == (6, 4)


def test_weights_and_biases_is_told_everything_and_goes_on_as_the_same_run(
    tmp_path, picture, wandb, monkeypatch
):
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    tell(("wandb",), tmp_path / "run", picture)
    tell(("wandb",), tmp_path / "run", picture, done=7)
    tell(("wandb",), tmp_path / "run", picture)
    first, again, anew = wandb.runs
    assert first.given["project"] == "ikem-fast" and first.given["config"] == SETTINGS
    assert first.logged == [(7, {"loss/joint": 2.5}), (8, {"linear": ("image", str(picture))})]
    assert first.finished and "id" not in first.given and "id" not in anew.given
    assert again.given["id"] == "new-run" and again.given["resume"] == "allow"


def test_mlflow_is_told_everything_and_goes_on_as_the_same_run(tmp_path, picture, mlflow, monkeypatch):
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    tell(("mlflow",), tmp_path / "run", picture)
    told = mlflow.told
    assert told[:2] == [("create_experiment", "ikem-fast"), ("create_run", "7", "run")]
    assert ("log_param", "abc", "model.queue_size", "12", {}) in told
    assert told[-3:] == [
        ("log_metric", "abc", "loss/joint", 2.5, {"step": 7}),
        ("log_artifact", "abc", str(picture), "linear", {}),
        ("set_terminated", "abc", {}),
    ]
    told.clear()
    tell(("mlflow",), tmp_path / "run", picture, done=7)
    assert not [one for one in told if one[0] in ("create_run", "log_param")]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_what_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"expected {name} to be installed.*ikem-fast\[{name}\]"):
        Loggers((name,), tmp_path, SETTINGS)


def test_a_service_that_cannot_be_opened_is_named(tmp_path, wandb):
    def refuse(**given):
        raise RuntimeError("no key\x1b[2J")

    wandb.init = refuse
    with pytest.raises(InputError, match=r"wandb cannot be opened: no key\\x1b\[2J"):
        Loggers(("wandb",), tmp_path, SETTINGS)


def test_one_that_fails_later_is_left_out_and_the_others_go_on(tmp_path, picture, wandb, mlflow, capsys):
    def fail(self, values, step):
        raise ConnectionError("the net is down")

    loggers = Loggers(("wandb", "mlflow"), tmp_path, SETTINGS)
    wandb.runs[0].log = fail.__get__(wandb.runs[0])
    for step in (1, 2):
        loggers.scalars({"lr": 0.1}, step)
    loggers.close()
    assert capsys.readouterr().err.count("wandb takes no more figures") == 1
    assert [one[4]["step"] for one in mlflow.told if one[0] == "log_metric"] == [1, 2]


def test_a_run_tells_its_loggers_what_stands_in_its_metrics(tmp_path, tiny_dataset, wandb):
    model = ModelConfig(
        feature_dim=4, queue_size=12, hidden_channels=2, encoder=ONE_BLOCK, modalities=("joint",)
    )
    out = tmp_path / "run"
    pretrain(PretrainConfig(data=tiny_dataset, out=out, epochs=1, batch_size=12, device="cpu", model=model,
                            loggers=("wandb",)))  # fmt: skip
    (run,) = wandb.runs
    assert run.given["config"]["batch_size"] == 12 and run.finished
    steps = dict(run.logged)
    assert {"loss/joint", "loss/sum", "lr", "clips_per_second", "rank/joint"} <= set(steps[max(steps)])
    assert not list(out.glob("events*"))


def test_an_evaluation_tells_its_loggers(tmp_path, tiny_dataset, wandb):
    config = RawConfig(data=tiny_dataset, out=tmp_path, sets="joint", device="cpu", loggers=("wandb",))
    found = evaluate_raw(config)
    assert wandb.runs[0].logged[0] == (0, {"raw/joint": found.sets["joint"].top1})


def test_only_known_loggers_are_taken(tmp_path, tiny_dataset):
    with pytest.raises(InputError, match="loggers: expected names out of tensorboard, wandb, mlflow"):
        pretrain(PretrainConfig(data=tiny_dataset, out=tmp_path / "run", loggers=("smoke",)))
    assert set(LOGGERS) == {"tensorboard", "wandb", "mlflow"}
