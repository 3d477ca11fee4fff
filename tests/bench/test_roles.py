"""``roles.csv``."""

from __future__ import annotations

from pathlib import Path

import pytest

from gensoup.bench.roles import ROLES_FILE, read_roles, write_roles
from gensoup.runtime.errors import DataError

ROLES = {
    "train": ("polyp/a.jpg", 'lésion plate/with, comma "and" quotes.png'),
    "search": ("7/1.png",),
    "soup": ("7/2.png",),
    "test": ("7/3.png", "polyp/b.jpg"),
}


def test_round_trip_of_awkward_names(tmp_path: Path) -> None:
    write_roles(tmp_path / ROLES_FILE, ROLES)
    assert read_roles(tmp_path / ROLES_FILE) == ROLES
    assert (tmp_path / ROLES_FILE).read_text(encoding="utf-8").splitlines()[0] == "file,role"
    assert [path.name for path in tmp_path.iterdir()] == [ROLES_FILE]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"roles\.csv") as error:
        read_roles(tmp_path / ROLES_FILE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [b"a,b\n1,2\n", b"file,group\nx.jpg,1\n", b"\xff\xfe\x00\x01binary", b"file,role\nx.jpg\n", b"\x00\x01\x02"],
)
def test_a_foreign_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ROLES_FILE
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"roles\.csv") as error:
        read_roles(path)
    assert "\n" not in str(error.value)
