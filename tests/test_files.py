"""Files are replaced whole or not at all, by one process or several."""

import os

import pytest

from ikem_fast.files import replacing, write_text


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
