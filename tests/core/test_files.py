"""Files are written whole or not at all."""

import os

import pytest

from mdbench.core.errors import InputError
from mdbench.core.files import check_writable, make_folder, write_text, write_whole


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fails(temporary):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"cannot write .*a\.txt': No space left on device"):
        write_whole(path, fails)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_cannot_be_written_is_said_beforehand(tmp_path):
    with pytest.raises(InputError, match="it is a folder"):
        check_writable(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        check_writable(tmp_path / "no" / "a.txt")
    with pytest.raises(InputError, match="not an ordinary file"):  # else `--out /dev/null` would replace it
        check_writable("/dev/null")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot make the folder"):
        make_folder(tmp_path / "file" / "below")
