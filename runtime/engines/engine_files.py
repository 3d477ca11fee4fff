"""Compiled engines on disk: what each was built from and for, beside it as JSON.

A compiled engine is code. Those built on this machine lie in the user's private cache and are found by the model, the
library, the driver, the GPU, the precision and the flags. Those built ahead of time for other GPUs lie in a folder that
the user names; their key has no driver and no GPU name, but every GPU generation they were built for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gensoup.runtime.errors import EngineError
from gensoup.runtime.files import write_atomic
from gensoup.runtime.private_cache import cache_root, read_owned, read_private, write_private

SUFFIX = ".engine"
FORMAT = 1


@dataclass(frozen=True)
class EngineKey:
    """What a compiled engine belongs to.

    model_sha256: of the ONNX bytes of its precision. library: "tensorrt" or "tensorrt-rtx", with its version.
    sms: compute capabilities, "86" for 8.6. outputs: of the graph, those that are computed. flags: everything else that
        changes what is built.
    driver, gpu: of the machine; both empty for an engine built ahead of time.
    """

    model_sha256: str
    library: str
    version: str
    precision: str
    sms: tuple[str, ...]
    outputs: tuple[str, ...]
    flags: tuple[str, ...] = ()
    driver: str = ""
    gpu: str = ""

    @property
    def file_name(self) -> str:
        """Readable first, unmistakable by the digest at its end."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        sms = "-".join(f"sm{sm}" for sm in self.sms)
        return f"{self.model_sha256[:12]}-{self.precision}-{self.library}-{self.version}-{sms}-{digest[:16]}{SUFFIX}"


@dataclass(frozen=True)
class EngineFile:
    """An engine that was read back: its key, its bytes and what was noted when it was built."""

    key: EngineKey
    plan: bytes
    notes: Mapping[str, Any]


def model_digest(model: bytes) -> str:
    """The SHA-256 of a model's bytes."""
    return hashlib.sha256(model).hexdigest()


def engines_folder() -> Path:
    """Where engines built on this machine lie."""
    return cache_root() / "engines"


def store_engine(key: EngineKey, plan: bytes, notes: Mapping[str, Any], folder: Path | None = None) -> Path:
    """Write an engine and its description; returns its path. ``folder``: None: the user's private cache.

    The engine is written first: without its description it is not there. Raises WriteError.
    """
    path = (folder or engines_folder()) / key.file_name
    described = {"format": FORMAT, "engine_sha256": model_digest(plan), "key": asdict(key), "notes": dict(notes)}
    for file, content in ((path, plan), (path.with_suffix(".json"), json.dumps(described, indent=2) + "\n")):
        if folder is None:
            write_private(file, content)
        else:
            write_atomic(file, content, 0o644)  # never for a group to write: such an engine is not read
    return path


def fetch_engine(key: EngineKey) -> EngineFile | None:
    """The engine of exactly this key from the private cache; None where there is none that can be trusted."""
    path = engines_folder() / key.file_name
    description, plan = read_private(path.with_suffix(".json")), read_private(path)
    if description is None or plan is None:
        return None
    found = _parsed(description, plan)
    return found if found is not None and found.key == key else None


def find_ahead_of_time(folder: Path, wanted: EngineKey) -> EngineFile:
    """The engine in ``folder`` built ahead of time for a model, library, precision, outputs and ``wanted.sms[0]``.

    Raises EngineError that says what the folder has instead, or why the engine that fits is not taken.
    """
    if not folder.is_dir():
        raise EngineError(f"--engines-dir {folder}: no such folder")
    reasons: list[str] = []
    others = 0
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        description, plan = read_owned(path.with_suffix(".json")), read_owned(path)
        if description is None or plan is None:
            reasons.append(
                f"{path.name} belongs to another user, can be written by others (chmod go-w), or lacks its .json"
            )
            continue
        found = _parsed(description, plan)
        if found is None:
            reasons.append(f"{path.name} is damaged: copy it again")
        elif found.key.model_sha256 != wanted.model_sha256 or found.key.outputs != wanted.outputs:
            others += 1
        elif other := _differences(found.key, wanted):
            reasons.append(f"{path.name} is for another {', '.join(other)}")
        else:
            return found
    told = "; ".join(reasons) or (f"{others} engines of other models" if others else "it holds no engines")
    target = f"SM {wanted.sms[0]}, {wanted.library} {wanted.version}, {wanted.precision}"
    raise EngineError(f"--engines-dir {folder}: nothing for this model on {target}: {told}")


def _differences(found: EngineKey, wanted: EngineKey) -> list[str]:
    """In which respects an engine built ahead of time does not fit."""
    fits = {
        "version of the library": (found.library, found.version) == (wanted.library, wanted.version),
        "precision": found.precision == wanted.precision,
        "GPU generation": set(wanted.sms) <= set(found.sms),
    }
    return [name for name, same in fits.items() if not same]


def _parsed(description: bytes, plan: bytes) -> EngineFile | None:
    try:
        values = json.loads(description)
        if values["format"] != FORMAT or values["engine_sha256"] != model_digest(plan):
            return None
        key: dict[str, Any] = {
            name: value if isinstance(value, str) else tuple(value) for name, value in values["key"].items()
        }
        return EngineFile(EngineKey(**key), plan, dict(values["notes"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
