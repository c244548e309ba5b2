"""What the commands are, in a file: `--help` and completion need not import what commands run, for seconds.

`tools/cli_index.py` writes the file anew, after a change of a command, an option or a text.
"""

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("index.json")


def read_index() -> dict[str, dict[str, Any]]:
    """Read of each command its summary, its help, its options and their choices."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def overview(names: list[str], index: dict[str, dict[str, Any]]) -> str:
    """Write what `ikem-fast --help` shows: commands with their summaries."""
    width = max(map(len, names))
    return "\n".join([
        "usage: ikem-fast COMMAND [options]        (or: python -m ikem_fast COMMAND [options])",
        "", *(f"  {name:{width}}  {index[name]['summary']}" for name in names), "",
        "ikem-fast COMMAND --help has the options and an example. With every command -q says results and",
        "errors alone, -v also where and how long it ran, --debug shows tracebacks; with demo, pretrain,",
        "distill and evaluate finetune --dry-run says how long they would take.",
    ])  # fmt: skip
