"""Runs the command line in forked copies of a process that has imported everything once: a start costs no seconds.

A program, not a module of tests. Each line of its input is a request (JSON): ``arguments`` of the command line, ``log``
that takes what it prints, and optionally ``at``, what to do before an operation on files under ``folder``:
``{"folder": …, "kill": N}`` dies before the N-th; ``{"folder": …, "fill": PATTERN}`` fills the disk before the first
whose path matches. The answers are two lines: the process' number, then its exit status and how many such operations
there were.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from gensoup.cli import main

# What the command imports only when it is needed, imported here so that no copy has to.
NEEDED = ("alembic.command", "fvcore.nn", "matplotlib.pyplot", "optuna.storages", "sqlalchemy.dialects.sqlite")
NEEDED = (*NEEDED, "gensoup.train.report", "gensoup.train.run")
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
FILLER = "filler"
LARGEST_FILLED = 64 << 20
LARGER = 99  # exit status: no disk of a test's own


class Watch:
    """Counts what changes files under a folder, and does what was asked for before one of them."""

    def __init__(self, folder: str, kill: int = 0, fill: str = "") -> None:
        self.folder, self.kill, self.fill = folder, kill, fill
        self.count = 0
        self.filling = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if self.filling or not (opened or event in CHANGES or event == "sqlite3.connect"):
            return
        paths = [str(part) for part in arguments if isinstance(part, (str, os.PathLike))]
        if not any(self.folder in path for path in paths):
            return
        self.count += 1
        if self.count == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fill and any(re.search(self.fill, path) for path in paths):
            self.fill, self.filling = "", True
            fill_disk(Path(self.folder).parent / FILLER)
            self.filling = False


def fill_disk(path: Path) -> None:
    """Take all the room that is left on the file system of ``path``, which must be one made for it."""
    room = os.statvfs(path.parent)
    if room.f_blocks * room.f_frsize > LARGEST_FILLED:
        os._exit(LARGER)
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


def serve_one(request: dict[str, Any], answers: int) -> None:
    """In the copy: run the command line and report how it ended."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    watch = None
    if "at" in request:
        watch = Watch(**request["at"])
        sys.addaudithook(watch)
    code: Any = 1
    try:
        main(request["arguments"])
    except SystemExit as left:
        code = left.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(answers, f"{watch.count if watch else 0}\n".encode())
        os._exit(int(code))


def serve() -> None:
    """Answer requests until the input ends."""
    for name in NEEDED:
        importlib.import_module(name)
    answers = os.dup(1)
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208
    assert threads == 1, f"{threads} threads: a fork would lose all but one of them"
    os.write(answers, b"ready\n")
    for line in sys.stdin:
        request = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            serve_one(request, writing)
        os.close(writing)
        os.write(answers, f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        with os.fdopen(reading) as counted:
            count = counted.read().strip() or "0"
        os.write(answers, f"{os.waitstatus_to_exitcode(status)} {count}\n".encode())


if __name__ == "__main__":
    serve()
