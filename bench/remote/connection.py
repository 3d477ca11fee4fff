"""A connection over ssh: commands, files, and errors that say what to do about them."""

from __future__ import annotations

import codecs
import errno
import shlex
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gensoup.bench.remote.address import Address
from gensoup.bench.remote.failures import LostConnection, RemoteError, unknown_keys_refused, why_not_connected
from gensoup.runtime.archive import shown
from gensoup.runtime.errors import GenSoupError, MissingDependencyError, UsageError

if TYPE_CHECKING:
    import paramiko

CONNECT_S = 15.0
KEEP_ALIVE_S = 10
_POLL_S = 0.5
_CHUNK = 1 << 16
MAX_SAID = 300  # of a device's own words


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """What it said last, to its errors if there."""
        lines = [line.strip() for line in (self.err.strip() or self.out.strip()).splitlines() if line.strip()]
        return shown(lines[-1], MAX_SAID) if lines else f"exit code {self.code}"


@contextmanager
def connected(address: Address) -> Iterator[Connection]:
    """A connection for the time of a ``with``. Raises UsageError or RemoteError, one line each."""
    connection = Connection(address, _connect(address))
    try:
        yield connection
    finally:
        connection.close()


class Connection:
    """Commands and files on one device. Not thread-safe. Every method raises LostConnection when the line is cut."""

    def __init__(self, address: Address, client: paramiko.SSHClient) -> None:
        self.address = address
        self._client = client
        self._files: paramiko.SFTPClient | None = None

    def run(self, script: str, silence_s: float = 120.0, on_line: Callable[[str], None] | None = None) -> Done:
        """Run a script of the POSIX shell. on_line: told each line of its output as it comes.

        silence_s: after which, without any output, the connection counts as lost.
        """
        with self._noticing():
            transport = self._client.get_transport()
            if transport is None or not transport.is_active():
                raise LostConnection(f"{self.address.asked}: the connection was lost")
            channel = transport.open_session(timeout=CONNECT_S)
            try:
                channel.exec_command("sh -c " + shlex.quote(script))
                channel.shutdown_write()
                return self._listen(channel, silence_s, on_line)
            finally:
                channel.close()

    def _listen(self, channel: paramiko.Channel, silence_s: float, on_line: Callable[[str], None] | None) -> Done:
        channel.settimeout(_POLL_S)
        out, err, line = "", "", ""
        decode_out, decode_err = (codecs.getincrementaldecoder("utf-8")("replace").decode for _ in range(2))
        heard = time.monotonic()
        while True:
            text = ""
            with suppress(TimeoutError):
                chunk = channel.recv(_CHUNK)
                text = decode_out(chunk)
                if not chunk and not channel.recv_stderr_ready() and channel.closed | channel.exit_status_ready():
                    break
                if not chunk:
                    time.sleep(0.02)  # its output is closed; what it says to its errors may come yet
            while channel.recv_stderr_ready():
                err += decode_err(channel.recv_stderr(_CHUNK))
                heard = time.monotonic()
            if text:
                heard = time.monotonic()
                out += text
                if on_line is not None:
                    *whole, line = (line + text).split("\n")
                    for one in whole:
                        on_line(one)
            transport = channel.get_transport()
            if not transport.is_active() or time.monotonic() - heard > silence_s:
                raise LostConnection(f"{self.address.asked}: the connection was lost")
        while channel.recv_stderr_ready():
            err += decode_err(channel.recv_stderr(_CHUNK))
        if not channel.exit_status_ready():  # closed without a status: the server's process is gone
            raise LostConnection(f"{self.address.asked}: the connection was lost")
        code = channel.recv_exit_status()
        if code < 0:
            raise LostConnection(f"{self.address.asked}: the connection was lost")
        return Done(code, out, err)

    def put(self, content: Path | bytes, path: str, sent: Callable[[int], None] | None = None) -> None:
        """Write a file there, so that under its name it is whole. sent: told how many bytes have gone so far.

        Raises RemoteError when it cannot be written.
        """
        partly = f"{path}.part"
        with self._noticing():
            files = self._sftp()
            try:
                with files.open(partly, "wb") as file:
                    file.set_pipelined(True)
                    done = 0
                    for chunk in _chunks(content):
                        file.write(chunk)
                        done += len(chunk)
                        if sent is not None:
                            sent(done)
                length = content.stat().st_size if isinstance(content, Path) else len(content)
                if files.stat(partly).st_size != length:
                    raise OSError(errno.EIO, "only a part of it arrived")
                files.posix_rename(partly, path)
            except OSError as error:
                self._check_alive(error)
                with suppress(OSError):
                    files.remove(partly)
                raise RemoteError(
                    f"{self.address.asked}: {path} cannot be written ({error.strerror or error}); is its disk full?"
                ) from error

    def get(self, path: str) -> bytes | None:
        """A file's content; None where there is none."""
        with self._noticing():
            try:
                with self._sftp().open(path, "rb") as file:
                    file.prefetch()
                    return file.read()
            except FileNotFoundError:
                return None
            except OSError as error:
                self._check_alive(error)
                raise RemoteError(f"{self.address.asked}: {path} cannot be read ({error.strerror or error})") from error

    def sizes(self, folder: str) -> dict[str, int]:
        """Name → bytes of the files in a folder."""
        with self._noticing():
            entries = self._sftp().listdir_attr(folder)
            return {one.filename: one.st_size or 0 for one in entries if stat.S_ISREG(one.st_mode or 0)}

    def close(self) -> None:
        """End it."""
        self._client.close()

    def _sftp(self) -> paramiko.SFTPClient:
        if self._files is None:
            self._files = self._client.open_sftp()
            channel = self._files.get_channel()
            if channel is not None:
                channel.settimeout(120.0)
        return self._files

    def _check_alive(self, error: Exception) -> None:
        transport = self._client.get_transport()
        if transport is None or not transport.is_active() or isinstance(error, TimeoutError | ConnectionError):
            raise LostConnection(f"{self.address.asked}: the connection was lost ({error})") from error

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        import paramiko

        try:
            yield
        except (EOFError, ConnectionError, TimeoutError, paramiko.SSHException) as error:
            raise LostConnection(f"{self.address.asked}: the connection was lost ({error or 'cut'})") from error


def _connect(address: Address) -> paramiko.SSHClient:
    try:
        import paramiko
    except ImportError as error:
        raise MissingDependencyError("paramiko", "remote") from error
    client = paramiko.SSHClient()
    try:
        if address.known_hosts is None:
            client.load_system_host_keys()
        else:
            client.load_host_keys(str(address.known_hosts))
    except (OSError, ValueError, paramiko.SSHException) as error:
        raise UsageError(f"{address.known_hosts or '~/.ssh/known_hosts'}: cannot be read ({error})") from error
    client.set_missing_host_key_policy(unknown_keys_refused(address))
    own = not address.identities
    try:
        client.connect(
            address.host,
            address.port,
            address.user,
            key_filename=[str(path) for path in address.identities] or None,  # type: ignore[arg-type]  # a list too
            allow_agent=True,
            look_for_keys=own,
            timeout=CONNECT_S,
            banner_timeout=CONNECT_S,
            auth_timeout=CONNECT_S,
        )
        transport = client.get_transport()
        assert transport is not None
        transport.set_keepalive(KEEP_ALIVE_S)
        return client
    except BaseException as error:
        client.close()
        if isinstance(error, GenSoupError) or not isinstance(error, Exception):
            raise
        raise why_not_connected(address, error, paramiko) from error


def _chunks(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        for start in range(0, len(content), _CHUNK):
            yield content[start : start + _CHUNK]
        return
    with content.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
