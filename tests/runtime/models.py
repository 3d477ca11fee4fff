"""Opens a bundle whose graph was damaged and whose digests were made anew, in a process of its own.

    python models.py SMALL.gensoup KEY.pub EXAMPLES

Prints one JSON object: what the bundle as it is, and each damaged one, was answered; the most memory (MiB).
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from damage import most_memory_mib

from gensoup.runtime.bundle import read_bundle, write_bundle
from gensoup.runtime.classifier import Classifier
from gensoup.runtime.errors import BundleError


def damaged(model: bytes, generator: np.random.Generator) -> bytes:
    """A few bytes of a graph changed, taken out, put in or repeated elsewhere."""
    content = bytearray(model)
    kind = int(generator.integers(5))
    for _ in range(int(generator.integers(1, 5))):
        place, other = (int(value) for value in generator.integers(len(content), size=2))
        if kind == 0:
            content[place] ^= 1 << int(generator.integers(8))
        elif kind == 1:
            content[place] = int(generator.choice([0, 1, 2, 127, 128, 255]))
        elif kind == 2:
            del content[place : place + int(generator.integers(1, 40))]
        elif kind == 3:
            content[place:place] = generator.bytes(int(generator.integers(1, 12)))
        else:
            content[place : place + 8] = content[other : other + 8]
    return bytes(content)


def main(small: Path, key: Path, examples: int) -> dict[str, Any]:
    """Damage, open, count."""
    path = Path(tempfile.mkdtemp()) / "damaged.gensoup"
    wrong: list[str] = []

    def answer(bundle: Path, required: Path | None = None) -> str:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # ONNX Runtime prints of its own accord
                Classifier.load(bundle, "onnxruntime-cpu", threads=1, require_signature=required)
        except BundleError as error:
            found = str(error)
            if not found.startswith(f"{bundle}: ") or "\n" in found:
                wrong.append(found)
            return found.removeprefix(f"{bundle}: ").split(" (")[0][:60]
        return "opened"

    answers = {"as it is": Counter([answer(small, key)]), "damaged": Counter[str]()}
    bundle = read_bundle(small) if examples else None
    for seed in range(examples):
        assert bundle is not None
        model = damaged(bundle.model, np.random.default_rng(seed))
        write_bundle(path, bundle.manifest, {"fp32": model}, bundle.golden)
        answers["damaged"][answer(path)] += 1
        if "not signed" not in (found := answer(path, key)):
            wrong.append(f"with a signature required: {found}")
    return {
        "answers": {kind: dict(counts) for kind, counts in answers.items() if counts},
        "wrong": wrong,
        "most_mib": most_memory_mib(),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
