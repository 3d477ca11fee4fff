"""JUnit XML: what Jenkins' schema (junit-10.xsd) allows, and what a server counts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from gate_samples import latencies, measurement_of, spread, trace_of

from gensoup.bench.finding import Finding, Kind
from gensoup.bench.judge import judge
from gensoup.bench.junit import junit_xml, write_junit
from gensoup.bench.measurement import Measurement

# Of each element: its attributes, the required ones first, and its children.
ALLOWED: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"time", "skipped", "timestamp"},
        {"properties", "testcase", "system-out"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": ({"name"}, {"time", "classname"}, {"failure", "error", "system-out"}),
    "failure": (set(), {"type", "message"}, set()),
    "error": (set(), {"type", "message"}, set()),
    "system-out": (set(), set(), set()),
}
PASS, FAIL = measurement_of(trace_of(latencies())), measurement_of(trace_of(spread(400, math.inf)))
INVALID = replace(PASS, findings=(Finding(Kind.INVALID, 'the "fan" <stopped> \x1b[31m & more', "nvml"),))


@pytest.mark.parametrize(
    ("measurement", "tag", "counts"),
    [(PASS, None, ("1", "0", "0")), (FAIL, "failure", ("1", "1", "0")), (INVALID, "error", ("1", "0", "1"))],
)
def test_a_server_counts_failures_and_errors(
    measurement: Measurement, tag: str | None, counts: tuple[str, str, str], tmp_path: Path
) -> None:
    verdict = judge(measurement)
    write_junit(tmp_path / "v.xml", verdict, "polyp <2>.gensoup", "first\x1b line\nsecond")
    root = ElementTree.parse(tmp_path / "v.xml").getroot()
    for element in root.iter():
        required, optional, children = ALLOWED[element.tag]
        assert required <= set(element.attrib) <= required | optional, element.tag
        assert {child.tag for child in element} <= children
    (suite,) = root
    for one in (root, suite):
        assert tuple(one.get(name) for name in ("tests", "failures", "errors")) == counts
        assert one.get("time") == "30.000"
    case = suite.find("testcase")
    assert case is not None and case.get("classname") == "gensoup.bench.polyp <2>"
    assert case.get("name") == "quick gate at 64 Hz on onnxruntime-cpu fp32"
    assert case.findtext("system-out") == "first  line\nsecond"
    told = [child for child in case if child.tag in ("failure", "error")]
    assert [child.tag for child in told] == ([tag] if tag else [])
    if told:
        assert told[0].get("type") == verdict.verdict.value
        assert told[0].get("message") == verdict.reason.replace("\x1b", " ")
    facts = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert facts["verdict"] == verdict.verdict.value and facts["bundle_sha256"] == verdict.bundle_sha256


def test_it_is_a_whole_document() -> None:
    text = junit_xml(judge(PASS), "a.gensoup", "")
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites')
