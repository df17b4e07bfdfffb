"""Opening a database so that "committed" means on the disk and "erased" means gone.

SQLite is run with a rollback journal, ``synchronous=EXTRA`` and ``secure_delete=ON``:

* *durable*: EXTRA is FULL plus a sync of the directory after the journal is unlinked, so that a charge which
  was acknowledged is still there after a power cut;
* *erased*: a write-ahead log would keep old pages until some later checkpoint; the rollback journal is
  removed at commit and freed pages are overwritten with zeros.

Every write transaction is ``BEGIN IMMEDIATE``: what it read is still true when it writes.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from sqlalchemy import Connection, create_engine, event, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError
from sqlalchemy.exc import OperationalError as DriverOperationalError

from nodes.errors import ConfigError, StorageProblem
from nodes.files import storage_errors

__all__ = ["HEADS", "Database", "Role", "Store"]

Role = Literal["site", "coordinator"]
HEADS: Final[dict[Role, str]] = {"site": "site_0003", "coordinator": "coordinator_0002"}
"""Newest migration of each schema; a test holds it to ``nodes/migrations``."""

_PATIENCE_MS: Final = 10_000  # another process of ours (a command beside the daemon) holds it for milliseconds
_MIGRATIONS: Final = Path(__file__).parent.parent / "migrations"
_PRAGMAS: Final = (
    "PRAGMA journal_mode = DELETE",
    "PRAGMA synchronous = EXTRA",
    "PRAGMA fullfsync = ON",
    "PRAGMA secure_delete = ON",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    f"PRAGMA busy_timeout = {_PATIENCE_MS}",
)
_DENIED: Final = "cannot be opened or written; check the owner and mode of it and of its directory"
_DAMAGED: Final = "damaged; restore it from a backup, then run: haemfed budget verify"
_BUSY: Final = f"in use by another process for more than {_PATIENCE_MS // 1000} seconds; stop that one"
_SQLITE: Final = {
    "SQLITE_FULL": "no space left; free some and start again, nothing was lost",
    "SQLITE_BUSY": _BUSY,
    "SQLITE_LOCKED": _BUSY,
    "SQLITE_CANTOPEN": _DENIED,
    "SQLITE_PERM": _DENIED,
    "SQLITE_READONLY": _DENIED,
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_NOTADB": _DAMAGED,
    "SQLITE_IOERR": "the device failed or is full; check the disk, then start again",
    "SQLITE_CONSTRAINT": "refused a change that would break its history; nothing was written",
}


class Database:
    """One open database, migrated to the schema of this version.

    Args:
        url: SQLAlchemy URL; SQLite or PostgreSQL.
        role: Which of the two schemas.

    Raises:
        ConfigError: the URL is not one, or its driver is not installed.
        StorageProblem: it cannot be opened, is damaged, or was written by a newer version.
    """

    def __init__(self, url: str | URL, role: Role) -> None:
        try:
            self._url = make_url(url)
            # A cached statement would keep the last sum that was bound to it.
            arguments = {"cached_statements": 0} if self._sqlite else {}
            self._engine = create_engine(_with_driver(self._url), connect_args=arguments)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise ConfigError(
                "database: not a usable URL; for PostgreSQL install haemfed[postgres] and write "
                "postgresql://user@host/name"
            ) from error
        self.name = self._url.database or "" if self._sqlite else self._url.render_as_string(hide_password=True)
        self._role = role
        if self._sqlite:
            _create_private(Path(self.name))
            event.listen(self._engine, "connect", _set_up)
            event.listen(self._engine, "begin", _begin)
        with self._errors():
            self._migrate()

    @property
    def _sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        with self._errors(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is on the disk when the block ends, or did not happen."""
        with self._errors(), self._engine.connect() as connection:
            connection.execution_options(haemfed_write=True)
            with connection.begin():
                yield connection

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _migrate(self) -> None:
        # The usual case, a database of this version, must not pay for loading Alembic.
        with self.read() as connection:
            if _revision(connection) == HEADS[self._role]:
                return
        with self.write() as connection:
            tables = inspect(connection).get_table_names()
            if tables and _revision(connection) is None:
                raise StorageProblem(f"{self.name}: holds tables that are not haemfed's; use another database")
            self._upgrade(connection)

    def _upgrade(self, connection: Connection) -> None:
        from alembic import command  # noqa: PLC0415 -- see _migrate
        from alembic.config import Config  # noqa: PLC0415
        from alembic.script import ScriptDirectory  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS / self._role).replace("%", "%%"))
        config.attributes["connection"] = connection
        revision = _revision(connection)
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if revision is not None and revision not in known:
            raise StorageProblem(
                f"{self.name}: schema {revision!r} is not one that this version knows (newest: "
                f"{HEADS[self._role]!r}); it was written by a newer haemfed or for another role: install "
                "that version, or correct the path"
            )
        command.upgrade(config, HEADS[self._role])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            raise StorageProblem(f"{self.name}: {_explain(error)}") from error


class Store:
    """What every store is: a database that is open until it is closed, or until the ``with`` block ends.

    Args:
        database: opened by the store itself.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _with_driver(url: URL) -> URL:
    if url.get_backend_name() == "postgresql" and url.drivername == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    return url


def _create_private(path: Path) -> None:
    with storage_errors(path.parent):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.close(descriptor)


def _set_up(connection: sqlite3.Connection, _record: Any) -> None:
    # Switches off the driver's own transactions (none before DDL, BEGIN before DML): `_begin` decides.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(pragma).close()


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("haemfed_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if found is None else str(found)


def _explain(error: DatabaseError) -> str:
    code = getattr(error.orig, "sqlite_errorname", "")
    for prefix, text in _SQLITE.items():
        if code.startswith(prefix):
            return text
    if isinstance(error, DriverOperationalError):
        return "cannot be reached; check that the database server runs and takes this user"
    return f"refused the operation ({type(error.orig).__name__}); nothing was written"
