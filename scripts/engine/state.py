"""What a build remembers between runs, in one sqlite file: `build/state.db`.

Nothing here is the truth. The truth is in the artifacts' own manifests and provenance; this is a cache of digests,
receipts and costs, so a lost or corrupt file costs a re-hash and never a rebuild. Each write is committed at once:
whatever kills the process, what it finished before stays known.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

#: A file's identity while its bytes stay: inode, size, mtime and ctime, both in nanoseconds.
Stamp = tuple[int, int, int, int]

_TABLES = """
create table if not exists digests (inode integer, size integer, mtime integer, ctime integer, digest text,
                                    primary key (inode));
create table if not exists receipts (step text primary key, value text);
create table if not exists costs (step text primary key, seconds real, peak_rss integer);
create table if not exists sources (file text primary key, stamp text, digest text, imports text);
create table if not exists tasks (task text, field text, value text, primary key (task, field));
"""


class State:
    """The open state file. Safe to use from several threads; several processes may have it open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._db = self._open()

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement, committed at once, and return its rows."""
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.DatabaseError as error:
                self._db = self._start_again(error)
                return self._db.execute(sql, values).fetchall()

    def receipt(self, step: str) -> Any:
        """What was noted when `step` was last seen whole; None if nothing was."""
        found = self.rows("select value from receipts where step = ?", step)
        return json.loads(found[0][0]) if found else None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self._connect(str(self.path))
        except (OSError, sqlite3.DatabaseError) as error:
            return self._start_again(error)

    def _start_again(self, error: Exception) -> sqlite3.Connection:
        """A corrupt file is replaced by an empty one; where none can be written, memory serves for this run."""
        try:
            for name in (self.path.name, f"{self.path.name}-wal", f"{self.path.name}-shm"):
                self.path.with_name(name).unlink(missing_ok=True)
            connection = self._connect(str(self.path))
            print(f"{self.path}: was unreadable ({error}); started anew, files will be hashed again", file=sys.stderr)
        except (OSError, sqlite3.DatabaseError) as second:
            print(f"{self.path}: can't be written ({second}); nothing is remembered after this run", file=sys.stderr)
            connection = self._connect(":memory:")
        return connection

    @staticmethod
    def _connect(name: str) -> sqlite3.Connection:
        connection = sqlite3.connect(name, timeout=30, isolation_level=None, check_same_thread=False)
        # Write-ahead logging survives a killed process; a power cut may lose the last rows, which is a re-hash.
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
        connection.executescript(_TABLES)
        return connection
