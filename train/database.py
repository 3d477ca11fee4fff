"""Where a run's ledger is: an SQLite file in the run folder, or a study of its own in a PostgreSQL database."""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, quote_plus

import optuna
from optuna.exceptions import OptunaError
from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from gensoup.runtime.errors import GenSoupError, MissingDependencyError, UsageError, WriteError
from gensoup.runtime.files import atomic_path, write_atomic

STUDY = "gensoup"
SCHEMA_VERSION = 1
DATABASE = "study.db"
ADDRESS_FILE = "ledger.json"  # address and study of a ledger that is not in the run folder; never a password
VERSION_KEY = "schema_version"
FORM = "postgresql://USER@HOST:PORT/NAME"
SECRETS = ("password", "sslpassword")  # of what an address may carry
CONNECT_S = 10

DatabaseErrors = (SQLAlchemyError, OptunaError)


class Database(Protocol):
    """Holds one study."""

    def opened(self, about: Mapping[str, Any]) -> optuna.Study:
        """The study, made with ``about`` as its attributes where there is none. Raises GenSoupError when it is no
        ledger, damaged or a newer GenSoup's, WriteError when it cannot be made."""
        ...

    def unusable(self, error: Exception) -> GenSoupError:
        """In one line, for what is no ledger."""
        ...

    def unwritable(self, error: Exception) -> WriteError:
        """In one line, for what could not be committed."""
        ...


class SqliteFile:
    """``study.db`` in a run folder."""

    def __init__(self, run: Path) -> None:
        self._path = run / DATABASE

    def opened(self, about: Mapping[str, Any]) -> optuna.Study:
        """See :class:`Database`."""
        if not self._path.parent.is_dir():
            raise GenSoupError(f"{self._path}: there is no such run folder")
        if not self._path.exists():
            self._create({VERSION_KEY: SCHEMA_VERSION, **about})
        self._check()
        try:
            return optuna.load_study(study_name=STUDY, storage=_sqlite(self._path))
        except (*DatabaseErrors, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise self.unusable(error) from error

    def unusable(self, error: Exception) -> GenSoupError:
        """See :class:`Database`."""
        return GenSoupError(
            f"{self._path}: not a ledger that can be used ({_line(error)}); put a copy back or start a new run"
        )

    def unwritable(self, error: Exception) -> WriteError:
        """See :class:`Database`."""
        line = _line(error)
        remedy = "check its permissions" if "readonly" in line or "open" in line else "free some space there"
        return WriteError(f"{self._path}: cannot be written ({line}); {remedy}")

    def _create(self, about: Mapping[str, Any]) -> None:
        """Make an empty ledger, whole or not at all: half a database would be taken for a foreign one."""
        try:
            with atomic_path(self._path) as temporary:
                storage = optuna.storages.RDBStorage(_sqlite(temporary))
                try:
                    _new_study(STUDY, storage, about)
                finally:
                    storage.remove_session()
                    storage.engine.dispose()
        except DatabaseErrors as error:
            raise self.unwritable(error) from error

    def _check(self) -> None:
        """Refuse what is no whole ledger of this GenSoup before Optuna sees it, which would add tables to any
        database."""
        query = "SELECT key, value_json FROM study_user_attributes JOIN studies USING (study_id) WHERE study_name = ?"
        try:
            with contextlib.closing(
                sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=rw", uri=True)
            ) as connection:
                (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
                known = {"studies", "study_user_attributes"} <= tables
                attributes = dict(connection.execute(query, (STUDY,))) if known else {}
        except sqlite3.Error as error:
            raise self.unusable(error) from error
        if state != "ok":
            raise self.unusable(sqlite3.DatabaseError(" ".join(str(state).split())))
        try:
            version = int(json.loads(attributes[VERSION_KEY]))
        except (KeyError, TypeError, ValueError) as error:
            raise GenSoupError(
                f"{self._path}: another program's database, no ledger of GenSoup; put the run's own back or start a "
                "new run"
            ) from error
        _check_version(str(self._path), version)


class PostgresStudy:
    """A study of a run's own in a database that may hold many. Its name is in the run folder."""

    def __init__(self, run: Path, url: URL, study: str | None) -> None:
        """study: None makes one, with its first opening."""
        self._run, self._url, self._study = run, url, study

    @property
    def address(self) -> str:
        """As it may be shown and kept: without a password."""
        query = {name: value for name, value in self._url.query.items() if name not in SECRETS}
        plain = self._url.set(drivername="postgresql", query=query)
        return URL.create(
            plain.drivername, plain.username, None, plain.host, plain.port, plain.database, plain.query
        ).render_as_string()

    def reach(self) -> None:
        """Raise GenSoupError unless the database answers and lets this user in, MissingDependencyError without a
        driver."""
        try:
            engine = create_engine(self._url, connect_args={"connect_timeout": CONNECT_S})
        except ModuleNotFoundError as error:
            raise MissingDependencyError(error.name or "psycopg", "postgresql") from error
        except SQLAlchemyError as error:
            raise UsageError(f"--ledger {self.address}: {self._line(error)}; give {FORM}") from error
        try:
            engine.connect().close()
        except SQLAlchemyError as error:
            raise GenSoupError(
                f"--ledger {self.address}: cannot be reached ({self._line(error)}); see that it is up and that the "
                "database is there (createdb makes one), and that the password is in PGPASSWORD or ~/.pgpass"
            ) from error
        finally:
            engine.dispose()

    def opened(self, about: Mapping[str, Any]) -> optuna.Study:
        """See :class:`Database`."""
        self.reach()
        try:
            # An individual may take hours, in which a connection that nobody uses is cut.
            storage = optuna.storages.RDBStorage(
                self._url.render_as_string(hide_password=False),
                engine_kwargs={"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_S}},
            )
            if self._study is None:
                name = f"{STUDY}-{self._run.resolve().name}-{secrets.token_hex(4)}"
                study = _new_study(name, storage, {VERSION_KEY: SCHEMA_VERSION, **about})
                # Only now: a run folder never names a study that is not there.
                write_atomic(self._run / ADDRESS_FILE, json.dumps({"address": self.address, "study": name}, indent=1))
                self._study = name
                return study
            study = optuna.load_study(study_name=self._study, storage=storage)
            version = int(study.user_attrs[VERSION_KEY])
        except KeyError as error:
            raise GenSoupError(
                f"--ledger {self.address}: holds no study '{self._study}', the one of this run; name the database that "
                "the run began with, or a copy of it"
            ) from error
        except (*DatabaseErrors, RuntimeError, TypeError, ValueError) as error:
            raise self.unusable(error) from error
        _check_version(self.address, version)
        return study

    def unusable(self, error: Exception) -> GenSoupError:
        """See :class:`Database`."""
        return GenSoupError(f"--ledger {self.address}: not a ledger that can be used ({self._line(error)})")

    def unwritable(self, error: Exception) -> WriteError:
        """See :class:`Database`."""
        return WriteError(f"--ledger {self.address}: cannot be written ({self._line(error)}); see that it is up")

    def _line(self, error: BaseException) -> str:
        """What the driver says, without a password, should it say it."""
        line = _line(error)
        for secret in (self._url.password, *(self._url.query.get(name) for name in SECRETS)):
            if isinstance(secret, str) and secret:
                line = line.replace(secret, "***").replace(quote_plus(secret), "***").replace(quote(secret, ""), "***")
        return line


def database_of(run: Path, address: str | None) -> SqliteFile | PostgresStudy:
    """Where the ledger of ``run`` is, or is to be. address: ``--ledger``; None: as the run began, else its folder.

    Raises UsageError for another kind than the run began with and for what is no address of a PostgreSQL database; the
    message does not repeat it, for there may be a password in it.
    """
    kept = run / ADDRESS_FILE
    if kept.exists():
        try:
            values = json.loads(kept.read_text(encoding="utf-8"))
            begun, study = str(values["address"]), str(values["study"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise GenSoupError(f"{kept}: cannot be read ({error}); put a copy back or start a new run") from error
        return PostgresStudy(run, _parsed(address or begun), study)
    if address is None:
        return SqliteFile(run)
    if (run / DATABASE).exists():
        raise UsageError(f"--ledger: the run in {run} keeps its own in {DATABASE}; leave the option out")
    return PostgresStudy(run, _parsed(address), None)


def _parsed(address: str) -> URL:
    try:
        url = make_url(address)
        whole = url.get_backend_name() == "postgresql" and bool(url.database)
    except (SQLAlchemyError, ValueError):
        whole = False
    if not whole:
        raise UsageError(f"--ledger: this is no address of a PostgreSQL database; give {FORM}")
    return url.set(drivername="postgresql+psycopg")


def _new_study(name: str, storage: optuna.storages.RDBStorage, about: Mapping[str, Any]) -> optuna.Study:
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
    for key, value in about.items():
        study.set_user_attr(key, value)
    return study


def _check_version(name: str, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise GenSoupError(f"{name}: written by a newer GenSoup (ledger schema {version}): update gensoup")


def _sqlite(path: Path) -> str:
    return f"sqlite:///{path}"


def _line(error: BaseException) -> str:
    """What the database itself said: Optuna and SQLAlchemy wrap that in advice on their own storage."""
    while isinstance(cause := getattr(error, "orig", None) or error.__cause__, BaseException):
        error = cause
    return (str(error).splitlines() or [type(error).__name__])[0]
