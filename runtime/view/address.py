"""Where the live view listens, and whom it lets in."""

from __future__ import annotations

import errno
import ipaddress
import re
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gensoup.runtime.errors import GenSoupError, UsageError

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8064
DEFAULT_ADDRESS = f"{DEFAULT_HOST}:{DEFAULT_PORT}"
OPTION = "--view"

_TOKEN_BYTES = 32
_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]*):)?(?P<port>\d{1,5})")

_REMEDIES = {
    errno.EADDRNOTAVAIL: "give an address of this machine, or 0.0.0.0 for all it has",
    errno.EACCES: "give a port from 1024 on",
}


@dataclass(frozen=True)
class Address:
    """A host name or IP address (IPv6 without brackets) and a port; 0: any free one."""

    host: str
    port: int

    @property
    def local(self) -> bool:
        """Whether this machine alone can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def everywhere(self) -> bool:
        """Whether it stands for all network interfaces."""
        return self.host in ("0.0.0.0", "::")

    def url(self) -> str:
        """``http://HOST:PORT/``; for all interfaces the host is this machine's outward address."""
        host = _outward_host() if self.everywhere else self.host
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"


def parse_address(text: str) -> Address:
    """``HOST:PORT``, ``:PORT`` or ``PORT`` (on 127.0.0.1), ``[IPV6]:PORT``. Raises UsageError for anything else."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise UsageError(f"{OPTION} {text}: must be HOST:PORT or PORT, such as {DEFAULT_ADDRESS}")
    return Address((match["host"] or DEFAULT_HOST).strip("[]"), int(match["port"]))


def with_default_address(arguments: Sequence[str]) -> list[str]:
    """The command line with the default address put in behind each ``--view`` that has none.

    What follows belongs to it unless it is an option or a file: ``--view`` may also stand before the bundle's name.
    """
    filled: list[str] = []
    for position, argument in enumerate(arguments):
        filled.append(argument)
        if argument == "--":
            return [*filled, *arguments[position + 1 :]]
        if argument == OPTION:
            following = next(iter(arguments[position + 1 :]), "-")
            is_file = following.endswith(".gensoup") or Path(following).exists()
            if following.startswith("-") or (is_file and not _ADDRESS.fullmatch(following)):
                filled.append(DEFAULT_ADDRESS)
    return filled


def new_token() -> str:
    """43 random characters, fit for a URL."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def listen(address: Address) -> socket.socket:
    """A socket bound to the address and listening. Raises GenSoupError, one line, where that cannot be."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise GenSoupError(
            f"{OPTION} {address.host}: is no address of this machine ({error.strerror}); 0.0.0.0 stands for all it has"
        ) from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a port is taken for a minute after each run
        bound.bind(where)
        bound.listen()
    except OSError as error:
        bound.close()
        place = f"{OPTION} {address.host}:{address.port}"
        remedy = _REMEDIES.get(error.errno or 0, "give another port")
        raise GenSoupError(f"{place}: cannot be listened on ({error.strerror}); {remedy}") from error
    return bound


def _outward_host() -> str:
    """The address by which other machines reach this one; its name where it has no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address; a datagram socket sends nothing by connecting
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
