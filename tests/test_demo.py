"""The demo's way from end to end, on settings that take seconds; what it shows, and that it goes on."""

import pytest

from ikem_fast.demo import demo
from ikem_fast.errors import InputError

SECTIONS = {
    "synthetic": {"clips_per_class": 3, "frames": 8},
    "pretrain": {
        "epochs": 1,
        "exchange_from": 1,
        "batch_size": 12,
        "model": {
            "feature_dim": 4, "queue_size": 12, "hidden_channels": 1, "hidden_dim": 4, "impl": "reference",
        },
    },
    "distill": {"epochs": 1, "batch_size": 12},
}  # fmt: skip


def test_everything_is_made_and_shown_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ikem_fast.demo.read_section", lambda name, section: {**SECTIONS[section]})
    status = demo(tmp_path, device="cpu")
    out = capsys.readouterr().out
    assert (
        status in (0, 1)
        and all(name in out for name in ("chance", "raw", "untrained"))
        and "all 6 modalities" in out
    )
    for name in ("teacher/checkpoint.pt", "student/metrics.jsonl", "linear_student/linear.json",
                 "linear_trained/linear.png", "linear_student/linear.npz"):  # fmt: skip
        assert (tmp_path / name).is_file(), name
    before = (tmp_path / "student" / "checkpoint.pt").read_bytes()
    assert demo(tmp_path, device="cpu") == status
    assert (tmp_path / "student" / "checkpoint.pt").read_bytes() == before, "it was trained again"


def test_a_seed_that_cannot_be_is_refused_ahead_of_everything(tmp_path):
    with pytest.raises(InputError, match="seed: expected a number ≥ 0"):
        demo(tmp_path / "demo", seed=-1)
    assert not (tmp_path / "demo").exists()
