"""Why a device cannot be reached or used, each with what to do about it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from gensoup.bench.remote.address import Address
from gensoup.runtime.archive import shown
from gensoup.runtime.errors import GenSoupError

if TYPE_CHECKING:
    import paramiko


class RemoteError(GenSoupError):
    """The device cannot be reached, or lacks something."""


class LostConnection(RemoteError):
    """The connection ended; what it was for can be gone on with."""


class Unreachable(RemoteError):
    """Nothing answers; later something may."""


def why_not_connected(address: Address, error: Exception, paramiko: Any) -> GenSoupError:
    """What a failed connection means, and what to do about it."""
    asked, user = address.asked, address.user or "your own name"
    where = f"{address.host} port {address.port}"
    if isinstance(error, paramiko.BadHostKeyException):
        return RemoteError(
            f"{asked}: its host key has changed to {_fingerprint(error.key)}: another machine, a new installation, or "
            f"someone in between; if it is known to be right, ssh-keygen -R {_known_name(address)} and add the new key"
        )
    if isinstance(error, paramiko.PasswordRequiredException):
        return RemoteError(f"{asked}: the private key is encrypted, and no agent holds it: ssh-add it first")
    if isinstance(error, paramiko.AuthenticationException):
        keys = ", ".join(map(str, address.identities)) or "those of the agent and of ~/.ssh"
        return RemoteError(
            f"{asked}: authentication as {user} was refused (keys: {keys}); ssh-copy-id puts a key there, --identity "
            "names another; passwords are not asked for"
        )
    if isinstance(error, socket.gaierror):
        return RemoteError(f"{asked}: no host named {address.host} is known; check the name, or give its IP address")
    if isinstance(error, TimeoutError | paramiko.ssh_exception.NoValidConnectionsError | OSError):
        causes = [error, *getattr(error, "errors", {}).values()]
        if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
            return Unreachable(f"{asked}: nothing listens at {where}; is sshd running there, and on that port?")
        said = next((cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror), "no answer")
        return Unreachable(f"{asked}: no route to {where} ({said}); is it switched on and in this network?")
    said = shown((str(error).splitlines() or [type(error).__name__])[0])
    if "private key" in said or "encountered" in said:
        return RemoteError(f"{asked}: the private key cannot be read ({said}); --identity names another")
    return Unreachable(f"{asked}: what answers at {where} is no ssh server that can be talked to ({said})")


def unknown_keys_refused(address: Address) -> paramiko.MissingHostKeyPolicy:
    """A policy that never takes an unknown key, and tells how to add it."""
    import paramiko

    class Refuse(paramiko.MissingHostKeyPolicy):
        def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
            file = address.known_hosts or "~/.ssh/known_hosts"
            raise RemoteError(
                f"{address.asked}: its host key is not known: {_fingerprint(key)}; compare that with what "
                f"ssh-keygen -lf /etc/ssh/ssh_host_{_kind(key)}_key.pub says on the device itself, and if it is the "
                f"same: ssh-keyscan -p {address.port} {address.host} >> {file}"
            )

    return Refuse()


def _kind(key: paramiko.PKey) -> str:
    name = key.get_name()
    return "ed25519" if "ed25519" in name else "ecdsa" if "ecdsa" in name else "rsa"


def _fingerprint(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.fingerprint}"


def _known_name(address: Address) -> str:
    return address.host if address.port == 22 else f"'[{address.host}]:{address.port}'"
