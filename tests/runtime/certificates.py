"""Certificates of the bundle at hand on the machine at hand, for tests to require and to spoil."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gensoup.runtime.certificate import write_certificate
from gensoup.runtime.certified import frame_path_versions
from gensoup.runtime.classifier import LoadOptions
from gensoup.runtime.engines.catalogue import REFERENCE, engine_versions
from gensoup.runtime.identity import device_facts, fingerprint_of
from gensoup.runtime.signature import SigningKey

Change = Callable[[dict[str, Any]], object]


def values_for(bundle: Path, min_fps: float = 64.0, threads: int | None = 1) -> dict[str, Any]:
    """What a certificate of ``bundle`` on this machine holds, as far as it is read again."""
    facts = device_facts()
    return {
        "schema_version": 1,
        "verdict": "PASS",
        "tier": "certify",
        "bundle": {"name": bundle.name, "sha256": LoadOptions().read(bundle).sha256},
        "engine": {
            "name": REFERENCE,
            "precision": "fp32",
            "threads": threads,
            "versions": engine_versions(REFERENCE),
        },
        "limits": {"rate_hz": min_fps, "latency_ms": 1e3 / min_fps},
        "source": {"spec": "synthetic", "height": 480, "width": 640},
        "device": {"fingerprint": fingerprint_of(facts), "facts": facts},
        "versions": frame_path_versions(),
    }


def certify(path: Path, values: dict[str, Any], change: Change | None = None, key: Path | None = None) -> Path:
    """Write a certificate of ``values`` after ``change`` was made to a copy of them."""
    values = copy.deepcopy(values)
    if change is not None:
        change(values)
    write_certificate(path, values, None if key is None else SigningKey.load(key))
    return path


def altered(path: Path, change: Change) -> Path:
    """The certificate's file with its values changed, its digest and signatures left as they are."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content["certificate"])
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
