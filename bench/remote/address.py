"""Where a device is reached: ``--host``, and what ``~/.ssh/config`` says about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gensoup.runtime.errors import MissingDependencyError, UsageError

_HOST = re.compile(
    r"(?:(?P<user>[^@\s]+)@)?(?:\[(?P<v6>[0-9a-fA-F:.]+(?:%\w+)?)\]|(?P<name>[^@:\s\[\]]+))(?::(?P<port>\d{1,5}))?"
)
_PORT = 22


@dataclass(frozen=True)
class Address:
    """A device's ssh server.

    asked: as the user wrote it, for messages. identities: private keys to try, empty: ssh's own. known_hosts: a file of
    host keys, None: the user's own.
    """

    asked: str
    host: str
    user: str | None
    port: int = _PORT
    identities: tuple[Path, ...] = ()
    known_hosts: Path | None = None

    @classmethod
    def of(
        cls, text: str, identity: Path | None = None, known_hosts: Path | None = None, config: Path | None = None
    ) -> Address:
        """Read ``USER@HOST[:PORT]``; what it leaves open comes from ``config`` (None: ``~/.ssh/config``).

        Raises UsageError for what is no address and for files that are not there, MissingDependencyError.
        """
        found = _HOST.fullmatch(text.strip())
        port = int(found["port"]) if found and found["port"] else None
        if found is None or (port is not None and not 1 <= port <= 65535):
            raise UsageError(f"--host {text}: must be USER@HOST, USER@HOST:PORT or USER@[IPV6]:PORT")
        for option, path in (("--identity", identity), ("--known-hosts", known_hosts)):
            if path is not None and not path.is_file():
                raise UsageError(f"{option} {path}: no such file")
        said = _configured(found["v6"] or found["name"], config or Path.home() / ".ssh" / "config")
        if any(name in said for name in ("proxyjump", "proxycommand")):
            raise UsageError(
                f"--host {text}: ssh's configuration takes a detour to it, which gensoup does not; open a tunnel "
                "(ssh -L 2222:CART:22 JUMP) and give --host USER@localhost:2222"
            )
        keys = (identity,) if identity is not None else tuple(Path(one) for one in said.get("identityfile", ()))
        return cls(
            asked=text,
            host=str(said.get("hostname") or found["v6"] or found["name"]),
            user=found["user"] or said.get("user"),
            port=port or int(said.get("port", _PORT)),
            identities=tuple(path for path in keys if path.is_file()),
            known_hosts=known_hosts,
        )


def _configured(host: str, config: Path) -> dict[str, str]:
    """What ssh's configuration says about a host."""
    try:
        import paramiko
    except ImportError as error:
        raise MissingDependencyError("paramiko", "remote") from error
    if not config.is_file():
        return {}
    try:
        return dict(paramiko.SSHConfig.from_path(str(config)).lookup(host))
    except (OSError, ImportError, ValueError, paramiko.SSHException) as error:
        raise UsageError(f"{config}: cannot be read ({(str(error).splitlines() or ['?'])[0]})") from error
