"""Files are replaced whole or not at all, by one process or several."""

import os
import re
from collections import namedtuple

import pytest

from ikem_fast.errors import InputError
from ikem_fast.files import free_space, replacing, require_space, write_text


def test_what_was_there_stays_whole_until_the_end_and_after_an_error(tmp_path):
    path = tmp_path / "some.json"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as beside:
        beside.write_text("ne")
        assert path.read_text() == "old"
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == ["some.json"] and path.read_text() == "old"
    write_text(path, "new")
    assert [file.name for file in tmp_path.iterdir()] == ["some.json"] and path.read_text() == "new"


def test_two_processes_may_replace_the_same_file_at_a_time(tmp_path, monkeypatch):
    path = tmp_path / "some.json"
    with replacing(path, contended=True) as mine:
        mine.write_text("mine")
        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: 1)
            write_text(path, "theirs", contended=True)
        assert path.read_text() == "theirs"
    assert path.read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["some.json"]


def test_room_is_told_of_what_is_not_there_yet(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10, 3, 7_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage if path == tmp_path else None)
    out = tmp_path / "runs" / "teacher"
    assert free_space(out) == 7_000_000
    require_space(out, 7_000_000, "a checkpoint")
    message = f"{out}: expected 1.55 GB free on its disk for a checkpoint, found 7 MB; make room there"
    with pytest.raises(InputError, match=re.escape(message)):
        require_space(out, 1_550_000_000, "a checkpoint")
