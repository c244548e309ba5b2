"""Which clips are where: rules for every format, and NTU's four protocols against the official counts."""

import itertools

import numpy as np
import pytest

from ikem_fast.cli import main
from ikem_fast.data import open_dataset
from ikem_fast.data.formats.ntu import PROTOCOLS, parse_name, read_skip_list
from ikem_fast.data.splits import Choosable, attributes_of_name
from ikem_fast.errors import InputError

# Who was recorded in which setup; everyone three views, twice, A001 … A060 up to setup 17 and A061 … from 18.
SUBJECTS = {
    1: (1, 2, 3, 4, 5, 6, 7, 8), 2: (3, 7, 8, 9, 10, 11, 12, 13, 14), 3: (1, 2, 7, 8, 15, 16, 17, 18, 19),
    4: (3, 7, 8, 20), 5: (4, 10, 13, 15, 16, 17, 18, 21), 6: (1, 7, 8, 15, 16, 17, 19, 22, 23, 24),
    7: (1, 7, 8, 15, 16, 17, 18, 19, 25, 26, 27, 28),
    8: (1, 7, 8, 15, 19, 25, 29, 30, 31, 32, 33, 34, 35, 36), 9: (7, 8, 15, 16, 17, 19, 25),
    10: (7, 8, 13, 15, 16, 17, 18, 19, 21, 25), 11: (1, 2, 7, 8, 15, 16, 17, 18, 19, 25, 27, 28, 38),
    12: (7, 8, 15, 16, 17, 18, 19, 25, 27, 28, 37), 13: (7, 8, 15, 16, 17, 18, 19, 25, 27, 28, 37),
    14: (7, 8, 15, 17, 19, 25, 27, 37, 39), 15: (7, 8, 15, 16, 17, 19, 25, 37),
    16: (7, 8, 19, 21, 25, 39, 40),
    17: (3, 7, 8, 9, 15, 16, 17, 20), 18: (8, 41, 42, 43, 44, 45), 19: (8, 41, 42, 46, 47, 48, 49, 50, 51),
    20: (8, 41, 43, 44, 52, 53, 54), 21: (55, 56, 57, 58, 59, 60), 22: (61, 62, 63, 64, 65, 66, 67),
    23: (55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68), 24: (57, 60, 61, 62, 63, 64, 67),
    25: (55, 56, 58, 59, 65, 66, 68), 26: (8, 41, 44, 49, 50, 51, 69, 70, 71, 72, 74, 75, 76, 77),
    27: (6, 8, 11, 41, 43, 44, 78, 79, 80, 81, 82, 83, 84, 85, 86), 28: (8, 41, 42, 43, 46, 48, 70, 73, 87),
    29: (6, 8, 41, 43, 44, 48, 49, 51, 67, 74, 75, 80, 88, 89, 90),
    30: (8, 11, 41, 43, 44, 48, 67, 75, 76, 81, 85, 88, 91, 92, 93, 94, 95, 96),
    31: (6, 8, 41, 42, 43, 44, 51, 67, 82, 85, 96, 97, 98, 99, 100, 101),
    32: (8, 41, 43, 44, 67, 102, 103, 104, 105, 106),
}  # fmt: skip


def ntu_names():
    for setup, subjects in SUBJECTS.items():
        actions = range(1, 61) if setup < 18 else range(61, 121)
        for subject, view, take, action in itertools.product(subjects, (1, 2, 3), (1, 2), actions):
            yield f"S{setup:03}C{view:03}P{subject:03}R{take:03}A{action:03}"


@pytest.mark.parametrize(
    ("protocol", "recorded", "usable"),
    [
        ("ntu60-xsub", (40_320, 16_560), (40_091, 16_487)),
        ("ntu60-xview", (37_920, 18_960), (37_646, 18_932)),
        ("ntu120-xsub", (63_360, 51_120), (63_026, 50_919)),
        ("ntu120-xset", (54_720, 59_760), (54_468, 59_477)),
    ],
)
def test_ntu_has_the_official_counts(shared, protocol, recorded, usable):
    rules = PROTOCOLS[protocol]
    listed = read_skip_list(shared / "data" / f"{protocol.split('-')[0]}_missing_skeletons.txt")
    counts = {True: [0, 0], False: [0, 0]}
    for name in ntu_names():
        clip = parse_name(name)
        if rules.has(clip):
            test = rules.split(clip) == "test"
            counts[True][test] += 1
            counts[False][test] += name not in listed
    assert (tuple(counts[True]), tuple(counts[False])) == (recorded, usable)


def test_what_a_name_says():
    assert attributes_of_name("S001C002P003R002A013") == {
        "setup": "1", "view": "2", "subject": "3", "replication": "2", "action": "13"
    }  # fmt: skip
    assert attributes_of_name("a12_s10_e05_v03") == {
        "action": "12",
        "subject": "10",
        "episode": "5",
        "view": "3",
    }
    assert attributes_of_name("a1_s2_t3_skeleton") == {"action": "1", "subject": "2", "trial": "3"}
    assert attributes_of_name("walk_sam") == {}


@pytest.fixture
def clips():
    """Forty clips, two of each class by each of ten subjects."""
    places = np.arange(40)
    subjects = [str(place // 4 + 1) for place in places]
    return Choosable([f"clip{place}" for place in places], places % 2, {"subject": subjects}, "here")


def where(splits, split):
    return [place for place, one in enumerate(splits) if one == split]


def test_by_an_attribute(clips):
    assert where(clips.splits("subject=1, 10", None), "train") == [0, 1, 2, 3, 36, 37, 38, 39]
    both = clips.splits("subject=1", "subject=2")
    assert (
        where(both, "train") == [0, 1, 2, 3] and where(both, "test") == [4, 5, 6, 7] and both[8:] == [""] * 32
    )


def test_by_a_list(clips, tmp_path):
    file = tmp_path / "train list.txt"
    file.write_bytes("\ufeffclip3\r\nclip7.skeleton\r\n\r\n".encode())
    assert where(clips.splits(f"list={file}", None), "train") == [3, 7]
    file.write_text("clip3\nclip99\n")
    with pytest.raises(
        InputError, match=r"names of clips in .*, such as clip0, found 1 that are none: clip99"
    ):
        clips.splits(f"list={file}", None)
    with pytest.raises(InputError, match=r"test: expected a list of clip names, found: .*No such file"):
        clips.splits(None, "list=nowhere.txt")


def test_a_share_is_drawn_of_every_class_or_of_the_subjects(clips):
    first = clips.splits("ratio=0.75,seed=3", None)
    assert first == clips.splits("ratio=0.75, seed=3", None) != clips.splits("ratio=0.75,seed=4", None)
    assert sorted(clips.labels[where(first, "train")].tolist()) == [0] * 15 + [1] * 15
    by_subject = clips.splits("ratio=0.8,by=subject", None)
    train, test = (set(clips.attributes["subject"][where(by_subject, one)]) for one in ("train", "test"))
    assert len(train) == 8 and len(test) == 2 and not train & test


@pytest.mark.parametrize(
    ("rule", "folds"), [("fold={}/5", 5), ("fold={}/4,by=subject,seed=1", 4), ("fold={}/all,by=subject", 10)]
)
def test_every_clip_is_in_one_fold(clips, rule, folds):
    parts = [where(clips.splits(None, rule.format(fold)), "test") for fold in range(1, folds + 1)]
    assert sorted(itertools.chain(*parts)) == list(range(40)) and all(parts)
    if "subject" in rule:
        held = [set(clips.attributes["subject"][part]) for part in parts]
        assert all(not a & b for a, b in itertools.combinations(held, 2))
    else:
        assert all(sorted(clips.labels[part].tolist()) == [0] * 4 + [1] * 4 for part in parts)


def test_leaving_one_out_goes_by_the_order_of_numbers(clips):
    assert where(clips.splits(None, "fold=10/all,by=subject"), "test") == [36, 37, 38, 39]
    assert where(clips.splits(None, "fold=2/all,by=subject"), "test") == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("subject", "expected attribute=value"),
        ("view=1", r"an attribute among subject, or list=FILE, ratio=0.8 or fold=1/5, found 'view=1'"),
        ("subject=11", r"in here \(1, 2, 3, 4, 5, 6, 7, 8, 9, 10\), found 11"),
        ("ratio=1.5", "a ratio between 0 and 1"),
        ("ratio=half", "a ratio between 0 and 1"),
        ("ratio=0.5,sead=1", "seed=NUMBER and by=ATTRIBUTE out of subject, found 'ratio=0.5,sead=1'"),
        ("ratio=0.5,by=view", "by=ATTRIBUTE out of subject"),
        ("fold=6/5", "of at least two folds"),
        ("fold=1/1", "of at least two folds"),
        ("fold=1/11,by=subject", "at most 10 of subject"),
        ("fold=1/all", "fold=NUMBER/all with by=ATTRIBUTE"),
        ("fold=11/all,by=subject", r"a fold of 1 … 10, one for each subject"),
    ],
)
def test_rules_that_cannot_be(clips, rule, message):
    with pytest.raises(InputError, match=f"train: .*{message}"):
        clips.splits(rule, None)
    with pytest.raises(
        InputError, match="expected no clip in train='subject=1,2' and test='subject=2', found 4"
    ):
        clips.splits("subject=1,2", "subject=2")


def test_rules_take_the_place_of_a_format_s_own_splits(shared, tmp_path):
    source = shared / "data" / "ntu_skeletons"
    words = ["prepare", "ntu", f"--source={source}", "--protocol=ntu60-xsub", "--workers=1", "--frames=4"]
    assert main([*words, "--train=view=1", "--test=view=3", f"--out={tmp_path / 'a'}"]) == 0
    dataset = open_dataset(tmp_path / "a")
    assert {name[4:8] for name in dataset["train"].names} == {"C001"}
    assert {name[4:8] for name in dataset["test"].names} == {"C003"}
    assert dataset.prepared["train"] == "view=1"
    assert main([*words, "--train=setup=99", f"--out={tmp_path / 'b'}"]) == 2
