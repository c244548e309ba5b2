"""The forms of other codebases: clips written in each are those of the direct way, and odd files are read."""

import pickle
import zipfile

import numpy as np
import pytest

from ikem_fast.data import FORMATS, open_dataset, preprocess_clips, read_skeleton
from ikem_fast.data.formats.agcn import count_frames
from ikem_fast.data.preparation import Preparation, Preprocessing, preparing
from ikem_fast.errors import InputError
from tests.data import foreign
from tests.data.foreign import Raw, some_clips
from tests.helpers import contents

TAKEN = 40  # clips of a dataset


PLANAR = Preprocessing(planar=True, align="none")


def preprocessed(raw, layout="ntu-rgb+d", preprocessing=None):
    (clip,) = preprocess_clips([raw], layout=layout, preprocessing=preprocessing)
    return clip.coordinates, clip.frames


def real_clips(shared, dataset):
    """Raw clips of real people, and their layout."""
    if dataset == "ntu":
        paths = sorted((shared / "data" / "ntu_skeletons").glob("*.skeleton"))
        raws = [(path.stem, int(path.stem[-3:]) - 1, read_skeleton(path).clip()) for path in paths]
        layout, raws = "ntu-rgb+d", [raw for raw in raws if raw[2].any()]
    else:
        packed = np.load(shared / "data" / f"{dataset}.npz")
        layout = {"utd_mhad": "utd-mhad", "nw_ucla": "kinect-v1", "sbu": "sbu"}[dataset]
        x = packed["x"] if packed["x"].ndim == 4 else packed["x"][..., None]
        parts = np.split(x, np.cumsum(packed["len"])[:-1])
        every = len(parts) // TAKEN
        raws = [
            (f"clip-{i}", int(packed["y"][i]), parts[i].transpose(2, 0, 1, 3))
            for i in range(0, len(parts), every)
        ]
    clips = [Raw(name, label, "train" if i % 4 else "test", raw) for i, (name, label, raw) in enumerate(raws)]
    return clips, layout


def write(form, folder, clips, layout, **options):
    """Write clips in a form; returns the source and the options that its `prepare` needs."""
    if form == "pyskl":
        return foreign.write_pyskl(folder / "annotations.pkl", clips, **options), {"layout": layout}
    if form == "ctrgcn":
        return foreign.write_ctrgcn(folder / "CS.npz", clips, **options), {"layout": layout}
    if form == "crossclr":
        foreign.write_crossclr(folder, clips, lambda raw: preprocessed(raw, layout), **options)
    else:
        foreign.write_agcn(folder, clips, **options)
    return folder, {"layout": layout}


FORMS = [
    ("crossclr", {}),
    ("agcn", {}),
    ("agcn", {"counts": False}),
    ("agcn", {"counts": False, "again": True}),
    ("ctrgcn", {}),
    ("ctrgcn", {"compress": True}),
    ("pyskl", {}),
]


@pytest.mark.parametrize("dataset", ["ntu", "utd_mhad", "nw_ucla", "sbu"])
def test_foreign_forms_give_the_clips_of_the_direct_way(shared, tmp_path, dataset):
    clips, layout = real_clips(shared, dataset)
    direct = {clip.name: preprocessed(clip.coordinates, layout) for clip in clips}
    for number, (form, options) in enumerate(FORMS):
        folder = tmp_path / str(number)
        folder.mkdir()
        source, settings = write(form, folder, clips, layout, **options)
        prepared = FORMATS[form].prepare(tmp_path / f"{number}-out", source, **settings)
        assert prepared.skipped == () and prepared.layout == layout
        for split in ("train", "test"):
            expected = [clip for clip in clips if clip.split == split]
            assert prepared[split].labels.tolist() == [clip.label for clip in expected]
            if form == "ctrgcn":  # which loses names, and with them subjects and what classes are called
                assert prepared[split].names[0] == f"{split}-00" and prepared[split].subjects is None
            else:
                assert prepared[split].names.tolist() == [clip.name for clip in expected]
            for row, clip in enumerate(expected):
                coordinates, frames = direct[clip.name]
                if form == "ctrgcn":  # which moves a clip, in float32: that rounds
                    moved, _ = preprocessed(foreign.moved(clip.coordinates), layout)
                    np.testing.assert_allclose(moved, coordinates, atol=1e-5, rtol=0)
                    coordinates = moved
                np.testing.assert_allclose(prepared[split].clips[row], coordinates, atol=1e-6, rtol=0)
                assert prepared[split].frames[row] == frames
        if dataset == "ntu" and form != "ctrgcn":
            assert prepared["train"].subjects.tolist() == [
                str(int(clip.name[9:12])) for clip in clips if clip.split == "train"
            ]
            assert prepared.classes[22] == "wave hand" and len(prepared.classes) == 60


def test_what_padded_forms_lose(tmp_path):
    """Frames beyond the array; with the rest, a clip is what it is of its first 300."""
    raw = np.random.default_rng(0).normal(size=(3, 330, 25, 1)).astype(np.float32)
    clips = [Raw("long", 0, "train", raw), Raw("other", 1, "test", raw)]
    cut, frames = preprocessed(foreign.moved(raw[:, :300]))
    for form in ("agcn", "ctrgcn"):
        (tmp_path / form).mkdir()
        source, settings = write(form, tmp_path / form, clips, "ntu-rgb+d")
        prepared = FORMATS[form].prepare(tmp_path / f"{form}-out", source, **settings)
        np.testing.assert_allclose(prepared["train"].clips[0], cut, atol=1e-4, rtol=0)
        assert prepared["train"].frames.tolist() == [frames] == [300]


def test_frames_of_a_padded_clip_are_counted():
    raw = np.random.default_rng(0).normal(size=(3, 40, 5, 1))
    again = np.resize(raw.swapaxes(0, 1), (300, 3, 5, 1)).swapaxes(0, 1)
    zeros = np.pad(raw, ((0, 0), (0, 260), (0, 0), (0, 0)))
    assert count_frames(raw) == count_frames(again) == count_frames(zeros) == 40
    again[0, 299] += 1
    assert count_frames(again) == 300, "what does not repeat to the end was not padded"
    raw[:, 20:23] = raw[:, :3]
    assert count_frames(raw) == 40
    assert count_frames(np.zeros((3, 10, 5, 1))) == 0


@pytest.mark.parametrize(
    ("change", "about"),
    [
        (lambda x: x.astype(np.float64), "wide"),
        (lambda x: x.astype(np.float16).astype(np.float32), "as it was"),
        (np.asfortranarray, "in Fortran order"),
        (lambda x: x.astype(">f4"), "big endian"),
        (lambda x: np.round(x * 100).astype(np.int32), "integers"),
        (lambda x: x[:1], "one clip"),
        (lambda x: x[..., :1], "one body"),
        (lambda x: np.concatenate([x, x[..., :1]], -1), "three bodies"),
        (lambda x: x[:, :2], "two coordinates"),
    ],
)
@pytest.mark.parametrize("form", ["agcn", "crossclr"])
def test_arrays_of_any_type_and_order(tmp_path, form, change, about):
    clips = some_clips()
    write(form, tmp_path, clips, "ntu-rgb+d", protocol=2)
    for path in tmp_path.glob("*_[dp]*.npy"):
        array = change(np.load(path))
        np.save(path, array)
        columns = pickle.loads((path.parent / f"{path.name[:-4].split('_')[0]}_label.pkl").read_bytes())
        foreign.write_pickle(
            path.parent / f"{path.name.split('_')[0]}_label.pkl", [column[: len(array)] for column in columns]
        )
        if (counts := path.parent / path.name.replace("data_joint", "num_frame")) != path:
            np.save(counts, np.load(counts)[: len(array)])
    if (form, about) == ("crossclr", "two coordinates"):
        with pytest.raises(InputError, match="expected usable clips"):
            FORMATS[form].prepare(tmp_path / "out", tmp_path)
        return
    prepared = FORMATS[form].prepare(tmp_path / "out", tmp_path)
    raw = change(foreign.padded(clips[:1]))[0]
    raw = raw.astype(np.float32) if raw.dtype.kind == "i" else raw
    if form == "crossclr":
        raw = change(preprocessed(clips[0].coordinates)[0][None])[0].astype(np.float32)
        np.testing.assert_array_equal(prepared["train"].clips[0], raw)
        return
    if about == "two coordinates":
        raw = np.concatenate([raw, np.zeros_like(raw[:1])])
    choice = PLANAR if about == "two coordinates" else None
    expected, frames = preprocessed(raw[:, : clips[0].coordinates.shape[1]], preprocessing=choice)
    np.testing.assert_array_equal(prepared["train"].clips[0], expected)
    assert prepared["train"].frames[0] == frames and prepared.num_bodies == raw.shape[-1]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([2, 0, 1, 1], ["0", "1", "2"]),
        (["2", "0", "1", "1"], ["0", "1", "2"]),
        (["walk", "sit", "sit", "clap"], ["clap", "sit", "walk"]),
        (np.array([2, 0, 1, 1], ">i8"), ["0", "1", "2"]),
        (np.array(["b", "a", "a", "b"]), ["a", "b"]),
        (np.array(["b", "a", "a", "b"], object), ["a", "b"]),
        ([np.int64(2), 0, 1.0, True - 0], ["0", "1", "2"]),
    ],
)
def test_labels_of_many_kinds(tmp_path, protocol, labels, classes):
    clips = [Raw(f"ö {i}", 0, "train", clip.coordinates) for i, clip in enumerate(some_clips(4))]
    foreign.write_agcn(tmp_path, clips, protocol=protocol)
    names = np.array([clip.name for clip in clips]) if protocol % 2 else [clip.name for clip in clips]
    foreign.write_pickle(tmp_path / "train_label.pkl", (names, labels), protocol)
    prepared = FORMATS["agcn"].prepare(tmp_path / "out", tmp_path)
    assert list(prepared.classes) == classes
    expected = [classes.index(str(label).removesuffix(".0")) for label in labels]
    assert prepared["train"].labels.tolist() == expected
    assert prepared["train"].names.tolist() == [clip.name for clip in clips]


def test_labels_that_are_an_array(tmp_path):
    """An .npy file where a .pkl belongs: labels, or one-hot rows."""
    clips = some_clips(4)
    foreign.write_agcn(tmp_path, [clip._replace(split="train") for clip in clips])
    for labels in (np.array([0, 2, 1, 0]), np.eye(3)[[0, 2, 1, 0]]):
        with (tmp_path / "train_label.pkl").open("wb") as file:
            np.save(file, labels)
        out = tmp_path / f"out{labels.ndim}"
        assert FORMATS["agcn"].prepare(out, tmp_path)["train"].labels.tolist() == [0, 2, 1, 0]
    with (tmp_path / "train_label.pkl").open("wb") as file:
        np.save(file, np.ones((4, 3)))
    with pytest.raises(InputError, match=r"train_label\.pkl: expected one-hot labels"):
        FORMATS["agcn"].prepare(tmp_path / "out", tmp_path)


def test_two_tuples_have_no_frame_counts(shared, tmp_path):
    paths = sorted((shared / "data" / "ntu_skeletons").glob("S001*.skeleton"))[:4]
    clips = [Raw(path.stem, 0, "train", read_skeleton(path).clip()) for path in paths]
    clips.append(clips[0]._replace(split="test"))
    foreign.write_crossclr(tmp_path, clips, preprocessed, counts=False)
    prepare = FORMATS["crossclr"].prepare
    with pytest.raises(InputError, match=r"expected \(names, labels, frame counts\), found no .*--lengths"):
        prepare(tmp_path / "out", tmp_path)
    expected = [preprocessed(clip.coordinates)[1] for clip in clips[:4]]
    by_files = prepare(tmp_path / "a", tmp_path, lengths=str(paths[0].parent))
    assert by_files["train"].frames.tolist() == expected
    lines = [f"{clip.name}.skeleton, {frames}" for clip, frames in zip(clips, expected[:3], strict=False)]
    (tmp_path / "counts.txt").write_bytes("\r\n".join(["\ufeff" + lines[0], *lines[1:], ""]).encode())
    by_list = prepare(tmp_path / "b", tmp_path, lengths=str(tmp_path / "counts.txt"))
    assert by_list["train"].frames.tolist() == expected[:3]
    assert [name for name, _ in by_list.skipped] == [clips[3].name]
    assert set(prepare(tmp_path / "c", tmp_path, lengths="90")["train"].frames) == {90}
    with pytest.raises(InputError, match="expected a name and a count a line"):
        prepare(tmp_path / "d", tmp_path, lengths=str(tmp_path / "no.txt"))


def test_clips_that_are_not_preprocessed_are(tmp_path, capsys):
    clips = some_clips()
    foreign.write_crossclr(tmp_path, clips, lambda raw: (raw[:, :20], 20), counts=False)
    prepared = FORMATS["crossclr"].prepare(tmp_path / "out", tmp_path)
    assert "the root joint is not at zero, so clips are preprocessed anew" in capsys.readouterr().err
    np.testing.assert_array_equal(prepared["train"].clips[0], preprocessed(clips[0].coordinates[:, :20])[0])


def test_pyskl_in_two_coordinates(tmp_path, capsys):
    clips = some_clips(joints=17, bodies=3)
    path = foreign.write_pyskl(tmp_path / "hrnet.pkl", clips, dims=2, scores=True, lie=5)
    raws = list(FORMATS["pyskl"].read(path))
    np.testing.assert_array_equal(raws[0], clips[0].coordinates)
    assert raws[1].shape[3] == 1
    prepared = FORMATS["pyskl"].prepare(tmp_path / "out", path, persons=2)
    assert (prepared.layout, prepared.num_bodies) == ("coco", 2)
    assert "total_frames of 5 clips is not their length" in capsys.readouterr().err
    assert not prepared["train"].clips[1][..., 1].any(), "a person that is missing is zero"
    assert prepared.prepared["planar"] and prepared.prepared["align"] == "none"
    expected, _ = preprocessed(clips[0].coordinates[..., :2], "coco", PLANAR)
    np.testing.assert_array_equal(prepared["train"].clips[0], expected)
    frames = clips[0].coordinates.shape[1]
    still = preprocessed(
        clips[0].coordinates, "coco", Preprocessing(planar=True, align="none", frames=frames)
    )
    np.testing.assert_allclose(still[0][2], clips[0].coordinates[2], atol=1e-6, err_msg="scores are kept")
    without = foreign.write_pyskl(tmp_path / "plain.pkl", clips, dims=2)
    assert not next(FORMATS["pyskl"].read(without))[2].any()


def test_pyskl_as_its_scripts_write_it(tmp_path, capsys):
    """float16 in protocol 2, None for a clip without a body, whose name stays in the splits."""
    clips = some_clips()
    path = foreign.write_pyskl(tmp_path / "ntu60_3danno.pkl", clips)
    content = pickle.loads(path.read_bytes())
    for one in content["annotations"]:
        one["keypoint"] = one["keypoint"].astype(np.float16)
    content["annotations"][1] = None
    foreign.write_pickle(path, content, protocol=2)
    prepared = FORMATS["pyskl"].prepare(tmp_path / "out", path)
    assert prepared["train"].names.tolist() == [clips[0].name, clips[2].name, clips[3].name]
    assert f"1 clips of its splits are not in it: {clips[1].name}\n" in capsys.readouterr().err
    half = clips[0].coordinates.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(prepared["train"].clips[0], preprocessed(half)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": [None]}, "expected annotations, a dict each, found none"),
        ({"annotations": [1, "a"]}, "expected annotations, a dict each, found int and str"),
        ({"label_names": 5}, "expected label_names as a list, found int"),
        ({"keypoint": np.zeros((15, 17, 3))}, r"expected 'keypoint' .* found \(15, 17, 3\)"),
        ({"keypoint": None}, "expected 'keypoint' .* found none"),
        ({"split": {"xsub_train": [], "xsub_val": []}}, "expected 'keypoint' .* found no annotations"),
    ],
)
def test_pickles_that_are_not_pyskls(tmp_path, change, message):
    path = foreign.write_pyskl(tmp_path / "a.pkl", some_clips())
    content = pickle.loads(path.read_bytes())
    if "keypoint" in change:
        change = {"annotations": [{**one, **change} for one in content["annotations"]]}
    foreign.write_pickle(path, {**content, **change}, protocol=2)
    with pytest.raises(InputError, match=rf"a\.pkl: {message}"):
        FORMATS["pyskl"].prepare(tmp_path / "out", path)


def test_splits_of_pyskl_are_chosen(tmp_path):
    clips = some_clips()
    path = foreign.write_pyskl(tmp_path / "a.pkl", clips)
    content = pickle.loads(path.read_bytes())
    content["split"] |= {"xview_train": [clips[0].name], "xview_val": [clips[1].name]}
    foreign.write_pickle(path, content)
    prepare = FORMATS["pyskl"].prepare
    with pytest.raises(
        InputError, match=r"expected --protocol out of its splits \(xsub, xview\), found None"
    ):
        prepare(tmp_path / "out", path)
    with pytest.raises(InputError, match=r"expected --protocol out of .*found 'xset'"):
        prepare(tmp_path / "out", path, protocol="xset")
    one = prepare(tmp_path / "one", path, protocol="xview")
    assert (one["train"].names.tolist(), one["test"].names.tolist()) == ([clips[0].name], [clips[1].name])
    content["split"]["xview_val"].append(clips[0].name)
    foreign.write_pickle(path, content)
    with pytest.raises(InputError, match="expected no clip in two splits, found S001"):
        prepare(tmp_path / "out", path, protocol="xview")
    (tmp_path / "old").mkdir()
    foreign.write_pyskl(tmp_path / "old" / "ntu60_xsub_train.pkl", clips[:3], split=False)
    foreign.write_pyskl(tmp_path / "old" / "ntu60_xsub_val.pkl", clips[3:], split=False)
    old = prepare(tmp_path / "two", tmp_path / "old")
    assert (len(old["train"]), len(old["test"])) == (3, 2)


def test_another_layout_is_named(tmp_path):
    clips = some_clips(joints=17)
    for form in ("agcn", "ctrgcn"):
        (tmp_path / form).mkdir()
        source, _ = write(form, tmp_path / form, clips, "coco")
        with pytest.raises(InputError, match=r"expected 25 joints for layout ntu-rgb\+d, found 17; .*coco"):
            FORMATS[form].prepare(tmp_path / "out", source)


def test_counts_that_lie_are_told(tmp_path, capsys):
    clips = some_clips()
    foreign.write_agcn(tmp_path, clips)
    np.save(tmp_path / "train_num_frame.npy", np.array([10, 0, 999, 5]))
    prepared = FORMATS["agcn"].prepare(tmp_path / "out", tmp_path)
    assert "1 of 4 clips are said to have more than the 300 frames" in capsys.readouterr().err
    assert prepared["train"].frames.tolist() == [10, clips[2].coordinates.shape[1], 5]
    assert prepared.skipped[0][0] == clips[1].name
    np.save(tmp_path / "train_num_frame.npy", np.array([10, 1]))
    with pytest.raises(InputError, match=r"train_num_frame\.npy: expected a number for each of 4 clips"):
        FORMATS["agcn"].prepare(tmp_path / "out", tmp_path)


def test_places_with_odd_names(tmp_path):
    """Spaces, letters of any alphabet, links and archives."""
    folder = tmp_path / "Дані з пробілом" / "x sub"
    folder.mkdir(parents=True)
    foreign.write_agcn(folder, some_clips())
    plain = FORMATS["agcn"].prepare(tmp_path / "plain", folder)
    (tmp_path / "link").symlink_to(folder.parent)
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, f"deep/{path.name}")
    for name, source in (
        ("a", tmp_path / "link"),
        ("b", tmp_path / "all.zip"),
        ("c", folder / "val_label.pkl"),
    ):
        other = FORMATS["agcn"].prepare(tmp_path / name, source)
        np.testing.assert_array_equal(other["train"].clips, plain["train"].clips)
    (tmp_path / "again").mkdir()
    foreign.write_agcn(tmp_path / "again", some_clips())
    with pytest.raises(InputError, match=r"in one folder, found some in each of .*again.*; choose one"):
        FORMATS["agcn"].prepare(tmp_path / "out", tmp_path)


@pytest.mark.parametrize("form", ["crossclr", "pyskl"])
def test_what_is_written_is_read_to_the_same_bits(tiny_dataset, tmp_path, form):
    dataset = open_dataset(tiny_dataset)
    (tmp_path / form).mkdir()
    files = FORMATS[form].write(dataset, tmp_path / form)
    assert sorted(files) == sorted((tmp_path / form).iterdir())
    again = FORMATS[form].prepare(tmp_path / "out", tmp_path / form)
    for name, split in dataset.splits.items():
        for column in ("clips", "frames", "labels", "names"):
            np.testing.assert_array_equal(getattr(again[name], column), getattr(split, column))
    if form == "pyskl":
        assert again.classes == dataset.classes
        np.testing.assert_array_equal(again["test"].subjects, dataset["test"].subjects)
    else:
        names, labels, frames = pickle.loads((tmp_path / form / "val_label.pkl").read_bytes())
        assert frames == dataset["test"].frames.tolist() and len(names) == len(labels)
        assert len(again.classes) == len(dataset.classes), "though not what they are called"
    before = contents(tmp_path / form)
    FORMATS[form].write(dataset, tmp_path / form)
    assert contents(tmp_path / form) == before


def test_what_is_preprocessed_already_is_not_again(tiny_dataset, tmp_path):
    FORMATS["crossclr"].write(open_dataset(tiny_dataset), tmp_path)
    with (
        preparing(Preparation(Preprocessing(frames=64))),
        pytest.raises(InputError, match="frames: expected raw clips"),
    ):
        FORMATS["crossclr"].prepare(tmp_path / "out", tmp_path)
