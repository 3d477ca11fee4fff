"""What a device has, and what it is brought: an environment and a kit, in a folder of their own."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from gensoup.bench.probe_kit import KIT_FILE, ProbeKit
from gensoup.bench.remote.connection import Connection, Done
from gensoup.bench.remote.failures import RemoteError
from gensoup.runtime.errors import UsageError

LEAST_PYTHON = (3, 10)
FOLDER = ".cache/gensoup-probe"
# Beside the files themselves: what a profile, logs and the file system's own needs take.
SPARE_BYTES = 64 << 20
_INSTALL_S = 1800.0
_PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(14, 9, -1)))
# Runs on whatever Python is there, however old.
_FACTS = """
import json, os, sys, platform
def has(name):
    try:
        from importlib.util import find_spec
        return find_spec(name) is not None
    except Exception:
        return False
folder = sys.argv[1]
while not os.path.isdir(folder):
    folder = os.path.dirname(folder)
disk = os.statvfs(folder)
print(json.dumps({"python": sys.executable, "version": list(sys.version_info[:3]),
    "venv": has("venv") and has("ensurepip"), "free": disk.f_bavail * disk.f_frsize, "machine": platform.machine(),
    "engines": [n for n in ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx") if has(n)]}))
sys.exit(list(sys.version_info[:2]) < json.loads(sys.argv[2]) or not has("venv") or not has("ensurepip"))
"""
_HASHES = """
import hashlib, json, os, sys
found = {}
for name in os.listdir(sys.argv[1]):
    path = os.path.join(sys.argv[1], name)
    if os.path.isfile(path) and name.endswith(".onnx"):
        with open(path, "rb") as file:
            found[name] = hashlib.sha256(file.read()).hexdigest()
print(json.dumps(found))
"""

Note = Callable[[str], None]


@dataclass(frozen=True)
class Facts:
    """A device's Python and disk. uv: its path, None where there is none. free: bytes where the folder will be."""

    python: str
    version: tuple[int, int, int]
    venv: bool
    uv: str | None
    engines: tuple[str, ...]
    free: int
    machine: str


class Cart:
    """A device with a folder of ours; nothing outside of it is written."""

    def __init__(self, connection: Connection, folder: str | None, note: Note) -> None:
        """folder: absolute or below the home folder; None: :data:`FOLDER`. Raises RemoteError, LostConnection."""
        self._connection, self._note = connection, note
        self.asked = connection.address.asked
        home = self._said('printf %s "$HOME"', "its home folder")
        self.folder = f"{home}/{FOLDER}" if folder is None else folder if folder.startswith("/") else f"{home}/{folder}"
        self.facts = self._facts()

    def bring_environment(self, wheel: tuple[str, bytes], extras: Sequence[str] | None, wheels: Path | None) -> str:
        """Make an environment with this package, or take the one that is there; returns the path of its gensoup.

        extras: None: ``cpu`` where the device's Python has no engine. wheels: a folder to install from, without any
        network. Raises RemoteError, one line that says what is lacking.
        """
        facts = self.facts
        if extras is None:
            extras = () if facts.engines else ("cpu",)
        digest = hashlib.sha256(wheel[1])
        digest.update(repr((sorted(extras), facts.python, facts.version)).encode())
        root = f"{self.folder}/environment-{digest.hexdigest()[:12]}"
        gensoup, ready = f"{root}/venv/bin/gensoup", f"{root}/ready"
        self._make_folder()
        if self._run(f"test -f {_q(ready)} && test -x {_q(gensoup)}").code == 0:
            return gensoup
        self._note(f"{self.asked}: making an environment in {root} (Python {'.'.join(map(str, facts.version))})")
        self._check(self._run(f"rm -rf {_q(root)} && umask 077 && mkdir -p {_q(root)}"), f"{root} cannot be made")
        path = f"{root}/{wheel[0]}"
        self._connection.put(wheel[1], path)
        source = "" if wheels is None else self._bring_wheels(wheels, f"{root}/wheels")
        self._install(root, f"{path}[{','.join(extras)}]" if extras else path, source)
        self._check(self._run(f"touch {_q(ready)}"), f"{ready} cannot be written")
        return gensoup

    def bring_kit(self, kit: ProbeKit, sent: Callable[[int, int], None]) -> str:
        """Copy what is missing or damaged of a kit there; returns its folder. sent: bytes so far and all."""
        folder = f"{self.folder}/kit-{kit.sha256[:12]}"
        self._make_folder()
        self._check(self._run(f"umask 077 && mkdir -p {_q(folder)}"), f"{folder} cannot be made")
        done = self._run(f"{_q(self.facts.python)} -c {_q(_HASHES)} {_q(folder)}", 600.0)
        self._check(done, f"{folder} cannot be read")
        there: Mapping[str, str] = json.loads(done.out)
        missing = [graph for graph in kit.graphs if there.get(graph.file) != graph.sha256]
        sizes = {graph.file: (kit.path / graph.file).stat().st_size for graph in missing}
        total, before = sum(sizes.values()), 0
        needed = total + SPARE_BYTES
        if needed > self.facts.free:
            raise RemoteError(
                f"{self.asked}: its disk is full: {self.facts.free >> 20} MiB free where {self.folder} lies, "
                f"{needed >> 20} MiB needed; free some, or name another place with --remote-dir"
            )
        if missing:
            self._note(f"{self.asked}: copying {len(missing)} graphs, {total / 1e6:.1f} MB")
        for graph in missing:

            def tell(part: int, start: int = before) -> None:
                sent(start + part, total)

            self._connection.put(kit.path / graph.file, f"{folder}/{graph.file}", tell)
            before += sizes[graph.file]
        self._connection.put((kit.path / KIT_FILE).read_bytes(), f"{folder}/{KIT_FILE}")
        return folder

    def _make_folder(self) -> None:
        """Raises RemoteError where it cannot be made, or is somebody else's: what lies in it is run."""
        self._check(self._run(f"umask 077 && mkdir -p {_q(self.folder)}"), f"{self.folder} cannot be made")
        if self._run(f"test -O {_q(self.folder)}").code != 0:
            raise RemoteError(f"{self.asked}: {self.folder} belongs to another user; name another with --remote-dir")

    def _facts(self) -> Facts:
        """Raises RemoteError where no Python is new enough, with what there is."""
        tries = (
            f"for name in {' '.join(_PYTHONS)}; do p=$(command -v $name) || continue; "
            f'"$p" -c {_q(_FACTS)} {_q(self.folder)} {_q(json.dumps(LEAST_PYTHON))} 2>/dev/null && break; done'
        )
        uv = 'PATH="$PATH:$HOME/.local/bin:$HOME/.cargo/bin" command -v uv || true'
        done = self._run(f"{tries}; printf 'uv %s\\n' \"$({uv})\"")
        found: list[dict[str, Any]] = []
        program = None
        for line in done.out.splitlines():
            if line.startswith("uv "):
                program = line[3:].strip() or None
            elif line.startswith("{"):
                found.append(json.loads(line))
        new = [one for one in found if tuple(one["version"][:2]) >= LEAST_PYTHON]
        if not new:
            seen = ", ".join(".".join(map(str, one["version"])) for one in found)
            wanted = ".".join(map(str, LEAST_PYTHON))
            raise RemoteError(
                f"{self.asked}: needs Python {wanted} or newer, "
                + (f"has {seen}" if seen else "has none")
                + f"; install one there, such as python{wanted}, beside the system's own"
            )
        able = [one for one in new if one["venv"]] or new  # the system's own first: its engines belong to it
        if not able[0]["venv"] and program is None:
            raise RemoteError(
                f"{self.asked}: its Python {'.'.join(map(str, able[0]['version']))} has neither venv and pip nor uv: "
                "install python3-venv there (on Debian, Ubuntu and JetPack a package of its own), or uv"
            )
        one = able[0]
        return Facts(
            python=str(one["python"]),
            version=tuple(one["version"]),
            venv=bool(one["venv"]),
            uv=program,
            engines=tuple(one["engines"]),
            free=int(one["free"]),
            machine=str(one["machine"]),
        )

    def _install(self, root: str, requirement: str, source: str) -> None:
        """Into a new environment that sees the system's packages: an engine may be one of them, as on Jetson."""
        facts, venv = self.facts, f"{root}/venv"
        python = f"{venv}/bin/python"
        if facts.venv:  # pip counts what the system has as installed, uv does not
            pip = f"{_q(python)} -m pip --disable-pip-version-check --no-input"
            steps = [
                f"{_q(facts.python)} -m venv --system-site-packages {_q(venv)}",
                f"{pip} install --quiet {source} {_q(requirement)}",
            ]
        else:
            uv = _q(facts.uv or "uv")
            steps = [
                f"{uv} venv --quiet --system-site-packages --python {_q(facts.python)} {_q(venv)}",
                f"{uv} pip install --quiet --python {_q(python)} {source} {_q(requirement)}",
            ]
        for step in steps:
            done = self._run(step, _INSTALL_S)
            if done.code != 0:
                raise RemoteError(f"{self.asked}: {_why(done, facts, requirement)}")

    def _bring_wheels(self, wheels: Path, folder: str) -> str:
        """Copy a folder of wheels; returns pip's (and uv's) options to install from it alone."""
        files = sorted(wheels.glob("*.whl"))
        if not files:
            raise UsageError(f"--wheels {wheels}: holds no wheels (*.whl)")
        self._check(self._run(f"mkdir -p {_q(folder)}"), f"{folder} cannot be made")
        for file in files:
            self._connection.put(file, f"{folder}/{file.name}")
        return f"--no-index --find-links {_q(folder)}"

    def _said(self, script: str, what: str) -> str:
        done = self._run(script)
        if done.code != 0 or not done.out.strip():
            raise RemoteError(f"{self.asked}: does not tell {what} ({done.last_line})")
        return done.out.strip()

    def _run(self, script: str, silence_s: float = 120.0) -> Done:
        return self._connection.run(script, silence_s)

    def _check(self, done: Done, what: str) -> None:
        if done.code != 0:
            raise RemoteError(f"{self.asked}: {what} ({done.last_line})")


def _why(done: Done, facts: Facts, requirement: str) -> str:
    """What an installation failed of, in one line."""
    said = (done.err + done.out).lower()
    if "no space left" in said or "disk quota" in said:
        return "its disk is full: packages cannot be installed; free some, or name another place with --remote-dir"
    offline = ("connection", "name resolution", "dns error", "network", "timed out", "max retries", "connect error")
    nothing = ("no matching distribution", "no solution found", "not found in the package registry")
    if any(word in said for word in (*offline, *nothing)):
        packages = " ".join(_packages(requirement.partition("[")[2].rstrip("]").split(",")))
        version = f"{facts.version[0]}.{facts.version[1]}"
        return (
            f"packages cannot be installed, as if it had no network ({done.last_line[:160]}); bring them: pip download "
            f"{packages} --only-binary=:all: --python-version {version} --platform manylinux_2_28_{facts.machine} "
            f"--platform manylinux2014_{facts.machine} -d wheels, then --wheels wheels"
        )
    lines = [line.strip() for line in done.err.splitlines() if line.lstrip(" ×╰─▶").lower().startswith("error")]
    return f"packages cannot be installed ({(lines or [done.last_line])[0][:300]})"


def _packages(extras: Sequence[str]) -> list[str]:
    """What has to be there: names of this package's own requirements and those of its ``extras``."""
    lines = [line.partition(";") for line in metadata.requires("gensoup") or ()]
    wanted = [
        requirement
        for requirement, _, marker in lines
        if "extra" not in marker or any(extra and f'"{extra}"' in marker.partition("extra")[2] for extra in extras)
    ]
    return list(dict.fromkeys(re.split(r"[^A-Za-z0-9._-]", one.strip())[0] for one in wanted))


def _q(text: str) -> str:
    return shlex.quote(text)
