"""Opens a thousand damaged bundles in a process of its own, whose memory nobody else adds to, and says how it went.

    python damage.py SMALL.gensoup KEY.pub EXAMPLES

SMALL is a whole bundle, signed by KEY. Prints one JSON object: how many of each kind were opened, what they were
answered, the most memory (MiB) and the longest time (s) of one.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gensoup.runtime.bundle import Bundle, read_bundle
from gensoup.runtime.errors import BundleError
from gensoup.runtime.seal import unseal

Members = dict[str, bytes]
Damage = tuple[str, bytes]

ZEROS = zlib.compressobj(9, zlib.DEFLATED, -15)
BOMB_BYTES = 300 << 20
BOMB = ZEROS.compress(bytes(BOMB_BYTES)) + ZEROS.flush()  # 300 MB of zeros in 300 kB
ESCAPES = (
    "../model.onnx",
    "/etc/passwd",
    "a/../../b",
    "C:\\x",
    "..\\x",
    "model.onnx/",
    ".",
    "",
    "\x00",
    "nul\nname",
    "é" * 99,
)
NUMBERS = ("schema_version", "macs", "parameters")
NO_NUMBERS = st.sampled_from(
    [-1, -1e9, float("nan"), float("inf"), -float("inf"), 1e308, 2**80, "1", None, True, [], {}]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED, comment: bytes = b"0" * 64) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
        archive.comment = comment
    return buffer.getvalue()


def bombed(name: str, others: Members, said: int, comment: bytes) -> bytes:
    """A zip whose member ``name`` is 300 MB of zeros, deflated, of which its tables say ``said`` bytes."""
    content = bytearray(zipped([*others.items(), (name, b"")], comment=comment))
    directory = content.rindex(b"PK\x01\x02")
    local = struct.unpack_from("<L", content, directory + 42)[0]
    checksum = zlib.crc32(bytes(said)) if said <= 1 << 20 else 0
    for place in (local + 8, directory + 10):
        struct.pack_into("<H", content, place, zipfile.ZIP_DEFLATED)
    for place in (local + 14, directory + 16):
        struct.pack_into("<3L", content, place, checksum, len(BOMB), said)
    start = content.index(b"PK\x01\x02")
    end = content.rindex(b"PK\x05\x06")
    struct.pack_into("<L", content, end + 16, start + len(BOMB))
    return bytes(content[:start]) + BOMB + bytes(content[start:])


def npy(shape: tuple[int, ...], kind: str, data: bytes) -> bytes:
    """An array file that states ``shape`` and ``kind``, whatever its data are."""
    header = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


class Maker:
    """Strategies for every kind of damage to one bundle."""

    def __init__(self, path: Path) -> None:
        self.signed = path.read_bytes()
        self.whole = unseal(self.signed).unsigned
        with zipfile.ZipFile(io.BytesIO(self.whole)) as archive:
            self.members: Members = {name: archive.read(name) for name in archive.namelist()}
            self.directory = archive.start_dir
        self.manifest = json.loads(self.members["manifest.json"])
        with np.load(io.BytesIO(self.members["golden.npz"])) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}

    def refused(self) -> st.SearchStrategy[Damage]:
        """What must be refused, without exception."""
        flips = self._kind("flipped bits", self._flipped(self.signed, 0))
        tables = self._kind("flipped bits of the tables", self._flipped(self.signed, self.directory))
        return st.one_of(
            flips,
            tables,
            self._kind("truncated", st.integers(0, len(self.signed) - 1).map(lambda length: self.signed[:length])),
            self._kind("longer", st.binary(min_size=1, max_size=80).map(lambda more: self.signed + more)),
            self._kind("spliced", self._spliced()),
            self._kind("noise", st.binary(max_size=400)),
            self._kind("noise, sealed", st.binary(max_size=400).map(lambda noise: self._sealed(b"PK" + noise))),
            self._kind("swapped members", self._swapped()),
            self._kind("missing members", self._missing()),
            self._kind("escaping paths", self._escaping()),
            self._kind("two of one name", self._doubled()),
            self._kind("overlapping members", self._overlapping()),
            self._kind("zip bombs", self._bombs()),
            self._kind("hollow arrays", self._hollow()),
            self._kind("bombs in golden.npz", self._golden_bombs()),
            self._kind("foreign golden.npz", st.binary(max_size=200).map(self._with_golden)),
            self._kind("deep JSON", self._deep()),
            self._kind("newer schemas", st.integers(2, 2**40).map(lambda number: self._with(schema_version=number))),
            self._kind("numbers that are none", self._wrong_numbers()),
            self._kind("foreign manifests", JSON.map(lambda value: self._manifest(json.dumps(value).encode()))),
            self._kind("foreign parts of the manifest", self._parts()),
        )

    def resealed(self) -> st.SearchStrategy[Damage]:
        """Flipped bits whose digest was made anew: refused, or without effect, or caught by the signature alone."""
        places = self._flipped(self.whole, 0) | self._flipped(self.whole, self.directory)
        return self._kind("flipped and sealed again", places.map(lambda content: self._sealed(content[:-64])))

    @staticmethod
    def _kind(name: str, contents: st.SearchStrategy[bytes]) -> st.SearchStrategy[Damage]:
        return contents.map(lambda content: (name, content))

    @staticmethod
    def _sealed(body: bytes) -> bytes:
        return body + hashlib.sha256(body).hexdigest().encode()

    def _zip(self, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
        return self._sealed(zipped(members, method)[:-64])

    def _manifest(self, text: bytes) -> bytes:
        return self._zip(list({**self.members, "manifest.json": text}.items()))

    def _with(self, **changes: Any) -> bytes:
        return self._manifest(json.dumps({**self.manifest, **changes}).encode())

    def _with_golden(self, content: bytes) -> bytes:
        digests = {**self.manifest["members"], "golden.npz": hashlib.sha256(content).hexdigest()}
        manifest = json.dumps({**self.manifest, "members": digests}).encode()
        return self._zip(list({**self.members, "manifest.json": manifest, "golden.npz": content}.items()))

    @staticmethod
    def _flipped(content: bytes, first: int) -> st.SearchStrategy[bytes]:
        def flip(bits: set[int]) -> bytes:
            damaged = bytearray(content)
            for bit in bits:
                damaged[bit >> 3] ^= 1 << (bit & 7)
            return bytes(damaged)

        return st.sets(st.integers(first * 8, len(content) * 8 - 1), min_size=1, max_size=4).map(flip)

    def _spliced(self) -> st.SearchStrategy[bytes]:
        ends = st.tuples(*[st.integers(0, len(self.signed))] * 3)
        made = ends.map(lambda cut: self.signed[: cut[0]] + self.signed[cut[1] : cut[2]] + self.signed[max(cut) :])
        return made.filter(lambda content: content != self.signed)

    def _swapped(self) -> st.SearchStrategy[bytes]:
        def swap(names: tuple[str, str]) -> bytes:
            one, other = names
            return self._zip(list({**self.members, one: self.members[other], other: self.members[one]}.items()))

        pairs = [(one, other) for one in self.members for other in self.members if one < other]
        return st.sampled_from(pairs).map(swap)

    def _missing(self) -> st.SearchStrategy[bytes]:
        kept = st.sets(st.sampled_from(sorted(self.members)), max_size=len(self.members) - 1)
        return kept.map(lambda names: self._zip([(name, self.members[name]) for name in names]))

    def _escaping(self) -> st.SearchStrategy[bytes]:
        names = st.sampled_from(ESCAPES) | st.text(max_size=20).filter(lambda name: name not in self.members)
        names = names.filter(lambda name: not any(0xD800 <= ord(sign) < 0xE000 for sign in name))
        return names.map(lambda name: self._zip([*self.members.items(), (name, b"payload")]))

    def _doubled(self) -> st.SearchStrategy[bytes]:
        def double(name: str) -> bytes:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # zipfile's own, of two members of one name
                return self._zip([*self.members.items(), (name, self.members[name])])

        return st.sampled_from(sorted(self.members)).map(double)

    def _overlapping(self) -> st.SearchStrategy[bytes]:
        def overlap(choice: tuple[int, int, int]) -> bytes:
            content = bytearray(self.whole)
            place = self.directory
            for _ in range(choice[0]):
                place = content.index(b"PK\x01\x02", place + 1)
            if choice[1]:
                struct.pack_into("<2L", content, place + 20, *[len(self.whole) - choice[2]] * 2)
            else:
                struct.pack_into("<L", content, place + 42, choice[2])
            return self._sealed(bytes(content[:-64]))

        last = len(self.members) - 1
        return st.tuples(st.integers(0, last), st.integers(0, 1), st.integers(1, 200)).map(overlap)

    def _bombs(self) -> st.SearchStrategy[bytes]:
        names = st.sampled_from([*self.members, "model.int8.onnx", "other"])
        said = st.sampled_from([0, 10, 5000, 1 << 20, BOMB_BYTES, 0xFFFFFFFE])

        def bomb(choice: tuple[str, int]) -> bytes:
            others = {name: content for name, content in self.members.items() if name != choice[0]}
            return self._sealed(bombed(choice[0], others, choice[1], b"0" * 64)[:-64])

        return st.tuples(names, said).map(bomb)

    def _golden_bombs(self) -> st.SearchStrategy[bytes]:
        others = {
            f"{name}.npy": npy(array.shape, array.dtype.str, array.tobytes()) for name, array in self.arrays.items()
        }

        def bomb(choice: tuple[str, int]) -> bytes:
            rest = {name: content for name, content in others.items() if name != choice[0]}
            return self._with_golden(bombed(choice[0], rest, choice[1], b""))

        return st.tuples(st.sampled_from(sorted(others)), st.sampled_from([10, 5000, BOMB_BYTES, 0xFFFFFFFE])).map(bomb)

    def _hollow(self) -> st.SearchStrategy[bytes]:
        shapes = st.lists(st.sampled_from([-1, 0, 1, 3, 7, 10**4, 10**9, 2**62, 10**30]), max_size=5).map(tuple)
        kinds = st.sampled_from(["|u1", "<f4", "<f8", "|O", "<U1000000", "|V100000000", "nonsense", "<M8[ns]"])

        def hollow(choice: tuple[str, tuple[int, ...], str, int]) -> bytes:
            name, shape, kind, length = choice
            files = [(f"{other}.npy", npy(a.shape, a.dtype.str, a.tobytes())) for other, a in self.arrays.items()]
            files = [(f, npy(shape, kind, bytes(length)) if f == f"{name}.npy" else content) for f, content in files]
            return self._with_golden(zipped(files, zipfile.ZIP_DEFLATED, b""))

        names = st.sampled_from(sorted(self.arrays))
        made = st.tuples(names, shapes, kinds, st.integers(0, 50))
        return made.filter(lambda choice: choice[1] != (1, 1, 1, 3)).map(hollow)

    def _deep(self) -> st.SearchStrategy[bytes]:
        depth = st.integers(1_000, 300_000)
        return st.one_of(
            depth.map(lambda count: self._manifest(b"[" * count)),
            depth.map(lambda count: self._manifest(b"[" * count + b"]" * count)),
            depth.map(lambda count: self._manifest(b'{"a":' * (count // 8) + b"1" + b"}" * (count // 8))),
            st.integers(2_000_000, 3_000_000).map(lambda count: self._manifest(b"[" + b"0," * (count // 2) + b"0]")),
        )

    def _wrong_numbers(self) -> st.SearchStrategy[bytes]:
        def tolerance(value: Any) -> bytes:
            return self._with(precisions={"fp32": {**self.manifest["precisions"]["fp32"], "tolerance": value}})

        wrong = NO_NUMBERS.filter(lambda value: value not in (2**80, 1e308) and value is not True)
        return st.one_of(
            st.tuples(st.sampled_from(NUMBERS), wrong).map(lambda pair: self._with(**{pair[0]: pair[1]})),
            NO_NUMBERS.map(tolerance),
            NO_NUMBERS.map(lambda value: self._with(thresholds=dict.fromkeys(self.manifest["labels"], value))),
            st.sampled_from([float("nan"), float("inf")]).map(lambda value: self._with(metrics={"mcc": [value]})),
        )

    def _parts(self) -> st.SearchStrategy[bytes]:
        """Any JSON in the place of what has a shape of its own."""
        names = st.sampled_from(["labels", "preprocess", "precisions", "members", "schema_version"])
        return (
            st.tuples(names, JSON).filter(lambda pair: pair[1] != 1).map(lambda pair: self._with(**{pair[0]: pair[1]}))
        )


def most_memory_mib() -> float:
    """The largest resident set of this process so far: of this program alone, where the system tells that."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def same(one: Bundle, other: Bundle) -> bool:
    return one.models == other.models and one.manifest == other.manifest and one.card == other.card


def main(small: Path, key: Path, examples: int) -> dict[str, Any]:
    """Damage, open, count."""
    maker, original = Maker(small), read_bundle(small, key)
    folder = Path(tempfile.mkdtemp())
    path = folder / "damaged.gensoup"
    kinds: Counter[str] = Counter()
    answers: dict[str, set[str]] = {}
    wrong: list[str] = []
    longest = 0.0

    def answer(content: bytes, **required: Path) -> Bundle | str:
        nonlocal longest
        path.write_bytes(content)
        started = time.perf_counter()
        try:
            return read_bundle(path, **required)
        except BundleError as error:
            return str(error)
        finally:
            longest = max(longest, time.perf_counter() - started)

    def note(kind: str, content: bytes, found: str) -> None:
        kinds[kind] += 1
        answers.setdefault(kind, set()).add(found.removeprefix(f"{path}: ").split(" (")[0][:60])
        if not found.startswith(f"{path}: ") or not found.isprintable():
            wrong.append(f"{kind}: {found!r} for {content[:40]!r}…")

    quick = settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

    def run(strategy: st.SearchStrategy[Damage], check: Callable[[str, bytes], None], share: float) -> None:
        settings(quick, max_examples=int(examples * share))(given(strategy)(lambda damage: check(*damage)))()

    def must_be_refused(kind: str, content: bytes) -> None:
        found = answer(content)
        note(kind, content, found if isinstance(found, str) else "opened")

    def may_open_unsigned(kind: str, content: bytes) -> None:
        found = answer(content)
        if not isinstance(found, str):
            kind += ", opened as it was" if same(found, original) else ", opened, changed"
            found = answer(content, require_signature=key)
        note(kind, content, found if isinstance(found, str) else "opened")

    run(maker.refused(), must_be_refused, 0.9)
    run(maker.resealed(), may_open_unsigned, 0.1)
    return {
        "kinds": dict(kinds),
        "answers": {kind: sorted(texts) for kind, texts in answers.items()},
        "wrong": wrong,
        "most_mib": most_memory_mib(),
        "longest_s": longest,
    }


if __name__ == "__main__":
    # The strategies' own memory is no bundle's: the bomb above took 300 MB before anything was opened.
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
