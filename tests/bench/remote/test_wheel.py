from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import gensoup
from gensoup.bench.remote.wheel import build_wheel


def test_a_wheel_holds_every_file_with_its_digest() -> None:
    name, content = build_wheel()
    installed = distribution("gensoup")
    version = name.split("-")[1]
    assert re.fullmatch(rf"{re.escape(gensoup.__version__)}\+[0-9a-f]{{8}}", version)
    assert name == f"gensoup-{version}-py3-none-any.whl" and build_wheel() == (name, content)
    archive = zipfile.ZipFile(io.BytesIO(content))
    about = f"gensoup-{version}.dist-info"
    lines = archive.read(f"{about}/RECORD").decode().splitlines()
    assert {line.partition(",")[0] for line in lines} == set(archive.namelist())
    for line in lines[:-1]:
        member, digest, size = line.split(",")
        data = archive.read(member)
        wanted = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        assert digest == f"sha256={wanted}" and int(size) == len(data)
    metadata = archive.read(f"{about}/METADATA").decode()
    assert "Requires-Dist: numpy" in metadata and f"\nVersion: {version}\n" in metadata
    entry_points = archive.read(f"{about}/entry_points.txt").decode()
    assert "gensoup = gensoup." in entry_points and entry_points == installed.read_text("entry_points.txt")


def test_it_holds_what_a_device_needs_and_nothing_compiled() -> None:
    names = zipfile.ZipFile(io.BytesIO(build_wheel()[1])).namelist()
    checkout = Path(gensoup.__file__).parent
    sources = {
        f"gensoup/runtime/{path.relative_to(checkout / 'runtime')}" for path in (checkout / "runtime").glob("*.py")
    }
    assert sources <= set(names) and "gensoup/bench/remote/wheel.py" in names
    assert any(name.startswith("gensoup/runtime/view/page/") for name in names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
