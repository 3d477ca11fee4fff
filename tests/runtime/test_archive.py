"""Zip files whose tables lie: sizes, places and numbers of members, each forged by hand."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gensoup.runtime.archive import DEFLATED, STORED, Archive, one_line, shown
from gensoup.runtime.errors import BundleError

A, B = b"first member" * 10, b"second"
MIB = 1 << 20


def zipped(method: int = STORED, comment: bytes = b"") -> bytearray:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a", A)
        archive.writestr("b", B)
        archive.comment = comment
    return bytearray(buffer.getvalue())


def opened(content: bytes | bytearray, comment: int = 0) -> Archive:
    return Archive(bytes(content), comment=comment, most=4, unpacked=MIB, methods=(STORED, DEFLATED))


def refusal(content: bytes | bytearray, comment: int = 0) -> str:
    with pytest.raises(BundleError) as caught:
        archive = opened(content, comment)
        for name in archive.names:
            archive.read(name, MIB)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@contextmanager
def little_memory() -> Iterator[None]:
    """Fails when more than 2 MiB were taken inside, at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()


def directory(content: bytes | bytearray, number: int) -> int:
    """Where the entry of a member begins in the zip's directory."""
    place = content.index(b"PK\x01\x02")
    return place if number == 0 else content.index(b"PK\x01\x02", place + 1)


def forged(content: bytearray, entry: int, field: int, form: str, value: int) -> bytearray:
    struct.pack_into(form, content, directory(content, entry) + field, value)
    return content


@pytest.mark.parametrize("method", [STORED, DEFLATED])
@pytest.mark.parametrize("comment", [b"", b"c" * 64])
def test_whole_files_are_read(method: int, comment: bytes) -> None:
    archive = opened(zipped(method, comment), len(comment))
    assert archive.names == ("a", "b")
    assert (archive.read("a", MIB), archive.read("b", MIB)) == (A, B)


def test_the_comment_is_as_long_as_it_must_be() -> None:
    assert "directory is not where" in refusal(zipped(comment=b"c" * 63), 64)
    assert "too short" in refusal(b"PK", 64)


def test_a_member_over_its_limit_is_not_unpacked() -> None:
    with pytest.raises(BundleError, match="larger than"):
        opened(zipped()).read("a", len(A) - 1)
    assert opened(zipped()).read("a", len(A)) == A


def test_sizes_add_up_to_the_limit() -> None:
    assert "unpacks to more" in refusal(forged(zipped(DEFLATED), 0, 24, "<L", 2 * MIB))
    assert "unpacks to more" in refusal(forged(zipped(DEFLATED), 0, 24, "<L", 0xFFFFFFFE))


def test_a_forged_size_unpacks_no_more_than_it_says() -> None:
    """40 MB of zeros behind a table that says 100 bytes: whoever unpacks first and cuts later takes all of them."""
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = bomb.compress(bytes(40 * MIB)) + bomb.flush()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", DEFLATED) as archive:
        archive.writestr("a", b"x")
    content = buffer.getvalue()
    place = content.index(b"PK\x01\x02")
    head, table = bytearray(content[:31]), bytearray(content[place:])
    for target, at in ((head, 18), (table, 20)):
        struct.pack_into("<LL", target, at, len(packed), 100)
    end = len(table) - 22
    struct.pack_into("<L", table, end + 16, len(head) + len(packed))
    content = bytes(head) + packed + bytes(table)
    with little_memory():
        assert "damaged" in refusal(content)


def test_a_member_shorter_than_it_says_is_damaged() -> None:
    assert "damaged" in refusal(forged(zipped(DEFLATED), 0, 24, "<L", len(A) + 1))


def test_a_wrong_checksum_is_damaged() -> None:
    assert "CRC" in refusal(forged(zipped(), 1, 16, "<L", 12345))


def test_two_members_of_one_name_are_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", A)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", B)
    assert "one name" in refusal(buffer.getvalue())


def test_members_that_share_bytes_are_refused() -> None:
    content = zipped()
    struct.pack_into("<L", content, directory(content, 0) + 20, len(A) + 5)
    assert "share bytes" in refusal(content)
    same = zipped()
    struct.pack_into("<L", same, directory(same, 1) + 42, 0)
    assert "share bytes" in refusal(same)
    hidden = zipped()  # the first one's own header claims a longer extra field, which reaches into the second
    struct.pack_into("<H", hidden, 28, 10)
    assert "share bytes" in refusal(hidden)


def test_members_beyond_the_end_are_refused() -> None:
    assert "beyond" in refusal(forged(zipped(), 1, 42, "<L", 100_000))
    assert "beyond" in refusal(forged(zipped(), 1, 20, "<L", len(B) + 1))


@pytest.mark.parametrize("method", [12, 14, 99])
def test_other_compressions_are_refused(method: int) -> None:
    assert "compressed or encrypted" in refusal(forged(zipped(), 0, 10, "<H", method))


def test_encrypted_members_are_refused() -> None:
    assert "compressed or encrypted" in refusal(forged(zipped(), 0, 8, "<H", 1))


def test_more_members_than_allowed_are_refused_before_they_are_listed() -> None:
    entry = zipped()[directory(zipped(), 0) : directory(zipped(), 1)]
    table = bytes(entry) * 400_000
    for entries in (2, 60_000):
        content = table + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, entries, entries, len(table), 0, 0)
        with little_memory():
            assert "more than 4 members" in refusal(content)


def test_large_and_split_zips_are_refused() -> None:
    content = zipped()
    place = len(content) - 22
    content[place - 20 : place - 16] = b"PK\x06\x07"
    assert "several parts" in refusal(content)
    content = zipped()
    struct.pack_into("<H", content, len(content) - 18, 1)
    assert "several parts" in refusal(content)


def test_bytes_before_the_zip_are_refused() -> None:
    assert "does not end where" in refusal(b"#!/bin/sh\n" + zipped())


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31mred", "a\u2028b", "\ud800", "x" * 500, "  two   words "])
def test_foreign_words_are_shown_in_one_short_line(text: str) -> None:
    line = one_line(ValueError(text))
    assert line == shown(text)
    assert line.isprintable()
    assert 0 < len(line) <= 160 or text == "\ud800"
    assert shown("Barrett’s 食道") == "Barrett’s 食道"
