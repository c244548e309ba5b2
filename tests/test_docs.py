"""What the documentation says is true: its examples run, its commands exist, its links lead somewhere."""

import re
import runpy

import pytest

from ikem_fast.cli import all_commands, parse
from ikem_fast.configs import shipped_configs
from tests.pages import PAGES, ROOT, blocks, command_of, commands


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_run(page):
    for example in blocks(page, "python"):
        exec(compile(example, str(page), "exec"), {})


def test_the_library_example_is_short():
    (example,) = blocks(ROOT / "README.md", "python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_valid(page):
    for words in commands(page):
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
        if words[0] == "ikem-fast":
            name, options = command_of([word.replace("$n", "1") for word in words])
            parse(all_commands()[name], options)


def test_the_readme_lists_every_command_and_configuration():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z\d -]+)` \|", readme, re.MULTILINE)) == set(all_commands())
    for name in shipped_configs():
        assert f"`{name}`" in readme


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_pages_of_formats_are_what_the_formats_say():
    pages = runpy.run_path(str(ROOT / "tools" / "format_pages.py"))["pages"]()
    there = {f"formats/{page.name}": page.read_text("utf-8") for page in (ROOT / "docs/formats").iterdir()}
    assert there == pages, "run: python tools/format_pages.py"
