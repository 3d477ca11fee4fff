from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gensoup.runtime.memory import resident_bytes

# Many blocks too small to be mapped one by one, and one above them that keeps the heap's top where it is.
SCRIPT = """
from gensoup.runtime.memory import resident_bytes, trim_memory
blocks = [bytearray(60_000) for _ in range(1500)]
top = bytearray(60_000)
del blocks
before = resident_bytes()[0]
trim_memory()
print(before - resident_bytes()[0])
"""


def test_resident_memory_is_told_where_the_system_says(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\nThreads:\t1\n")
    assert resident_bytes(status) == (1 << 20, 2 << 20)
    status.write_text("Name:\tpython\n")
    assert resident_bytes(status) is None
    assert resident_bytes(tmp_path / "none") is None


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone keeps freed memory that can be asked back")
def test_freed_memory_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 40 << 20
