"""The ledger in PostgreSQL, against a server that the test starts."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from gensoup.export.trained import MODEL_FILE
from gensoup.runtime.errors import GenSoupError, MissingDependencyError, UsageError, WriteError
from gensoup.train.database import ADDRESS_FILE, DATABASE, PostgresStudy, database_of
from gensoup.train.ledger import Ledger, Record
from gensoup.train.run import train_run
from gensoup.train.settings import Settings

PASSWORD = "sehr:ge/heim"
QUOTED = "sehr%3Age%2Fheim"


def binary(name: str) -> str | None:
    """A program of PostgreSQL's, which Debian keeps off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server that listens on a Unix socket alone. folder: where that lies."""

    folder: Path
    address: str
    stop: Callable[[], None]
    start: Callable[[], None]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    initdb, control = binary("initdb"), binary("pg_ctl")
    if initdb is None or control is None:
        pytest.skip("needs PostgreSQL's server")
    with tempfile.TemporaryDirectory(prefix="gs-", dir="/tmp") as name:
        folder = Path(name)
        as_user: list[str] = []
        if os.geteuid() == 0:  # which PostgreSQL refuses to run as
            try:
                pwd.getpwnam("nobody")
            except KeyError:
                pytest.skip("needs an unprivileged user")
            folder.chmod(0o755)
            as_user = ["setpriv", "--reuid=nobody", "--clear-groups", "--regid=nogroup"]
            shutil.chown(folder, "nobody", "nogroup")
        (folder / "password").write_text(PASSWORD, encoding="utf-8")
        (folder / "password").chmod(0o644)

        def call(*command: str) -> None:
            subprocess.run([*as_user, *command], check=True, capture_output=True, cwd="/")

        data, log = str(folder / "data"), str(folder / "log")
        call(initdb, "-D", data, "-U", "gs", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"

        def start() -> None:
            call(control, "-D", data, "-l", log, "-o", options, "-w", "start")

        def stop() -> None:
            call(control, "-D", data, "-m", "immediate", "-w", "stop")

        start()
        try:
            yield Server(folder, f"postgresql://gs:{QUOTED}@/postgres?host={folder}", stop, start)
        finally:
            stop()


def record(index: int) -> Record:
    genes = {"architecture": 0.1, "strong": 1.25}
    return Record(
        ("search", 0, index), genes, {"architecture": "a"}, ("x",), "x", 64, 9, 7, 1.5, mcc=0.1 + 0.2, nll=1 / 3
    )


def without_password(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert PASSWORD.encode() not in content and QUOTED.encode() not in content, path


@pytest.mark.slow
def test_a_run_in_postgresql_is_the_run_in_a_file(
    server: Server,
    shapes: Path,
    make_settings: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = make_settings(shapes, generations=1, population=2, epochs=0.3, refit_epochs=0.5)
    one, other = tmp_path / "file", tmp_path / "database"

    def silent(stage: str, done: int, total: int) -> None:
        pass

    def cut(stage: str, done: int, total: int) -> None:
        if stage == "branches":
            raise KeyboardInterrupt

    train_run(settings, one, progress=silent)
    with pytest.raises(KeyboardInterrupt):
        train_run(settings, other, ledger=server.address, progress=cut)
    without_password(other)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)  # its address is in the run folder
    train_run(settings, other, resume=True, progress=silent)
    assert (other / MODEL_FILE).read_bytes() == (one / MODEL_FILE).read_bytes()
    assert not (other / DATABASE).exists()
    here = Ledger(other, database=database_of(other, None)).records()
    assert [replace(record, seconds=0) for record in here] == [
        replace(record, seconds=0) for record in Ledger(one).records()
    ]
    without_password(other)


def test_what_is_added_is_there_to_the_last_bit_and_two_runs_share_a_database(server: Server, tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        ledger = Ledger(folder, {"labels": ["ü"]}, database=database_of(folder, server.address))
        for index in range(number + 1):
            ledger.add(record(index), {})
    for number, folder in enumerate(folders):
        kept = json.loads((folder / ADDRESS_FILE).read_text(encoding="utf-8"))
        assert kept["address"].startswith("postgresql://gs@/postgres?host=")
        without_password(folder)
        again = Ledger(folder, database=database_of(folder, server.address))
        assert again.records() == [record(index) for index in range(number + 1)]


def test_a_server_that_goes_away_is_one_line(server: Server, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, database=database_of(tmp_path, server.address))
    ledger.add(record(0), {})
    server.stop()
    try:
        with pytest.raises(WriteError, match=r"--ledger postgresql://gs@.*: cannot be written \(.*\)") as error:
            ledger.add(record(1), {})
        assert "\n" not in str(error.value) and PASSWORD not in str(error.value)
    finally:
        server.start()
    ledger.add(record(1), {})  # a connection that was cut is made again
    assert len(Ledger(tmp_path, database=database_of(tmp_path, server.address)).records()) == 2


def test_another_database_than_the_runs_is_refused(server: Server, tmp_path: Path) -> None:
    Ledger(tmp_path, database=database_of(tmp_path, server.address))
    engine = create_engine(server.address.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE other"))
    engine.dispose()
    other = server.address.replace("/postgres?", "/other?")
    with pytest.raises(GenSoupError, match=r"holds no study 'gensoup-.*', the one of this run") as error:
        Ledger(tmp_path, database=database_of(tmp_path, other))
    assert PASSWORD not in str(error.value) and QUOTED not in str(error.value)


def test_a_wrong_password_is_not_repeated(server: Server, tmp_path: Path) -> None:
    database = database_of(tmp_path, server.address.replace(QUOTED, "hunter2"))
    assert isinstance(database, PostgresStudy)
    with pytest.raises(GenSoupError, match=r"cannot be reached \(.*\); .*PGPASSWORD") as error:
        database.reach()
    assert "hunter2" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("address", ["mysql://u:hunter2@h/d", "u:hunter2@h", "postgresql://u:hunter2@h:port/d", ""])
def test_what_is_no_address_is_not_repeated(tmp_path: Path, address: str) -> None:
    with pytest.raises(UsageError, match=r"this is no address of .* database; give postgresql://USER@") as error:
        database_of(tmp_path, address)
    assert "hunter2" not in str(error.value)


def test_a_password_in_the_query_is_not_shown(tmp_path: Path) -> None:
    database = database_of(tmp_path, "postgresql://u@h/d?password=hunter2&sslmode=require")
    assert isinstance(database, PostgresStudy) and database.address == "postgresql://u@h/d?sslmode=require"


def test_a_run_keeps_the_ledger_that_it_began_with(tmp_path: Path) -> None:
    Ledger(tmp_path)
    with pytest.raises(UsageError, match=r"--ledger: the run in .* keeps its own in study\.db"):
        database_of(tmp_path, "postgresql://u@h/d")


def test_without_a_driver_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    database = database_of(tmp_path, "postgresql://u@h/d")
    assert isinstance(database, PostgresStudy)
    with pytest.raises(MissingDependencyError, match=r"psycopg.*gensoup\[postgresql\]"):
        database.reach()
