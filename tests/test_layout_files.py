"""Layouts of a user's own: read from YAML, refused with the joint that is wrong, listed, checked, drawn."""

import numpy as np
import pytest

from ikem_fast.cli import main
from ikem_fast.errors import InputError
from ikem_fast.skeleton import Layout, find_layout, get_layout, layout_names, layout_of, load_layout
from ikem_fast.skeleton.checks import doubts
from ikem_fast.skeleton.picture import sketch

CHAIR = """
joints: [hip, spine, head, left hand, right hand]
parents: [-1, hip, 1, spine, spine]
torso: [hip, left hand, right hand]
shoulders: [right hand, left hand]
swap: [[left hand, right hand]]
"""


def written(folder, text, name="chair.yaml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_joints_by_name_and_by_number(tmp_path):
    layout = load_layout(written(tmp_path, CHAIR))
    assert layout == Layout("chair", ("hip", "spine", "head", "left hand", "right hand"), (0, 0, 1, 1, 1),
                            torso=(0, 3, 4), shoulders=(4, 3), swap=(0, 1, 2, 4, 3))  # fmt: skip
    numbers = written(tmp_path, CHAIR.split("torso")[0] + "swap: [0, 1, 2, 4, 3]\nname: stool\n"
                      "axis_parents: [0, 0, 0, 1, 1]\nedges: [[spine, hip], [2, 1]]\n")  # fmt: skip
    stool = load_layout(str(numbers))
    assert (stool.name, stool.swap, stool.torso, stool.shoulders) == ("stool", (0, 1, 2, 4, 3), None, None)
    assert (stool.axis_parents, stool.edges) == ((0, 0, 0, 1, 1), ((1, 0), (2, 1)))
    assert find_layout(numbers) == stool and find_layout("sbu") is get_layout("sbu")


@pytest.mark.parametrize("name", layout_names())
def test_tables_make_the_layout_again(name):
    assert layout_of(get_layout(name).tables()) == get_layout(name)


def test_a_forest_of_roots_alone_is_kept_whole():
    dust = Layout("dust", ("a", "b"), (-1, -1))
    assert layout_of(dust.tables()) == dust and dust.roots == (0, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("-1, hip, 1", "-1, hip, 9"), r"parents of joint 2 \(head\): expected a joint's name or number 0 … 4"
                                       r", or -1 for a root, found 9"),
        (("-1, hip, 1", "-1, hipp, 1"), r"parents of joint 1 \(spine\): .* found 'hipp'"),
        (("-1, hip, 1", "-1, hip, true"), r"parents of joint 2 \(head\): .* found True"),
        (("-1, hip, 1", "spine, hip, 1"), r"found a circle: 0 \(hip\) → 1 \(spine\) → 0 \(hip\)"),
        (("1, spine, spine]", "1, spine]"), "parents must hold 5 joints, found 4"),
        (("hand]\nparents", "hand, hip]\nparents"), "joints must differ, found 'hip' for 0 and 5"),
        (("torso: [hip", "torso: [head, hip"), "torso must hold 3 joints, found 4"),
        (("torso: [hip, left", "torso: [hip, hip"), r"torso: expected a joint's name .* found 'hip hand'"),
        (("[right hand, left hand]", "[left hand, left hand]"), "shoulders must hold 2 different joints"),
        (("[[left hand, right hand]]", "[[left hand, right hand], [left hand, hip]]"), "'left hand' in two"),
        (("[[left hand, right hand]]", "[1, 2, 0, 3, 4]"), r"inverse, found 0 \(hip\) → 1 \(spine\) → 2"),
        (("swap:", "swaps:"), "expected tables out of name, joints, .* found 'swaps'"),
        (("parents:", "edges:"), "expected pairs of joints, found -1|found no parents"),
        (("joints:", "joints: &a"), "without anchors and aliases, found 'a' in line 2"),
        (("joints:", "joints: !!python/tuple"), "without tags, found 'tag:yaml.org,2002:python/tuple'"),
        (("joints: [hip", "joints: [[[[[[[[[[hip]]]]]]]]]"), "at most 8 levels"),
        (("hand]\nparents", 'hand, "\\e[2J"]\nparents'), r"the name of joint 5 must be a printable text"),
        (("joints", "name: coco\njoints"), "another than that of a layout the package knows, found 'coco'"),
        (("joints", "name: 7\njoints"), "the layout's name must be a printable text .* found 7"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message) as error:
        load_layout(written(tmp_path, CHAIR.replace(*change, 1)))
    assert str(tmp_path / "chair.yaml") in str(error.value) and str(error.value).isprintable()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a joint layout, .* found None"),
        ("[1, 2]", "expected a joint layout"),
        ("joints: [" + "a, " * 40_000 + "b]\n", "at most 65536 bytes"),
        ("joints: {a: b}\nparents: [0]", "joints: expected a list of 1 … 1024 entries, found"),
        ("joints: [" + ", ".join(f"j{i}" for i in range(1025)) + "]\nparents: [0]", "found 1025 entries"),
        ("joints: [a\n", "expected YAML, found"),
    ],
)
def test_what_is_no_layout(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_layout(written(tmp_path, text))
    with pytest.raises(InputError, match="found no such file"):
        load_layout(tmp_path / "nowhere.yaml")
    with pytest.raises(InputError, match=r"expected one of coco, .* ends in \.yaml or \.yml, found 'chair'"):
        find_layout("chair")


def test_doubts_name_what_is_missing_and_what_the_names_say(tmp_path):
    bare = load_layout(written(tmp_path, CHAIR.split("torso")[0] + "edges: [[hip, spine], [left hand, 1]]"))
    said = "\n".join(doubts(bare))
    assert "torso: not given; the root's bone is 0, and there is no rotation_axis" in said
    assert "shoulders: not given; prepare with --align none" in said
    assert "by the names it would be [[left hand, right hand]]" in said
    assert "edges: no way from 'head', 'right hand' to a root" in said
    assert "joints: no other layout has 'hip'" in said
    mirrored = CHAIR.replace("[right hand, left hand]", "[left hand, right hand]").replace(
        "[[left hand, right hand]]", "[[left hand, head]]"
    )
    said = "\n".join(doubts(load_layout(written(tmp_path, mirrored))))
    assert "shoulders: expected the right one, then the left, found 'left hand', then 'right hand'" in said
    assert "swap: 'left hand' stands for 'head', by its name for 'right hand'" in said
    assert not doubts(get_layout("ntu-rgb+d"))


def test_a_sketch_has_left_on_the_right_and_every_joint_apart():
    for layout in (*map(get_layout, layout_names()), Layout("dust", tuple("abcd"), (-1, 0, 0, -1))):
        places = sketch(layout)
        assert np.isfinite(places).all() and len(np.unique(places.round(6), axis=0)) >= len(places) - 2
        for v, name in enumerate(layout.joints):
            assert ("left" not in name or places[v, 0] > 0) and ("right" not in name or places[v, 0] < 0)


def test_the_command(tmp_path, capsys):
    assert main(["layouts"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in layout_names()) and "pku-mmd" in out
    path = written(tmp_path, CHAIR)
    assert main(["layouts", "--check", str(path), "--out", str(tmp_path / "chair.png")]) == 0
    out = capsys.readouterr().out
    assert "torso: hip, left hand, right hand" in out and "chair: a layout of 5 joints" in out
    assert (tmp_path / "chair.png").read_bytes().startswith(b"\x89PNG")
    written(tmp_path, CHAIR.replace("[-1, hip", "[-1, head"))
    assert main(["layouts", "--check", str(path)]) == 2
    assert "a circle: 1 (spine) → 2 (head) → 1 (spine)" in capsys.readouterr().err
