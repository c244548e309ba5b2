"""The report: one page that holds what a run did, stands alone, and obeys no name in what it shows."""

import json
import re
import shlex
import shutil
import sys
from dataclasses import asdict

import numpy as np
import pytest

from ikem_fast.cli import all_commands, main, parse
from ikem_fast.data.formats.synthetic import prepare_synthetic
from ikem_fast.demo import student_config, teacher_config
from ikem_fast.evaluate import LinearConfig, evaluate_linear
from ikem_fast.pictures.scene import body_panel
from ikem_fast.report import write_report
from ikem_fast.report.clips import Shelf, flattened
from ikem_fast.report.repeat import repeating_command
from ikem_fast.report.runs import Run, curve, find_subjects, read_run
from ikem_fast.skeleton import get_layout
from ikem_fast.train import DistillConfig, ModelConfig, PretrainConfig, distill, pretrain
from tests.helpers import ONE_BLOCK
from tests.pages import read_page

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of six modalities with their evaluations, and a student without; hostile names."""
    folder = tmp_path_factory.mktemp("reported")
    data = folder / "data"
    prepare_synthetic(data, clips_per_class=3, frames=8)
    description = json.loads((data / "dataset.json").read_text())
    description["classes"][0] = HOSTILE
    (data / "dataset.json").write_text(json.dumps(description))
    names = np.load(data / "test_names.npy").astype("U80")
    names[0] = HOSTILE
    np.save(data / "test_names.npy", names)
    model = ModelConfig(feature_dim=4, queue_size=12, hidden_channels=2, encoder=ONE_BLOCK)
    made = {"data": data}
    for seed in (0, 1):
        out = made[f"six{seed}"] = folder / f"seed{seed}" / "six"
        pretrain(PretrainConfig(data=data, out=out, epochs=2, exchange_from=1, batch_size=12, device="cpu",
                                model=model, seed=seed))  # fmt: skip
        judged = LinearConfig(data=data, checkpoint=out, out=folder / f"linear{seed}", device="cpu",
                              untrained_seeds=1)  # fmt: skip
        evaluate_linear(judged)
        made[f"linear{seed}"] = folder / f"linear{seed}"
    made["student"] = folder / "student"
    distill(DistillConfig(data=data, out=made["student"], teacher=made["six0"], epochs=1, batch_size=12,
                          device="cpu"))  # fmt: skip
    return made


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    folders = [str(runs[name]) for name in ("six0", "six1", "linear0", "linear1", "student")]
    assert main(["report", *folders, "--out", str(out), "--device", "cpu"]) == 0
    return out.read_text(encoding="utf-8")


def data_of(page):
    return json.loads(read_page(page).scripts[0])


def test_the_page_stands_alone_and_is_light(page):
    read = read_page(page)
    assert not read.links
    assert len(page) < 5_000_000
    assert "default-src 'none'" in page and not re.search(r"url\(|@import|fetch\(|XMLHttp", page)


def test_no_name_in_it_is_obeyed(page):
    read = read_page(page)
    assert len(read.scripts) == 3 and "<img" not in page and "alert(1)</script>" not in page
    assert HOSTILE[:40] in " ".join(read.text)


def test_it_says_what_was_run_and_what_came_of_it(page, runs):
    shown = " ".join(" ".join(read_page(page).text).split())
    figures = [json.loads((runs[f"linear{seed}"] / "linear.json").read_text())["sets"] for seed in (0, 1)]
    for name in ("joint", "joint+motion+bone"):
        top1 = [figure[name]["top1"] for figure in figures]
        assert f"{np.mean(top1):.1f} ± {np.std(top1, ddof=1):.1f}" in shown
    said = ["6 modalities", "seeds 0, 1", "random weights", "raw coordinates", "chance", "exchange"]
    said += ["What all 6 modalities add to three", "student: no evaluation like this one"]
    assert [text for text in said if text not in shown] == []


def test_every_section_is_there_and_can_be_gone_to(page):
    anchors = re.findall(r'<a href="#([a-z]+)"', page)
    assert anchors == [
        "accuracy", "others", "training", "confusion", "gains", "map", "neighbors", "time", "settings",
    ]  # fmt: skip
    for anchor in anchors:
        assert page.count(f'<section id="{anchor}"') == 1


def test_every_test_clip_is_on_the_map_and_plays(page, runs):
    data = data_of(page)
    labels = np.load(runs["data"] / "test_labels.npy")
    assert [point["label"] for point in data["map"]] == labels.tolist()
    assert page.count("<circle") == len(labels)
    assert max(point["clip"] for point in data["map"]) < len(data["clips"]["points"])
    for count in {str(points["shape"][1]) for points in data["clips"]["points"]}:
        assert data["clips"]["bones"][count]


def test_two_people_who_stand_apart_are_seen_whole():
    """A clip is drawn as far as its bodies reach; one of a single body large."""
    clip = np.random.default_rng(0).normal(0, 0.1, (3, 9, 15, 2)).astype(np.float32)
    clip[1] += np.linspace(0, 1, 15, dtype=np.float32)[:, None]
    apart = clip.copy()
    apart[0, ..., 1] += 1.2
    alone = clip.copy()
    alone[..., 1] = 0
    shelf = Shelf(get_layout("sbu"))
    for index, one in enumerate((alone, clip, apart)):
        shelf.place("train", index, one)
    scales = [points["scale"] for points in shelf.data()["points"]]
    reach = body_panel(apart, shelf.layout, trails=False).points
    assert scales[0] < 0.8 and scales[2] > 1.0
    assert scales[2] >= min(np.percentile(np.hypot(reach[..., 0], reach[..., 2]), 99), 1.6)


def test_neighbors_are_training_clips_and_told_apart(page, runs):
    rows = re.search(r'class="neighbors">(.*?)</section>', page, re.DOTALL)[1]
    kinds = re.findall(r'class="clip (\w+)"', rows)
    assert kinds.count("asked") == 6 and len(kinds) == 36
    assert set(kinds) <= {"asked", "same", "other"}


def test_curves_are_means_over_seeds(page, runs):
    lines = {line["label"]: line for line in data_of(page)["charts"]["loss"]["lines"]}
    assert len(lines) == 6
    found = [
        [json.loads(line)["losses"]["joint"] for line in (runs[name] / "metrics.jsonl").open()]
        for name in ("six0", "six1")
    ]
    assert lines["joint"]["y"] == pytest.approx(np.mean(found, 0).tolist(), rel=1e-3)


def test_seeds_are_one_subject_and_the_student_another(runs):
    six, student = find_subjects([runs["six0"], runs["student"], runs["six1"], runs["linear1"]])
    assert [run.config["seed"] for run in six.runs] == [0, 1]
    assert [path.parent for path, _ in six.groups[0].runs] == [runs["linear1"]]
    assert student.runs[0].kind == "distill" and not student.groups


@pytest.mark.parametrize("name", ["six1", "student"])
def test_the_command_repeats_the_run(runs, name):
    run = read_run(runs[name])
    words = shlex.split(repeating_command(run).replace("\\\n", " "))
    assert words[:2] == ["ikem-fast", run.kind]
    command = all_commands()[run.kind]
    settings = command.settings(**parse(command, words[2:]))
    for entry in ("data", "batch_size", "epochs", "seed", "lr", "augmentations", "schedule", "optimizer"):
        stored = run.config[entry]
        value = getattr(settings, entry)
        assert json.loads(json.dumps(value, default=str)) == stored, entry
    if name == "six1":
        assert settings.model.hidden_channels == 2 and settings.model.feature_dim == 4
        assert str(settings.out) != run.config["out"]  # it does not write over what it repeats


def test_the_recipe_that_is_most_like_it_is_named(tmp_path):
    for config, kind in (
        (teacher_config(tmp_path, 0, "auto"), "pretrain"),
        (student_config(tmp_path, 0, "auto", tmp_path / "teacher"), "distill"),
    ):
        stored = json.loads(json.dumps(asdict(config), default=str))
        command = repeating_command(Run(tmp_path, kind, stored, {}, 0, 0.0, []))
        assert command.startswith(f"ikem-fast {kind} --config demo \\\n"), command
        assert "--max-steps" not in command and "--model" not in command, command


def test_a_run_that_was_not_evaluated_says_how(runs, tmp_path):
    write_report([runs["student"]], tmp_path / "a.html", device="cpu")
    shown = (tmp_path / "a.html").read_text()
    assert (
        "ikem-fast evaluate linear --data" in shown and 'id="map"' in shown and 'id="confusion"' not in shown
    )


def test_results_alone_are_a_report_too(runs, tmp_path):
    write_report([runs["linear0"]], tmp_path / "a.html", device="cpu")
    page = (tmp_path / "a.html").read_text()
    assert 'id="accuracy"' in page and 'id="training"' not in page


def test_without_its_dataset_the_map_says_what_is_missing(runs, tmp_path):
    write_report([runs["six0"]], tmp_path / "a.html", data=tmp_path / "nowhere", device="cpu")
    page = (tmp_path / "a.html").read_text()
    assert "Left out" in page and "--data says where the dataset is" in page and "<circle" not in page


@pytest.mark.parametrize("line", ["", "{", "[1]", '{"step": 1}', '{"losses": {"joint": "x"}, "step": 2}'])
def test_damaged_metrics_leave_the_rest(runs, tmp_path, line):
    folder = tmp_path / "run"
    shutil.copytree(runs["six0"], folder)
    (folder / "metrics.jsonl").write_text(line + "\n" + (folder / "metrics.jsonl").read_text())
    found = curve([read_run(folder)], lambda record: record["losses"].get("joint"))
    assert found is not None and len(found.steps) == 2


def test_places_without_anything_are_refused(tmp_path, capsys):
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "a.html")]) == 2
    assert "expected results of evaluations in it" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "no"), "--out", str(tmp_path / "a.html")]) == 2
    assert not (tmp_path / "a.html").exists()


@pytest.mark.parametrize("library", [True, False], ids=["t-SNE", "PCA"])
def test_a_map_keeps_clusters_apart(monkeypatch, library):
    if library:
        pytest.importorskip("sklearn")
    else:
        monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    random = np.random.default_rng(0)
    centers = np.repeat(np.eye(3, 8) * 10, 12, 0)
    placed, how = flattened(centers + 0.1 * random.normal(size=centers.shape))
    assert how.startswith("t-SNE" if library else "PCA")
    groups = placed.reshape(3, 12, 2)
    spread = np.linalg.norm(groups - groups.mean(1, keepdims=True), axis=-1).max()
    apart = min(np.linalg.norm(groups[a].mean(0) - groups[b].mean(0)) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert apart > 1.5 * spread
