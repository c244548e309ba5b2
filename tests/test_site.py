"""The site is built without a warning, its links lead somewhere, and it loads nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
for name in ("mkdocs", "material", "mkdocstrings"):
    pytest.importorskip(name, reason="the site needs the extra docs")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def pages(site):
    return {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}


def test_every_page_is_reached_from_the_navigation(site):
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    named = set(re.findall(r"'([\w/-]+\.md)'", str(navigation)))
    assert named == {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}


def test_links_and_anchors_lead_somewhere(site):
    texts = pages(site)
    anchors = {page: set(re.findall(r'\b(?:id|name)="([^"]+)"', text)) for page, text in texts.items()}
    missing = []
    for page, text in texts.items():
        if page.name == "404.html":
            continue
        for target in re.findall(r'\b(?:href|src)="([^"]+)"', text):
            if re.match(r"(?:[a-z]+:|//)", target):
                continue
            path, _, anchor = unquote(target).partition("#")
            there = (page.parent / path).resolve() if path else page
            there = there / "index.html" if there.is_dir() else there
            if not there.exists() or (anchor and there in anchors and anchor not in anchors[there]):
                missing.append(f"{page.relative_to(site)} → {target}")
    assert not missing


def test_nothing_is_loaded_from_elsewhere(site):
    for page, text in pages(site).items():
        loaded = re.findall(
            r'<(?:script|img|iframe|link rel="(?:stylesheet|icon|preload)")[^>]+?"(https?://[^"]+)"', text
        )
        assert not loaded, f"{page.name} loads {loaded}"


def test_the_reference_has_every_public_name(site):
    import ikem_fast.ops
    import ikem_fast.pictures

    for module in (ikem_fast.ops, ikem_fast.pictures):
        short = module.__name__.rpartition(".")[2]
        text = (site / "api" / short / "index.html").read_text(encoding="utf-8")
        missing = [name for name in module.__all__ if f'id="{module.__name__}.{name}"' not in text]
        assert not missing
