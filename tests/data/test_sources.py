"""Files in folders and archives: found in one order wherever they lie, read in place and within bounds."""

import io
import os
import zipfile

import pytest

from ikem_fast.data.sources import SourceFile, find_files, find_together
from ikem_fast.errors import InputError


def make_zip(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_one_order_wherever_they_lie(tmp_path):
    (tmp_path / "deep" / "down").mkdir(parents=True)
    for place in ("c.txt", "deep/a.txt", "deep/down/e.txt", "deep/.hidden.txt", "other.md"):
        (tmp_path / place).write_text(place)
    make_zip(
        tmp_path / "deep" / "more.zip",
        {"in/b.txt": "b", "__MACOSX/in/._b.txt": "x", "d.txt": "d", "d.md": ""},
    )
    files = find_files(tmp_path, ".txt")
    assert [file.stem for file in files] == list("abcde")
    assert [file.read(100).decode()[-5:] for file in files] == ["a.txt", "b", "c.txt", "d", "e.txt"]
    assert [file.size for file in files] == [10, 1, 5, 1, 15]
    assert str(files[1]).endswith("more.zip/in/b.txt")


def test_one_archive(tmp_path):
    path = make_zip(tmp_path / "all.zip", {"a.txt": "a", "b.txt": "b"}, compression=zipfile.ZIP_DEFLATED)
    assert [file.read(1) for file in find_files(path, ".txt")] == [b"a", b"b"]


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="found nothing there"):
        find_files(tmp_path / "missing", ".txt")
    with pytest.raises(InputError, match=r"expected \.txt files there .* found none"):
        find_files(tmp_path, ".txt")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match=r"broken\.zip: expected a \.zip archive"):
        find_files(tmp_path, ".txt")


def test_members_stay_inside(tmp_path):
    names = ["../../escape.txt", "/absolute.txt", "C:\\windows.txt"]
    path = make_zip(tmp_path / "hostile.zip", dict.fromkeys(names, "harm"))
    assert [file.read(10) for file in find_files(path, ".txt")] == [b"harm"] * 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["hostile.zip"]


def test_too_large(tmp_path):
    bomb = make_zip(tmp_path / "bomb.zip", {"zeros.txt": bytes(10_000_000)}, compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 20_000
    with pytest.raises(ValueError, match="expected at most 1000 bytes, found 10000000"):
        find_files(bomb, ".txt")[0].read(1000)
    (tmp_path / "plain.txt").write_bytes(bytes(1001))
    with pytest.raises(ValueError, match="expected at most 1000 bytes, found 1001"):
        SourceFile(tmp_path / "plain.txt").read(1000)


def test_lying_size(tmp_path):
    """A member that says it is smaller than it is gives an error, not more than it says."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", bytes(100_000))
    lying = content.getvalue().replace((100_000).to_bytes(4, "little"), (500).to_bytes(4, "little"))
    (tmp_path / "lying.zip").write_bytes(lying)
    with pytest.raises(ValueError, match="cannot be read: Bad CRC-32"):
        find_files(tmp_path / "lying.zip", ".txt")[0].read(1000)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_damaged_member(tmp_path, keep):
    text = "".join(map(str, range(5000)))
    path = make_zip(tmp_path / "damaged.zip", {"a.txt": text}, compression=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    middle = int(keep * (len(content) - 200)) + 50
    content[middle : middle + 20] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        find_files(path, ".txt")[0].read(1 << 20)


def test_other_compressions_are_refused(tmp_path):
    """Their readers do not bound what one read may give."""
    path = make_zip(tmp_path / "odd.zip", {"a.txt": "a"}, compression=zipfile.ZIP_BZIP2)
    with pytest.raises(ValueError, match="expected a stored or deflated member, found compression 12"):
        find_files(path, ".txt")[0].read(10)


def test_encrypted_member(tmp_path):
    path = make_zip(tmp_path / "secret.zip", {"a.txt": "a"})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag of the member, then of the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be read: .*encrypted"):
        find_files(path, ".txt")[0].read(10)


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read: .*No such file"):
        SourceFile(tmp_path / "gone.txt").read(10)


def test_linked_folders_are_searched_once(tmp_path):
    (tmp_path / "raw" / "one").mkdir(parents=True)
    (tmp_path / "raw" / "one" / "a.txt").write_text("a")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.txt").write_text("b")
    (tmp_path / "raw" / "two").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "raw" / "again").symlink_to(tmp_path / "raw" / "one")
    (tmp_path / "raw" / "one" / "up").symlink_to(tmp_path / "raw")
    files = find_files(tmp_path / "raw", ".txt")
    assert [file.read(1) for file in files] == [b"a", b"b"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (file,) = find_files(tmp_path, ".txt")
    with pytest.raises(ValueError, match="cannot be read: expected a regular file, found a pipe"):
        file.read(10)
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(InputError, match=r"pipe\.zip: expected a \.zip .*expected a regular file"):
        find_files(tmp_path, ".txt")


def test_devices_are_not_opened(tmp_path):
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    (file,) = find_files(tmp_path, ".txt")
    with pytest.raises(ValueError, match="expected a regular file"):
        file.read(10)


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_folders_that_cannot_be_searched_are_named(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(InputError, match="closed: expected a folder that can be searched"):
        find_files(tmp_path, ".txt")


def test_a_file_is_found_with_those_beside_it_alone(tmp_path):
    """Whatever lies below its folder, or has another name, is none of its."""
    (tmp_path / "deep").mkdir()
    for place in ("train_data.npy", "train_label.pkl", "clip.npz", "deep/train_data.npy"):
        (tmp_path / place).write_text("")
    names = ["train_data.npy", "train_label.pkl", "val_data.npy"]
    found = find_together(tmp_path / "train_label.pkl", names)
    assert {name: file.path for name, file in found.items()} == {name: tmp_path / name for name in names[:2]}
    with pytest.raises(InputError, match=r"clip\.npz: expected .*, found a file of another name"):
        find_together(tmp_path / "clip.npz", names)
