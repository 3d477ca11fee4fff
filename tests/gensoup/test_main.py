"""The program itself, while it imports its commands."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import signal, sys

class Pressed:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            {how}

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Pressed())
sys.argv = ["gensoup", "--version"]
from gensoup.__main__ import main
main()
"""
SWALLOWED = "type('Lost', (), {'__del__': lambda self: signal.raise_signal(signal.SIGINT)})()"


@pytest.mark.parametrize("how", ["signal.raise_signal(signal.SIGINT)", SWALLOWED], ids=["raised", "swallowed"])
def test_an_interrupt_while_commands_are_imported_is_one_line(how: str) -> None:
    program = PROGRAM.replace("{how}", how)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")
