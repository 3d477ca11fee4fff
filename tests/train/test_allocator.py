"""The allocator that keeps what a step frees."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gensoup.train.allocator import keep_freed_memory, return_freed_memory

# Takes, fills and frees two blocks of 40 MB, again and again, and counts the pages that the system had to give.
SCRIPT = """
import ctypes, resource, sys
from gensoup.train.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
library, size = ctypes.CDLL(None), 40 << 20
library.malloc.restype = ctypes.c_void_p
def once():
    blocks = [ctypes.c_void_p(library.malloc(ctypes.c_size_t(size))) for _ in range(2)]
    for block in blocks:
        library.memset(block, 1, ctypes.c_size_t(size))
    for block in blocks:
        library.free(block)
for _ in range(3):
    once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    once()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 10)
"""


def test_the_same_memory_is_taken_without_the_system() -> None:
    pytest.importorskip("resource")
    if not keep_freed_memory():
        pytest.skip("this C library cannot be told")
    faults = {
        how: float(subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, check=True).stdout)
        for how in ("keep", "default")
    }
    assert faults["keep"] * 4 < faults["default"]  # growing once costs some, too


def test_it_can_be_asked_twice_and_gives_back_when_told() -> None:
    assert keep_freed_memory() == keep_freed_memory()
    return_freed_memory()
