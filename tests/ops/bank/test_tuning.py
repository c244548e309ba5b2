"""Autotuning of the Triton kernels, without a GPU: what is timed, remembered and refused."""

import functools
import json

import pytest
import torch

pytest.importorskip("triton")

from ikem_fast.ops.bank.triton import plan, tuning

KEY = tuning.shape_class("relations", torch.empty(6, 128, 64), torch.empty(6, 4096, 64))


@pytest.fixture
def choices():
    return plan.candidates(torch.bfloat16, (9, 0), clips=128, large=True)


@pytest.fixture(autouse=True)
def nothing_read(monkeypatch):
    monkeypatch.setattr(tuning, "_read", {})


class Timer:
    """Times a call by what it returns: here the number of rows of the tile."""

    def __init__(self):
        self.calls = 0

    def __call__(self, call):
        self.calls += 1
        return call()


def choose(choices, path, timer, run=lambda choice: choice.rows * choice.keys, capturing=False, key=KEY):
    return tuning.choose(key, choices, run, path, timer, lambda: capturing)


def forget():
    """As a new process would find it."""
    tuning._read.clear()


def test_the_fastest_is_taken_and_remembered(choices, tmp_path):
    path, timer = tmp_path / "folder" / "tiles.json", Timer()
    smallest = min(choices, key=lambda choice: choice.rows * choice.keys)
    assert smallest != choices[0]
    assert choose(choices, path, timer) == smallest
    assert timer.calls == len(choices) > 1
    forget()
    assert choose(choices, path, timer) == smallest
    assert timer.calls == len(choices)
    assert [file.name for file in path.parent.iterdir()] == ["tiles.json"]


def test_another_class_of_shapes_is_timed_anew(choices, tmp_path):
    features, queue = torch.empty(6, 128, 64), torch.empty(6, 4096, 64)
    of = functools.partial(tuning.shape_class, "relations")
    assert of(features[:, :100], queue[:, :3000]) == of(features, queue)
    others = {
        of(features[:, :64], queue), of(features, queue[:, :2048]), of(features.bfloat16(), queue),
        of(features, queue.half()), of(features, queue, (True,)), of(features[:3], queue),
        tuning.shape_class("backward", features, queue), of(features, queue),
    }  # fmt: skip
    assert len(others) == 8
    path, timer = tmp_path / "tiles.json", Timer()
    for key in sorted(others):
        choose(choices, path, timer, key=key)
    assert timer.calls == 8 * len(choices)
    assert set(json.loads(path.read_text())) == others


def test_nothing_is_timed_during_capture(choices, tmp_path):
    path, timer = tmp_path / "tiles.json", Timer()
    assert choose(choices, path, timer, capturing=True) == choices[0]
    assert timer.calls == 0 and not path.exists()
    fastest = choose(choices, path, timer)
    timed = timer.calls
    assert choose(choices, path, timer, capturing=True) == fastest  # what is known may be used
    assert timer.calls == timed


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"a": '])
def test_a_broken_file_is_said_and_replaced(choices, tmp_path, content):
    path, timer = tmp_path / "tiles.json", Timer()
    path.write_text(content)
    with pytest.warns(UserWarning, match=r"tiles\.json: cannot be read"):
        choose(choices, path, timer)
    assert list(json.loads(path.read_text())) == [KEY]


def test_a_tile_that_is_no_candidate_is_not_taken(choices, tmp_path):
    path, timer = tmp_path / "tiles.json", Timer()
    path.write_text(json.dumps({KEY: "512x512, 4 warps"}))
    assert choose(choices, path, timer) in choices
    assert timer.calls == len(choices)


def test_a_folder_that_cannot_be_written_costs_no_more_than_the_memory(choices, tmp_path):
    (tmp_path / "file").write_text("")
    path, timer = tmp_path / "file" / "tiles.json", Timer()
    with pytest.warns(UserWarning, match="cannot be"):
        first = choose(choices, path, timer)
    assert choose(choices, path, timer) == first
    assert timer.calls == len(choices)


def test_it_is_off_unless_asked_for(choices, monkeypatch, tmp_path):
    features, queue = torch.empty(6, 128, 64), torch.empty(6, 4096, 64)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU (80 GB)")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    timer = Timer()
    monkeypatch.setattr(tuning, "_milliseconds", timer)
    run = lambda choice: choice.rows * choice.keys  # noqa: E731
    pinned, smallest = run(choices[0]), min(map(run, choices))

    monkeypatch.delenv(tuning.SWITCH, raising=False)
    assert tuning.launch("relations", choices, features, queue, run) == pinned
    monkeypatch.setenv(tuning.SWITCH, "1")
    torch.use_deterministic_algorithms(True)
    try:
        assert tuning.launch("relations", choices, features, queue, run) == pinned
    finally:
        torch.use_deterministic_algorithms(False)
    assert tuning.launch("relations", choices[:1], features, queue, run) == pinned
    assert timer.calls == 0
    assert tuning.launch("relations", choices, features, queue, run) == smallest
    assert (tmp_path / "ikem-fast" / "tiles-a-gpu-80-gb.json").exists()
