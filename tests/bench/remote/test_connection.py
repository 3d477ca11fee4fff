"""Why a device cannot be reached, each with what to do about it."""

from __future__ import annotations

import errno
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from .conftest import Sshd, free_port, make_key

paramiko = pytest.importorskip("paramiko")

from gensoup.bench.remote.address import Address  # noqa: E402
from gensoup.bench.remote.connection import connected  # noqa: E402
from gensoup.bench.remote.failures import LostConnection, RemoteError, why_not_connected  # noqa: E402
from gensoup.runtime.errors import GenSoupError  # noqa: E402


def refusal(address: Address) -> str:
    with pytest.raises(GenSoupError) as error, connected(address):
        pass
    assert "\n" not in str(error.value) and str(error.value).startswith(address.asked)
    return str(error.value)


def test_commands_files_and_their_errors(sshd: Sshd, tmp_path: Path) -> None:
    with connected(sshd.address) as connection:
        lines: list[str] = []
        done = connection.run("echo one; echo 'two ü'; echo no >&2; exit 3", on_line=lines.append)
        assert (done.code, done.out, done.last_line) == (3, "one\ntwo ü\n", "no") and lines == ["one", "two ü"]
        content = bytes(range(256)) * 2000
        sent: list[int] = []
        connection.put(content, str(tmp_path / "there"), sent.append)
        assert (tmp_path / "there").read_bytes() == content and sent[-1] == len(content) and len(sent) > 1
        connection.put(tmp_path / "there", str(tmp_path / "again"))
        assert connection.get(str(tmp_path / "again")) == content
        assert connection.get(str(tmp_path / "gone")) is None
        with pytest.raises(RemoteError, match="/proc/none cannot be written"):
            connection.put(b"x", "/proc/none")
        assert {path.name for path in tmp_path.iterdir()} == {"there", "again"}


def test_a_connection_that_is_cut_is_lost(sshd: Sshd) -> None:
    with connected(sshd.address) as connection:
        with pytest.raises(LostConnection, match="connection was lost"):
            connection.run("echo begun; sleep 20", on_line=lambda line: sshd.hang_up())
        with pytest.raises(LostConnection):
            connection.run("true")
        with pytest.raises(LostConnection):
            connection.get("/etc/hostname")
    with connected(sshd.address) as connection, pytest.raises(LostConnection):
        connection.run("sleep 20", silence_s=0.1)


def test_an_unknown_host_key_is_told_and_never_taken(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.touch()
    address = replace(sshd.address, known_hosts=known)
    line = refusal(address)
    told = subprocess.run(["ssh-keygen", "-lf", str(sshd.folder / "host.pub")], capture_output=True, text=True).stdout
    assert "its host key is not known: ssh-ed25519" in line and told.split()[1] in line
    assert known.read_text() == ""
    command = line.partition("if it is the same: ")[2]
    subprocess.run(command, shell=True, check=True, stderr=subprocess.DEVNULL)  # what it says to do mends it
    with connected(address) as connection:
        assert connection.run("true").code == 0


def test_a_changed_host_key_is_an_alarm(sshd: Sshd, tmp_path: Path) -> None:
    kind, key = make_key(tmp_path / "other").split()[:2]
    (tmp_path / "known").write_text(f"[127.0.0.1]:{sshd.port} {kind} {key}\n")
    line = refusal(replace(sshd.address, known_hosts=tmp_path / "known"))
    assert "its host key has changed" in line and f"ssh-keygen -R '[127.0.0.1]:{sshd.port}'" in line


def test_a_key_that_is_not_let_in_encrypted_or_no_key(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    make_key(tmp_path / "other")
    line = refusal(replace(sshd.address, identities=(tmp_path / "other",)))
    assert "authentication as" in line and "ssh-copy-id" in line and str(tmp_path / "other") in line
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(tmp_path / "other")], check=True)
    assert "ssh-add it first" in refusal(replace(sshd.address, identities=(tmp_path / "other",)))
    (tmp_path / "text").write_text("no key")
    assert "--identity names another" in refusal(replace(sshd.address, identities=(tmp_path / "text",)))


def test_nothing_there_another_service_and_no_such_name(sshd: Sshd) -> None:
    assert "is sshd running there" in refusal(replace(sshd.address, port=free_port()))
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        line = refusal(replace(sshd.address, port=server.getsockname()[1]))
    assert "is no ssh server" in line
    for error, words in (
        (socket.gaierror(-2, "Name or service not known"), "no host named 127.0.0.1 is known"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no route to 127.0.0.1 port"),
        (TimeoutError("timed out"), "is it switched on"),
    ):
        assert words in str(why_not_connected(sshd.address, error, paramiko))


def test_a_known_hosts_file_that_is_none_is_named(sshd: Sshd, start_sshd: Callable[..., Sshd], tmp_path: Path) -> None:
    (tmp_path / "known").write_bytes(b"\xff\xfe\x00 not host keys")
    with pytest.raises(GenSoupError) as error, connected(replace(sshd.address, known_hosts=tmp_path / "known")):
        pass
    assert "\n" not in str(error.value)
