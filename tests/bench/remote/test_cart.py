"""What a device lacks, each in one line with the remedy; and that it is brought into a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gensoup.bench.probe_kit import ProbeKit

from .conftest import Sshd

pytest.importorskip("paramiko")

from gensoup.bench.remote import cart as cart_module
from gensoup.bench.remote.cart import Cart, Facts, _why
from gensoup.bench.remote.connection import Done, connected
from gensoup.bench.remote.failures import RemoteError
from gensoup.bench.remote.wheel import build_wheel
from gensoup.runtime.errors import UsageError

MakeKit = Callable[[Mapping[str, bytes]], ProbeKit]
# A Python without ensurepip, as Debian has it without python3-venv.
NO_ENSUREPIP = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "ensurepip":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
"""


def bare(folder: Path, **programs: str) -> dict[str, str]:
    """The environment of a cart that has sh and these programs (shell scripts) alone."""
    folder.mkdir()
    for name in ("sh", "printf", "mkdir", "rm", "test", "touch"):
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder), "HOME": str(folder)}


def opened(server: Sshd) -> Cart:
    with connected(server.address) as connection:
        return Cart(connection, str(server.home), lambda line: None)


def test_an_old_python_and_none_at_all(start_sshd: Callable[..., Sshd], tmp_path: Path) -> None:
    told = {"python": "/usr/bin/python3", "version": [3, 8, 10], "venv": True, "free": 1, "machine": "x", "engines": []}
    old = start_sshd(bare(tmp_path / "old", python3=f"echo '{json.dumps(told)}'"))
    with pytest.raises(RemoteError, match=r"needs Python 3\.10 or newer, has 3\.8\.10; install one there") as error:
        opened(old)
    assert "\n" not in str(error.value)
    with pytest.raises(RemoteError, match=r"needs Python 3\.10 or newer, has none"):
        opened(start_sshd(bare(tmp_path / "none")))


def test_neither_venv_nor_uv(start_sshd: Callable[..., Sshd], tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NO_ENSUREPIP)
    environment = bare(tmp_path / "bin", python3=f'PYTHONPATH={tmp_path}/site exec {sys.executable} "$@"')
    with pytest.raises(RemoteError, match="has neither venv and pip nor uv: install python3-venv"):
        opened(start_sshd(environment))


def test_a_full_disk_is_told_before_anything_is_copied(
    sshd: Sshd, make_kit: MakeKit, tiny_model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cart_module, "SPARE_BYTES", 1 << 60)
    kit = make_kit({"full": tiny_model})
    with connected(sshd.address) as connection:
        cart = Cart(connection, str(sshd.home), lambda line: None)
        assert cart.facts.free > 0 and cart.facts.version >= (3, 10)
        with pytest.raises(RemoteError, match=r"its disk is full: \d+ MiB free where .* needed; free some"):
            cart.bring_kit(kit, lambda done, total: None)


def test_a_kit_is_copied_once_and_what_is_damaged_there_again(sshd: Sshd, make_kit: MakeKit, tiny_model: bytes) -> None:
    kit = make_kit({"one": tiny_model, "two": tiny_model})
    notes: list[str] = []
    with connected(sshd.address) as connection:
        cart = Cart(connection, str(sshd.home), notes.append)
        folder = Path(cart.bring_kit(kit, lambda done, total: None))
        there = ProbeKit.load(folder)
        there.check()
        assert there.sha256 == kit.sha256 and sshd.home in folder.parents
        assert notes == [f"{sshd.host}: copying 2 graphs, {2 * len(tiny_model) / 1e6:.1f} MB"]
        cart.bring_kit(kit, lambda done, total: None)
        assert len(notes) == 1
        (folder / kit.graphs[1].file).write_bytes(b"half")
        cart.bring_kit(kit, lambda done, total: None)
        there.check()
        assert "copying 1 graphs" in notes[1]


def test_a_folder_that_cannot_be_made_is_named(sshd: Sshd, make_kit: MakeKit, tiny_model: bytes) -> None:
    with connected(sshd.address) as connection:
        cart = Cart(connection, "/proc/none", lambda line: None)
        with pytest.raises(RemoteError, match=r"/proc/none cannot be made"):
            cart.bring_environment(build_wheel(), None, None)


def test_another_users_folder_is_not_trusted(sshd: Sshd, make_kit: MakeKit, tiny_model: bytes) -> None:
    """What lies in it is run."""
    kit, theirs = make_kit({"one": tiny_model}), sshd.home.parent / "theirs"
    if os.geteuid() == 0:
        theirs.mkdir()
        os.chown(theirs, 65534, 65534)
    else:
        theirs.symlink_to("/usr")
    with connected(sshd.address) as connection:
        cart = Cart(connection, str(theirs), lambda line: None)
        with pytest.raises(RemoteError, match="belongs to another user; name another with --remote-dir"):
            cart.bring_environment(build_wheel(), None, None)
        with pytest.raises(RemoteError, match="belongs to another user"):
            cart.bring_kit(kit, lambda done, total: None)


def test_what_a_device_says_does_not_steer_the_terminal(sshd: Sshd) -> None:
    with connected(sshd.address) as connection:
        done = connection.run(r"printf 'no \033[2J\033]0;x\007way\n' >&2; exit 1")
    assert "\x1b" in done.err and done.last_line == "no [2J ]0;x way"


def test_wheels_that_are_none_are_refused(sshd: Sshd, tmp_path: Path) -> None:
    with connected(sshd.address) as connection:
        cart = Cart(connection, str(sshd.home / "wheels"), lambda line: None)
        with pytest.raises(UsageError, match=r"--wheels .* holds no wheels"):
            cart.bring_environment(build_wheel(), (), tmp_path)


FACTS = Facts("/usr/bin/python3", (3, 10, 12), True, None, (), 1 << 40, "aarch64")


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "its disk is full"),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError': [Errno 111] Connection refused\n"
            "ERROR: No matching distribution found for numpy>=1.26",
            "--python-version 3.10 --platform manylinux_2_28_aarch64",
        ),
        (
            "error: Request failed after 3 retries\n  Caused by: dns error: failed to lookup address",
            "as if it had no network",
        ),
        ("ERROR: onnxruntime has a bad wheel", "packages cannot be installed (ERROR: onnxruntime has a bad wheel)"),
    ],
)
def test_why_packages_cannot_be_installed(said: str, line: str) -> None:
    told = _why(Done(1, "", said), FACTS, "/x/gensoup-0.1.0-py3-none-any.whl[cpu]")
    assert line in told and "\n" not in told
    assert ("onnxruntime" in told) == ("network" in told or "bad wheel" in told)
