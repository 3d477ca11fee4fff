"""A cart on loopback: a real sshd with keys, settings and an environment of its own, and a kit of one small graph."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from gensoup.bench.remote.address import Address

SSHD = shutil.which("sshd") or next((path for path in ("/usr/sbin/sshd",) if Path(path).exists()), None)
PRIVILEGE_SEPARATION = Path("/run/sshd")  # what an sshd of root's insists on


@dataclass
class Sshd:
    """A server that runs, and how it is reached. home: where the cart keeps what it is brought."""

    port: int
    folder: Path
    home: Path
    process: subprocess.Popen[bytes]

    @property
    def host(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def identity(self) -> Path:
        return self.folder / "user"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def address(self) -> Address:
        return Address.of(self.host, self.identity, self.known_hosts, config=self.folder / "none")

    def options(self) -> list[str]:
        """Of ``gensoup probe``."""
        named = {"--identity": self.identity, "--known-hosts": self.known_hosts, "--remote-dir": self.home}
        return ["--host", self.host, *(str(part) for pair in named.items() for part in pair)]

    def hang_up(self) -> None:
        """End the connections that are open, as a lost network does: their processes, not the server."""
        for child in children(self.process.pid):
            os.kill(child, signal.SIGKILL)


def children(parent: int) -> list[int]:
    """The processes that ``parent`` started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def make_key(path: Path) -> str:
    """A new pair; returns the public key."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()


def free_port() -> int:
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.fixture(scope="session")
def start_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Sshd]]:
    """Start a server whose sessions have the environment given; all are ended with the tests."""
    if SSHD is None or shutil.which("ssh-keygen") is None:
        pytest.skip("needs sshd (Debian's openssh-server)")
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(exist_ok=True)
    started: list[Sshd] = []

    def start(environment: Mapping[str, str] | None = None) -> Sshd:
        folder = tmp_path_factory.mktemp("sshd")
        (folder / "authorized_keys").write_text(make_key(folder / "user"))
        host_key = make_key(folder / "host")
        (folder / "home").mkdir()
        # Python itself, and not the wrappers of a version manager, of which each call takes half a second.
        programs = os.pathsep.join([str(Path(sys.base_prefix) / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
        values = {"PATH": programs, **(environment or {})}
        setting = " ".join(f'"{name}={value}"' for name, value in values.items())
        port = free_port()
        (folder / "sshd_config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\n"
            f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\nSetEnv {setting}\nLogLevel ERROR\n"
        )
        kind, key = host_key.split()[:2]
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
        server = Sshd(port, folder, folder / "home", process)
        started.append(server)
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return server
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    pytest.fail(f"sshd does not start: {(folder / 'log').read_text()}")
                time.sleep(0.05)

    yield start
    for server in started:
        server.hang_up()
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="session")
def sshd(start_sshd: Callable[..., Sshd]) -> Sshd:
    """A cart whose Python has this environment's packages as its system's."""
    import numpy

    return start_sshd({"PYTHONPATH": str(Path(numpy.__file__).parent.parent), "OMP_NUM_THREADS": "1"})
