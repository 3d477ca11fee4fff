"""Zip files from strangers, read strictly: nothing in their tables is believed before it is checked.

A zip's tables state sizes and places that a reader tends to trust. Here a member may take no more than it is allowed,
may not share bytes with another, and unpacks to no more than the table says.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Collection

from gensoup.runtime.errors import BundleError

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
# End of the central directory (APPNOTE 4.3.16): disks, entries, the directory's size and place, the comment's length.
_END = struct.Struct("<4s4H2LH")
_ENTRY_BYTES = 1024  # of the directory, for one member: our names are short
_LOCAL_HEADER, _LOCAL_LENGTHS = 30, struct.Struct("<2H")  # at byte 26: of the name and of the extra field
_ZIP64_LOCATOR = b"PK\x06\x07"


class Archive:
    """The members of a zip file held in memory."""

    def __init__(
        self, content: bytes, *, comment: int, most: int, unpacked: int, methods: Collection[int] = (STORED,)
    ) -> None:
        """Check the tables of ``content``.

        comment: bytes of the zip's comment, exactly. most: members at most. unpacked: bytes of all of them at most.
        methods: ways of compression that may occur. Raises BundleError, one line, for anything else, without having
        unpacked or allocated any of it.
        """
        directory = _check_end(content, comment, most)
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(content))
            infos = self._zip.infolist()
        except Exception as error:  # zipfile raises many kinds on foreign bytes, struct's and codecs' too
            raise BundleError(f"damaged ({one_line(error)})") from error
        self._infos = {info.filename: info for info in infos}
        if len(self._infos) != len(infos):
            raise BundleError("two members of one name, no bundle of ours")
        if any(info.compress_type not in methods or info.flag_bits & 1 for info in infos):
            raise BundleError("a member is compressed or encrypted in a way that no bundle of ours is")
        if sum(info.file_size for info in infos) > unpacked:
            raise BundleError(f"unpacks to more than {unpacked >> 20} MiB, no bundle of ours")
        taken = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            if info.header_offset < taken:
                raise BundleError("members share bytes, no bundle of ours")
            taken = _begin_of_bytes(content, info.header_offset) + info.compress_size
        if taken > directory:
            raise BundleError("damaged (a member reaches beyond its place)")

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names, in the order of the zip's directory. They are data, never paths to write to."""
        return tuple(self._infos)

    def read(self, name: str, limit: int) -> bytes:
        """One member's bytes. Raises BundleError when it is larger than ``limit`` or not what its table says."""
        info = self._infos[name]
        if info.file_size > limit:
            raise BundleError(f"{shown(name)} is larger than {limit >> 10} KiB, no bundle of ours")
        try:
            with self._zip.open(info) as member:
                # Never without a number: a forged size would be believed only after all had been unpacked.
                content = member.read(info.file_size) if info.file_size else b""
        except Exception as error:  # zipfile and zlib raise many kinds
            raise BundleError(f"damaged ({shown(name)}: {one_line(error)})") from error
        if len(content) != info.file_size:
            raise BundleError(f"damaged ({shown(name)} is shorter than its table says)")
        return content


def _check_end(content: bytes, comment: int, most: int) -> int:
    """Where the zip's directory begins, after its last record was found plausible where it must be."""
    place = len(content) - comment - _END.size
    if place < 0:
        raise BundleError("damaged (too short for a zip file)")
    magic, disk, first_disk, here, entries, size, start, said = _END.unpack_from(content, place)
    if magic != b"PK\x05\x06" or said != comment:
        raise BundleError("damaged (the zip's directory is not where it must be)")
    if disk or first_disk or here != entries or content[max(0, place - 20) : place].startswith(_ZIP64_LOCATOR):
        raise BundleError("a zip of several parts or of more than 4 GiB, no bundle of ours")
    if entries > most or size > entries * _ENTRY_BYTES:
        raise BundleError(f"more than {most} members or too long names, no bundle of ours")
    if start + size != place:
        raise BundleError("damaged (the zip's directory does not end where it says)")
    return int(start)


def _begin_of_bytes(content: bytes, offset: int) -> int:
    """Where a member's own header ends and its bytes begin."""
    if offset + _LOCAL_HEADER > len(content):
        raise BundleError("damaged (a member lies beyond the file's end)")
    return offset + _LOCAL_HEADER + sum(_LOCAL_LENGTHS.unpack_from(content, offset + 26))


def one_line(error: Exception) -> str:
    """What an exception says, in one short line fit for a terminal, whoever worded it."""
    return shown(str(error) or type(error).__name__)


def shown(text: str, most: int = 160) -> str:
    """Foreign text in one short line: what would steer a terminal, or break the line, becomes a space."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text[: 4 * most]).split())
    return line if len(line) <= most else line[: most - 1] + "…"
