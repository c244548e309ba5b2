"""`doctor`: what it runs, what it is shown, and when it fails."""

from importlib import import_module

import torch

from ikem_fast.doctor import code_for
from ikem_fast.ops import _library
from ikem_fast.ops._support import YES
from ikem_fast.selftest import CASES
from tests.helpers import run


def test_doctor_shows_whatever_an_optional_part_raises(capsys, monkeypatch):
    def broken(name):
        if name.endswith(("triton", "_skeleton_io")):
            raise RuntimeError("ptxas is [broken]\x1b[31m")
        return import_module(name)

    monkeypatch.setattr("ikem_fast.doctor.import_module", broken)
    status, out, _ = run(capsys, "doctor", "--quick")
    shown = "".join(out.split())
    assert status == 0 and "RuntimeError:ptxas" in shown and "[broken]" in shown and "\x1b" not in out


def test_doctor_runs_every_kernel_and_checks_what_it_is_given(capsys, monkeypatch, tiny_dataset):
    monkeypatch.setenv("COLUMNS", "300")
    status, out, _ = run(capsys, "doctor", "--data", tiny_dataset)
    assert status == 0
    for word in ("torch", "triton", "bank losses", "what to do", f"{tiny_dataset} │ ok: "):
        assert word in out
    for name in CASES:
        (line,) = (line for line in out.splitlines() if f"{name} on cpu " in line)
        assert "ok: error" in line or "plain torch in its place" in line
    assert ".skeleton reader" in out


def test_doctor_fails_where_a_kernel_is_wrong_or_a_model_is_none(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "300")
    assert run(capsys, "doctor", "--quick", "--model", tmp_path)[0] == 1
    wrong = lambda device: lambda impl: (torch.full((2,), 1.0 if impl == "fused" else 1.1),)  # noqa: E731
    monkeypatch.setattr("ikem_fast.selftest.CASES", {"derive_modalities": wrong})
    status, out, _ = run(capsys, "doctor")
    assert status == 1 and "wrong: differs from the reference by 0.09" in out


def test_doctor_knows_which_gpus_the_binary_has_code_for(monkeypatch):
    monkeypatch.setattr(_library, "support_on", lambda kind: YES)
    monkeypatch.setattr(_library, "architectures", lambda: ("7.5", "8.0", "9.0a", "8.9+PTX"))
    for capability in ((7, 5), (8, 6), (9, 0), (12, 0)):
        assert code_for(capability), capability
    monkeypatch.setattr(_library, "architectures", lambda: ("7.5", "8.0", "9.0a"))
    for capability in ((7, 0), (9, 1), (12, 0)):
        assert "has code for 7.5, 8.0, 9.0a and this GPU is" in code_for(capability).problem
