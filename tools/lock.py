#!/usr/bin/env python3
"""Write requirements/linux-x86_64.txt: constraints.txt with the digest that pip finds for each package.

usage: python tools/lock.py        (on Linux for x86-64, with Python 3.11)
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "linux-x86_64.txt"
BY_VERSION = ("torch", "triton")  # each index has wheels of its own


def plain(name: str) -> str:
    """Give a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    pins = [pin for pin in pins if plain(pin.partition("==")[0]) not in BY_VERSION]
    with tempfile.TemporaryDirectory() as folder:
        wanted, report = Path(folder, "wanted.txt"), Path(folder, "report.json")
        wanted.write_text("\n".join(pins))
        options = ["--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--only-binary", ":all:"]
        command = [sys.executable, "-m", "pip", "install", *options, "--report", report, "-r", wanted]
        subprocess.run(command, check=True)
        found = json.loads(report.read_text())["install"]
    digests = {
        plain(one["metadata"]["name"]): one["download_info"]["archive_info"]["hashes"]["sha256"]
        for one in found
    }
    head = "".join(line for line in LOCK.read_text().splitlines(keepends=True) if line.startswith("#"))
    lines = [f"{pin} \\\n    --hash=sha256:{digests[plain(pin.partition('==')[0])]}\n" for pin in pins]
    LOCK.write_text(head + "".join(lines))


if __name__ == "__main__":
    main()
