#!/usr/bin/env python3
"""Build the wheel of a commit twice, in folders of different names, and compare the bytes.

usage: check_reproducible.py [COMMIT]

Exit status: 0 where both are alike, 1 where they differ, with the members that do.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def wheel_of(commit: str, folder: Path) -> Path:
    """Build the wheel of a commit from a fresh checkout below a folder."""
    source = folder / "source"
    subprocess.run(["git", "clone", "--quiet", ROOT, source], check=True)
    subprocess.run(["git", "checkout", "--quiet", commit], cwd=source, check=True)
    when = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=source, check=True, capture_output=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", folder, "."],
        cwd=source, check=True, env=os.environ | {"SOURCE_DATE_EPOCH": when.stdout.decode().strip()},
    )  # fmt: skip
    return next(folder.glob("*.whl"))


def main(commit: str = "HEAD") -> int:
    commit = subprocess.run(
        ["git", "rev-parse", commit], cwd=ROOT, check=True, capture_output=True, text=True
    )
    with (
        tempfile.TemporaryDirectory() as first,
        tempfile.TemporaryDirectory(prefix="another-name-") as second,
    ):
        wheels = [wheel_of(commit.stdout.strip(), Path(folder)) for folder in (first, second)]
        if wheels[0].read_bytes() == wheels[1].read_bytes():
            print(f"{wheels[0].name}: alike")
            return 0
        members = []
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                members.append({info.filename: (info.CRC, info.date_time) for info in archive.infolist()})
        differ = sorted(
            name for name in {*members[0], *members[1]} if members[0].get(name) != members[1].get(name)
        )
        print(f"{wheels[0].name}: differs in {', '.join(differ) or 'the order of its members'}")
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
