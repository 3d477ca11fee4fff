"""A verdict as JUnit XML, which CI servers show: FAIL is a failure, INVALID an error.

Jenkins, GitLab and GitHub's reporters read ``testsuites/testsuite/testcase`` with ``failure``, ``error``,
``properties`` and ``system-out``; Jenkins' schema (junit-10.xsd) is what the tests hold this against.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from gensoup.runtime.files import write_atomic

if TYPE_CHECKING:
    from gensoup.bench.verdict import Verdict

_TAGS = {"FAIL": "failure", "INVALID": "error"}


def junit_xml(verdict: Verdict, name: str, text: str) -> str:
    """One test case a gate. name: of the bundle. text: what the terminal shows, for the log of the case."""
    outcome = verdict.verdict.value
    seconds = sum(one.frames / verdict.rate_hz for one in verdict.repetitions)
    counts = {
        "tests": "1",
        "failures": str(int(outcome == "FAIL")),
        "errors": str(int(outcome == "INVALID")),
        "time": f"{seconds:.3f}",
    }
    root = ElementTree.Element("testsuites", {"name": "gensoup bench", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": "gensoup.bench", "skipped": "0", **counts})
    if verdict.started_at:
        suite.set("timestamp", verdict.started_at[:19])
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in _facts(verdict).items():
        ElementTree.SubElement(properties, "property", name=key, value=_printable(value))
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname=f"gensoup.bench.{_printable(Path(name).stem)}",
        name=f"{verdict.tier} gate at {verdict.rate_hz:g} Hz on {verdict.engine} {verdict.precision}",
        time=f"{seconds:.3f}",
    )
    if outcome in _TAGS:
        told = ElementTree.SubElement(case, _TAGS[outcome], type=outcome, message=_printable(verdict.reason))
        told.text = "\n".join(_printable(finding.text) for finding in verdict.findings) or _printable(verdict.reason)
    ElementTree.SubElement(case, "system-out").text = "\n".join(map(_printable, text.splitlines()))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def write_junit(path: Path, verdict: Verdict, name: str, text: str) -> None:
    """Write :func:`junit_xml`, atomically."""
    write_atomic(path, junit_xml(verdict, name, text))


def _facts(verdict: Verdict) -> dict[str, str]:
    return {
        "verdict": verdict.verdict.value,
        "frames": str(verdict.frames),
        "misses": str(verdict.misses),
        "miss_rate_upper": f"{verdict.miss_rate_upper:.6f}",
        "latency_p99_ms": f"{verdict.latency_ms['p99']:.3f}",
        "source": f"{verdict.source.spec} {verdict.source.width}x{verdict.source.height}",
        "bundle_sha256": verdict.bundle_sha256,
        "device": str(verdict.device.get("model") or verdict.device.get("cpu") or ""),
        "gensoup": verdict.gensoup,
    }


def _printable(text: str) -> str:
    """XML 1.0 has no place for control characters, not even escaped."""
    return "".join(sign if sign.isprintable() else " " for sign in text)
