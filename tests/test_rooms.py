"""A room imports the rooms below it only; rooms beside each other do not know each other."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "ikem_fast"
MAY_NOT = {  # room → rooms that are beside or above it
    "ops": ("nn", "data", "runtime", "train", "evaluate", "predict", "cli"),
    "pictures": ("nn", "data", "runtime", "train", "evaluate", "predict", "cli"),
    "nn": ("pictures", "data", "runtime", "train", "evaluate", "predict", "cli"),
    "data": ("pictures", "nn", "runtime", "train", "evaluate", "predict", "cli"),
    "runtime": ("data", "train", "evaluate", "predict", "cli"),
    "train": ("evaluate", "predict", "cli"),
    "evaluate": ("train", "predict", "cli"),
    "predict": ("train", "evaluate", "cli"),
    "configs": ("nn", "data", "runtime", "train", "evaluate", "predict", "cli"),
}


def imported(file):
    """Modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", MAY_NOT)
def test_a_room_knows_those_below_it_only(room):
    files = list((PACKAGE / room).rglob("*.py"))
    assert files
    for file in files:
        for name in imported(file):
            above = [other for other in MAY_NOT[room] if f"{name}.".startswith(f"ikem_fast.{other}.")]
            assert not above, f"{file.relative_to(PACKAGE)} imports {name}"


def test_results_are_shown_by_what_knows_nothing_else_of_evaluations():
    for file in (PACKAGE / "evaluate" / "render").glob("*.py"):
        known = {name for name in imported(file) if name.startswith("ikem_fast.evaluate.")}
        allowed = ("ikem_fast.evaluate.render", "ikem_fast.evaluate.results")
        assert all(name.startswith(allowed) for name in known), f"{file.name} imports {known}"
