"""What a JSON file of some command is, for whoever was given it in another one's place."""

from __future__ import annotations

from typing import Any

DEVICE_PROFILE = "a device profile"
# By entries that no other has together.
_KINDS = {
    "a result of `gensoup bench`": {"verdict", "tier", "latency_ms"},
    "a result of `gensoup eval`": {"confusion_matrix", "data_fingerprint"},
    "a result of `gensoup compare`": {"comparisons"},
    "a result of `gensoup train`": {"architecture", "scores", "soup"},
    "a certificate": {"certificate", "sha256"},
    DEVICE_PROFILE: {"device", "estimates"},
    "a probe kit": {"classes", "graphs"},
}


def kind_of(values: Any) -> str | None:
    """In words, of a file's values; None for what is not known."""
    if not isinstance(values, dict):
        return None
    return next((kind for kind, entries in _KINDS.items() if entries <= values.keys()), None)
