"""What one types next, after a command that ended well."""

from collections.abc import Mapping
from typing import Any

# First words of a command → the next one, of that one's options.
NEXT = {
    "prepare": "ikem-fast pretrain --data {out} --out runs/teacher",
    "pretrain": "ikem-fast evaluate linear --data {data} --checkpoint {out} --out {out}/linear",
    "distill": "ikem-fast evaluate linear --data {data} --checkpoint {out} --out {out}/linear",
    "evaluate linear": "ikem-fast predict CLIP --model {out}",
    "export": "python examples/exported_model.py {out} CLIP.npy",
    "demo": "ikem-fast evaluate knn --data {out}/data --checkpoint {out}/teacher --out {out}/knn",
}


def next_command(name: str, options: Mapping[str, Any]) -> str | None:
    """Return the command that one types after this one, with this one's folders in it; None if there is none.

    Example:
        next_command("prepare ntu", {"out": "data/ntu60"})  # ikem-fast pretrain --data data/ntu60 …
    """
    pattern = NEXT.get(name) or NEXT.get(name.split()[0]) if name.split()[0] != "evaluate" else NEXT.get(name)
    return pattern and pattern.format_map({key: _shell(value) for key, value in options.items()})


def _shell(value):
    import shlex

    return shlex.quote(str(value))
