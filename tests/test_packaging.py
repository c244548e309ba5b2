"""What is shipped beside the code: the image and the wheels name what there is, for every system."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_image_asks_for_extras_that_there_are():
    named = re.search(r'"/src\[([^\]]+)\]"', (ROOT / "Dockerfile").read_text(encoding="utf-8"))[1]
    assert set(named.split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_the_image_builds_on_the_cpu_unless_asked():
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.M))
    assert arguments == {"BASE": "ubuntu:24.04", "TORCH_INDEX": '""'}


def test_wheels_are_built_for_every_system_and_python():
    jobs = yaml.safe_load((ROOT / ".github/workflows/wheels.yml").read_text(encoding="utf-8"))["jobs"]
    systems = jobs["wheels"]["strategy"]["matrix"]["system"]
    assert {"ubuntu-24.04", "ubuntu-24.04-arm"} < set(systems) and any("macos" in name for name in systems)
    assert set(jobs["release"]["needs"]) == set(jobs) - {"release"}
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    tested = {version.replace(".", "") for version in ci["test"]["strategy"]["matrix"]["python"]}
    assert set(re.findall(r"cp(\d+)-", PROJECT["tool"]["cibuildwheel"]["build"])) == tested


@pytest.mark.parametrize(
    "name", ["pictures/player.js", "evaluate/render/html/page.css", "configs/small.yaml"]
)
def test_files_that_are_no_code_are_shipped(name):
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["ikem_fast"]
    assert any(Path(name).match(pattern) for pattern in patterns) and (ROOT / "ikem_fast" / name).is_file()


def test_what_is_installed_by_digest_is_what_is_tested():
    text = (ROOT / "requirements/linux-x86_64.txt").read_text(encoding="utf-8")
    locked = re.findall(r"^(\S+==\S+) \\\n    --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    pinned = re.findall(r"^\S+==\S+$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert locked == [pin for pin in pinned if not pin.startswith(("torch==", "triton=="))]
    assert "--require-hashes" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_what_is_not_for_the_image_stays_out():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".git", ".venv", "runs", "**/*.so"} <= set(ignored)
