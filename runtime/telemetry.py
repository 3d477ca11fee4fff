"""No word leaves a cart: engines that report their use to their makers are told not to.

ONNX Runtime 1.29 and later for Linux keeps a database of sessions and of the machine under the user's cache folder and
sends it off; ``disable_telemetry_events`` comes too late for that, only its environment variable is heeded. OpenVINO
counts every import; it goes without where its package for that cannot be imported. Both seen with a fresh home folder.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def silence_engines() -> None:
    """Call before an engine's package is imported. Whoever has set ORT_DISABLE_TELEMETRY keeps what they set."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)
