"""What a build remembers between runs, in one sqlite file: `build/state.db`.

Nothing here is the truth. The truth is in the artifacts' own manifests and provenance; this is a cache of digests,
receipts and costs, so a lost or corrupt file costs a re-hash and never a rebuild. Each fact is committed at once, so
whatever kills the process, what it finished before stays known; and each carries a checksum, so noise in the file is
never taken for knowledge.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
import zlib
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")
#: A file's identity while its bytes stay: inode, size, mtime and ctime, both in nanoseconds.
Stamp = tuple[int, int, int, int]

_VERSION = 2
_TABLE = "create table facts (kind text, name text, value text, sum integer, primary key (kind, name)) without rowid"
#: Trouble with the disk, not with the file: it stays, and the rest of the run is remembered in memory alone.
_TRANSIENT = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_BUSY", "SQLITE_LOCKED")


class State:
    """The open state file: facts by kind and name. Safe to use from several threads and by several processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    def get(self, kind: str, name: str) -> str | None:
        """One fact; None where it is not known."""
        rows = self._run("select name, value, sum from facts where kind = ? and name = ?", kind, name)
        return next((value for name, value, check in rows if check == _sum(name, value)), None)

    def all(self, kind: str) -> dict[str, str]:
        """All facts of a kind."""
        rows = self._run("select name, value, sum from facts where kind = ?", kind)
        return {name: value for name, value, check in rows if check == _sum(name, value)}

    def value(self, kind: str, name: str, form: type[T]) -> T | None:
        """One fact whose text is JSON of that form; None where it is not known, or another version's."""
        text = self.get(kind, name)
        return None if text is None else decoded(text, form)

    def values(self, kind: str, form: type[T]) -> dict[str, T]:
        """All facts of a kind whose text is JSON of that form."""
        read = ((name, decoded(text, form)) for name, text in self.all(kind).items())
        return {name: value for name, value in read if value is not None}

    def put(self, kind: str, name: str, value: str) -> None:
        """Remember a fact; on disk when this returns (not flushed: a power cut may cost a re-hash)."""
        self._run("insert or replace into facts values (?, ?, ?, ?)", kind, name, value, _sum(name, value))

    def drop(self, kind: str, name: str) -> None:
        """Forget a fact."""
        self._run("delete from facts where kind = ? and name = ?", kind, name)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._db:
                self._db.close()
            self._db = None

    def _run(self, sql: str, *values: object) -> list[tuple[str, str, int]]:
        with self._lock:
            try:
                self._db = self._db or self._open()
                return self._db.execute(sql, values).fetchall()
            except (OSError, sqlite3.Error) as error:
                self._db = self._instead(error)
                return self._db.execute(sql, values).fetchall()

    def _open(self) -> sqlite3.Connection:
        # Only when first asked: `doit list` leaves no trace.
        if self.path.name != ":memory:":
            self.path.parent.mkdir(parents=True, exist_ok=True)
        return _connect(str(self.path))

    def _instead(self, error: Exception) -> sqlite3.Connection:
        """What serves from now on: a new file in place of a corrupt one; memory, where no file can be written."""
        transient = isinstance(error, OSError) or str(getattr(error, "sqlite_errorname", "")).startswith(_TRANSIENT)
        if self._db:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
        if not transient:
            with contextlib.suppress(OSError, sqlite3.Error):
                for end in ("", "-wal", "-shm"):
                    self.path.with_name(self.path.name + end).unlink(missing_ok=True)
                made = _connect(str(self.path))
                print(f"{self.path}: was unreadable ({error}); started anew, files are hashed again", file=sys.stderr)
                return made
        for way in ("mode=ro", "mode=ro&immutable=1") if os.path.isfile(self.path) else ():
            with contextlib.suppress(OSError, sqlite3.Error):  # a read-only folder can still be read from
                return _copy_in_memory(self.path, way)
        print(f"{self.path}: can't be used ({error}); nothing is remembered after this run", file=sys.stderr)
        return _connect(":memory:")


def decoded(text: str, form: type[T]) -> T | None:
    """JSON as a value of that form; None where it is not."""
    try:
        return msgspec.json.decode(text, type=form)
    except (ValueError, RecursionError):
        return None


def _connect(name: str) -> sqlite3.Connection:
    db = sqlite3.connect(name, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        if db.execute("pragma user_version").fetchone()[0] != _VERSION:
            # Write-ahead logging: readers don't wait for a writer, and a killed process loses nothing committed.
            db.execute("pragma journal_mode = wal")
            db.execute("begin immediate")  # two builds may start at once
            if db.execute("pragma user_version").fetchone()[0] != _VERSION:
                for (table,) in db.execute("select name from sqlite_master where type = 'table'").fetchall():
                    db.execute(f'drop table "{table}"')
                db.execute(_TABLE)
                db.execute(f"pragma user_version = {_VERSION}")
            db.execute("commit")
        db.execute("pragma synchronous = normal")
        tables = db.execute("select sql from sqlite_master").fetchall()
        if [str(text).lower() for (text,) in tables] != [_TABLE]:  # SQLite keeps the text that made it
            raise sqlite3.DatabaseError("it holds other tables")
        db.execute("select count(*) from (select 1 from facts limit 1)")
    except sqlite3.Error:
        db.close()
        raise
    return db


def _copy_in_memory(path: Path, way: str) -> sqlite3.Connection:
    """The facts of a file that can't be written, in a database that can.

    `way`: how SQLite opens it; what is "immutable" needs no file beside it, and goes without what is only in its log.
    """
    memory = _connect(":memory:")
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?{way}", uri=True)) as file:
        rows = file.execute("select kind, name, value, sum from facts").fetchall()
    memory.executemany("insert or replace into facts values (?, ?, ?, ?)", rows)
    return memory


def _sum(name: object, value: object) -> int:
    return zlib.crc32(f"{name}\n{value}".encode(errors="replace"))
