"""What the documentation says is true: its examples run, its commands exist, its links lead somewhere."""

import re
from pathlib import Path

import pytest

from ikem_fast.cli import all_commands, parse
from ikem_fast.configs import shipped_configs

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_run(page):
    for example in blocks(page, "python"):
        exec(compile(example, str(page), "exec"), {})


def test_the_library_example_is_short():
    (example,) = blocks(ROOT / "README.md", "python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_valid(page):
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    for line in (line.split("#")[0].strip() for line in lines):
        words = line.split()
        if words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
        if words[:1] == ["ikem-fast"]:
            commands = all_commands()
            name = next(name for n in (2, 1) if (name := " ".join(words[1 : 1 + n])) in commands)
            parse(commands[name], words[1 + len(name.split()) :])


def test_the_readme_lists_every_command_and_configuration():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z\d -]+)` \|", readme, re.MULTILINE)) == set(all_commands())
    for name in shipped_configs():
        assert f"`{name}`" in readme


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
