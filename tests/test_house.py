"""Who looks for something finds it where the documentation says, and what is said twice is said alike."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
ROOMS = r"(?:ikem_fast|csrc|tests|docs|benchmarks|examples|tools|\.ci)/[\w./-]*"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def anchors(page):
    """Those of a page's headings, as a forge makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_named_on_a_page_exist(page):
    text = page.read_text(encoding="utf-8")
    named = [path for path in re.findall(rf"`({ROOMS})`", text) if "NAME" not in path]
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing, f"{page.name} names {', '.join(missing)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_into_a_page_lead_to_a_heading(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        there = page.parent / target if target else page
        assert anchor in anchors(there), f"{page.name}: no heading {anchor!r} in {there.name}"


@pytest.mark.parametrize(
    "what", ["format", "joint layout", "modality", "encoder", "augmentation", "op", "protocol"]
)
def test_every_recipe_takes_five_lines(what):
    text = read("CONTRIBUTING.md")
    (recipe,) = re.findall(rf"^\*\*An? {what}\*\*.*\n((?:\d\. .*\n)+)", text, re.MULTILINE)
    assert len(recipe.splitlines()) == 5


def test_hooks_have_the_tested_versions():
    hooks = {
        repo["repo"].rpartition("/")[2]: repo["rev"]
        for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    }
    tested = dict(line.split("==") for line in read("constraints.txt").splitlines() if "==" in line)
    assert hooks == {
        "ruff-pre-commit": f"v{tested['ruff']}",
        "mirrors-clang-format": f"v{tested['clang-format']}",
    }


def test_the_same_checks_run_everywhere():
    jobs = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert "bash .ci/run" in commands and "python -m pytest" in commands
    matrix = jobs["test"]["strategy"]["matrix"]
    systems = {*matrix["system"], *(extra["system"] for extra in matrix["include"])}
    assert {name.split("-")[0] for name in systems} == {"ubuntu", "macos", "windows"}
    assert any(name.endswith("-arm") for name in systems)
    assert PROJECT["project"]["requires-python"] == f">={min(matrix['python'], key=lambda v: int(v[2:]))}"


def test_the_citation_has_the_version():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == PROJECT["project"]["version"]
    assert "2309.12009" in citation["preferred-citation"]["url"]


def test_users_type_checkers_see_the_annotations():
    assert (ROOT / "ikem_fast" / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["ikem_fast"]
