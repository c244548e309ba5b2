"""YAML that expands, recurses or runs, and layouts that lead out of their tables."""

import json

from tests.faults.hostile.programs import ESCAPES


def yaml_texts():
    """Tags, anchors, recursion, depth and what YAML's own constructors stumble over."""
    laughs = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
    )
    found = {
        "laughs": laughs,
        "recursion": "a: &a\n  b: *a\n",
        "recursive list": "&a [*a]",
        "merge": "a: &a {b: 1}\nc:\n  <<: *a\n",
        "tag": "!!python/object/apply:os.system ['true']",
        "module": "!!python/module:os",
        "name": "!!python/name:os.system",
        "new": "!!python/object/new:os.system [true]",
        "binary": "a: !!binary aaaa",
        "set": "!!set {a, b}",
        "own tag": "!a b",
        "deep": "[" * 5000,
        "deep maps": "".join("  " * n + "a:\n" for n in range(300)),
        "null key": "? \n",
        "null": "~:",
        "null alone": "null:\n",
        "list key": "? [a]\n: b\n",
        "map key": "? {a: b}\n: c\n",
        "time": "a: 2001-99-99\n",
        "time of day": "a: 2001-01-01T99:99:99Z\n",
        "sexagesimal": "a: 190:20:30:15.15\n",
        "octal": "a: 0o9\n",
        "integer": "a: 0b\n",
        "long integer": "a: " + "9" * 50_000,
        "twice": "a: 1\na: 2\n",
        "tab": "a:\n\tb: 1\n",
        "equals": "a: =\n",
        "less": "<<: 1\n",
        "documents": "a: 1\n---\nb: 2\n",
        "directive": "%YAML 9.9\n---\na: 1\n",
        "escape": 'a: "\\e[2J"\n',
        "bidi": "a: \u202eb\n",
        "large": "a: " + "b" * 70_000,
        "many": "".join(f"k{n}: 1\n" for n in range(8000)),
        "colon": ":",
        "empty": "",
        "dash": "-",
        "NUL": "a: \0\n",
        "byte order": "\ufeffa: 1\n",
        "quote": "'",
        "brace": "{",
        "pipe": "a: |\n",
        "float": "a: .inf\n",
    }
    return {name: text.encode("utf-8", "surrogatepass") for name, text in found.items()} | {
        "not UTF-8": b"a: \xff\xfe\n",
        "UTF-16": "a: 1\n".encode("utf-16"),
    }


def layouts():
    """Layout files whose tables lead out of themselves."""
    right = {"name": "mine", "joints": ["a", "b", "c"], "parents": [-1, 0, 1]}
    changes = {
        "cycle": {"parents": [1, 2, 0]},
        "itself": {"parents": [0, 1, 2]},
        "ahead": {"parents": [2, 2, -1]},
        "out": {"parents": [-1, 99, 0]},
        "negative": {"parents": [-1, -2, 0]},
        "true": {"parents": [-1, True, 0]},
        "float": {"parents": [-1, 0.0, 1]},
        "text": {"parents": "abc"},
        "short": {"parents": [-1]},
        "none": {"joints": []},
        "many": {"joints": [f"j{n}" for n in range(5000)], "parents": [-1] * 5000},
        "twice": {"joints": ["a", "a", "b"]},
        "numbers": {"joints": [1, 2, 3]},
        "lists": {"joints": [["a"], "b", "c"]},
        "known": {"name": "ntu-rgb+d"},
        "name": {"name": ["a"]},
        "long": {"name": "a" * 50_000},
        "swap": {"swap": [1, 2, 0]},
        "pairs": {"swap": [["a", "b"], ["b", "c"]]},
        "torso": {"torso": [0, 1, 99]},
        "edges": {"edges": [["a"]]},
        "axes": {"axis_parents": [9, 9, 9]},
        "unknown": {"code": "x"},
        "path": {"name": "../../evil"},
    }
    for place, escape in enumerate(ESCAPES):
        changes[f"escapes {place}"] = {"joints": [escape, "b", "c"]}
        changes[f"named by escapes {place}"] = {"name": escape}
    return {name: json.dumps(right | change).encode() for name, change in changes.items()} | yaml_texts()
