"""Each graph is measured in a process of its own: cold is cold, and one that crashes or hangs takes nothing along.

The process reads a request, one line of JSON, from its standard input and answers with lines of JSON: ``share`` while
it measures, at last ``estimate``, ``failed`` or ``refused``.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from gensoup.bench.device_profile import LatencyEstimate
from gensoup.bench.probe_graph import Share, probe_graph
from gensoup.bench.probe_kit import KitGraph, ProbeKit
from gensoup.bench.probe_plan import ProbePlan
from gensoup.runtime.engines.catalogue import COMPILING
from gensoup.runtime.errors import DataError, EngineError, GenSoupError

# Longest silence: loading a graph tells nothing, measuring tells every second, and TensorRT compiles for minutes.
SILENCE_S = 120.0
BUILDING_S = 3600.0
_START = "from gensoup.bench.probe_process import serve; serve()"


def probe_apart(
    kit: ProbeKit, graph: KitGraph, engine: str, plan: ProbePlan, share: Share, silence_s: float | None = None
) -> LatencyEstimate:
    """:func:`gensoup.bench.probe_graph.probe_graph` of one graph of a kit, in a new process.

    silence_s: after which it is taken for hung; None: :data:`SILENCE_S`, or longer for an engine that compiles.
    Raises EngineError, with the reason in one line, when the graph fails on the engine, however it does; DataError when
    its file is damaged.
    """
    if silence_s is None:
        silence_s = BUILDING_S if engine in COMPILING else SILENCE_S
    request = {"kit": str(kit.path.resolve()), "key": graph.key, "engine": engine, "plan": asdict(plan)}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            # With this process' own path: -m would put the working folder, and what lies there, before everything.
            [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {_START}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # an interrupt is this process' to handle, which then ends that one
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            _send(process.stdin, request)
            answer = _answer(process.stdout, share, silence_s)
            if answer is None:
                process.wait()
                raise EngineError(f"{engine}: the process that measured it {_end(process.returncode, errors)}")
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
    if "refused" in answer:
        raise DataError(answer["refused"])
    if "failed" in answer:
        raise EngineError(answer["failed"])
    return LatencyEstimate.from_dict(answer["estimate"])


def _send(stream: IO[bytes], request: dict[str, Any]) -> None:
    try:
        stream.write(json.dumps(request).encode() + b"\n")
        stream.flush()
    except BrokenPipeError:  # it died at once; how, its exit tells
        return


def _answer(stream: IO[bytes], share: Share, silence_s: float) -> dict[str, Any] | None:
    """The last line of a measuring process; None when it ended without one. Raises EngineError when it hangs."""
    lines: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        lines.put(b"")

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=silence_s)
        except queue.Empty:
            raise EngineError(f"hangs: nothing heard of it for {silence_s:g} s") from None
        if not line:
            return None
        values: dict[str, Any] = json.loads(line)
        if "share" not in values:
            return values
        share(float(values["share"]))


def _end(code: int, errors: IO[bytes]) -> str:
    errors.seek(0)
    said = [line for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    last = f" ({said[-1].strip()[:200]})" if said else ""
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = ", perhaps for want of memory" if name == "SIGKILL" else ""
        return f"was ended by {name}{hint}{last}"
    return f"ended with code {code}{last}"


def serve() -> None:
    """Answer the one request on standard input."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what engines print goes to the errors

    def say(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    def tell(share: float) -> None:
        try:
            say(share=round(share, 4))
        except BrokenPipeError:
            os._exit(1)  # who asked is gone

    request = json.loads(sys.stdin.readline())
    try:
        kit = ProbeKit.load(Path(request["kit"]))
        graph = {one.key: one for one in kit.graphs}[request["key"]]
        model = kit.read(graph)
        estimate = probe_graph(
            model, kit.classes, graph.preprocess, request["engine"], graph.precision, ProbePlan(**request["plan"]), tell
        )
        say(estimate=estimate.to_dict())
    except DataError as error:
        say(refused=str(error))
    except GenSoupError as error:
        say(failed=str(error))
    except MemoryError:
        say(failed="out of memory")
    except Exception as error:
        say(failed=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    answers.flush()
    os._exit(0)  # what engines do at their end is no part of the measurement
