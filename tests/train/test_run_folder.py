"""Who may train in a folder, and what is cleared away there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gensoup.runtime.errors import UsageError, WriteError
from gensoup.train.run_folder import CACHE, CONFIG_FILE, check_out, held


def test_new_empty_and_hardly_begun_folders_may_be_taken(tmp_path: Path) -> None:
    check_out(tmp_path / "new", resume=False)
    check_out(tmp_path, resume=False)
    stale = tmp_path / f".{CONFIG_FILE}.abcd1234.tmp"  # killed within its very first write
    stale.touch()
    check_out(tmp_path, resume=False)
    with held(tmp_path):
        assert not stale.exists()


def test_other_folders_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no run in .* leave the option out"):
        check_out(tmp_path, resume=True)
    with pytest.raises(UsageError, match=r"'\?' cannot stand"):
        check_out(tmp_path / "why?", resume=False)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UsageError, match="not an empty folder"):
        check_out(tmp_path, resume=False)
    with pytest.raises(UsageError, match="not an empty folder"):
        check_out(tmp_path / "thesis.txt", resume=False)
    (tmp_path / CONFIG_FILE).touch()
    check_out(tmp_path, resume=True)
    with pytest.raises(UsageError, match="by --resume"):
        check_out(tmp_path, resume=False)


def test_decoded_images_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / CACHE).mkdir()
    (tmp_path / CACHE / "32.npy").touch()
    with held(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    program = f"""
import sys
from pathlib import Path
from gensoup.train.run_folder import held
with held(Path({str(tmp_path)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match="another process trains there"), held(tmp_path):
            pass
        other.kill()
        other.wait()
    with held(tmp_path):
        pass
    with held(tmp_path):  # let go of
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="run: cannot be written"), held(tmp_path / "file" / "run"):
        pass
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208
