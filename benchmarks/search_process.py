"""``gensoup train`` as a user calls it, in a process of its own, for the benchmarks that time whole searches."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path


def search_parser(description: str | None) -> argparse.ArgumentParser:
    """Options that these benchmarks share; those of the search itself become its words by :func:`search_words`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights-dir", type=Path)
    parser.add_argument("--option", action="append", default=[], help="one more word for gensoup train, for all")
    parser.add_argument("--json", type=Path)
    return parser


def search_words(options: argparse.Namespace) -> list[str]:
    """Words for every search; nothing is downloaded unless an option asks for it."""
    words = ["--init", "random", *options.option]
    return words if options.weights_dir is None else [*words, "--weights-dir", str(options.weights_dir.resolve())]


def search_seconds(
    data: Path, out: Path, words: list[str], *, code: Path | None = None, environment: Mapping[str, str] | None = None
) -> float:
    """Seconds of one ``gensoup train DATA --out OUT`` with more words, from the folder ``code``; ends the program where
    that fails."""
    command = [sys.executable, "-m", "gensoup", "train", str(data), "--out", str(out), *words]
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=code, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return time.perf_counter() - started
