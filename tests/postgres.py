"""A real PostgreSQL server with PostGIS, of the version that Debian installs, on a socket of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "s3cret/of:the@test"  # noqa: S105 - of a server that lives as long as a test
QUICK = "-c fsync=off -c full_page_writes=off -c shared_buffers=32MB -c max_connections=30 -c listen_addresses=127.0.0.1"


@dataclass(kw_only=True)
class Postgres:
    """A server that can be stopped and started."""

    programs: Path
    folder: Path
    port: int
    names: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str = "postgres") -> str:
        """As a user would write it, password included."""
        quoted = PASSWORD.replace("/", "%2F").replace(":", "%3A").replace("@", "%40")
        return f"postgresql://postgres:{quoted}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Begin to serve."""
        options = f"-p {self.port} -k {self.folder} {QUICK}"
        self._control("-w", "-o", options, "-l", str(self.folder / "log"), "start")

    def stop(self) -> None:
        """Break off all connections, as a crash does."""
        self._control("-m", "immediate", "stop")

    def sql(self, statement: str, database: str = "postgres") -> str:
        """The answer of psql."""
        environ = {**os.environ, "PGPASSWORD": PASSWORD}
        target = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database]
        command = [str(self.programs / "psql"), *target, "-v", "ON_ERROR_STOP=1", "-Atqc", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environ).stdout.strip()

    def new_url(self) -> str:
        """A schema that is not there yet, in a database with PostGIS; whole databases would be thousands of files each."""
        return f"{self.url('with_postgis')}?schema=test_{next(self.names)}"

    def _control(self, *arguments: str) -> None:
        _run(str(self.programs / "pg_ctl"), "-s", "-D", str(self.folder / "data"), *arguments)


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A new server with a database that has PostGIS; skips where it is not installed."""
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="geoanom-postgres-") as name:
        folder = Path(name)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (folder, secret):
                shutil.chown(path, "postgres", "postgres")
        english = ["--locale-provider=icu", "--icu-locale=en-US"]  # that orders a before B, as bytes do not
        making = ["--auth=scram-sha-256", "--username=postgres", f"--pwfile={secret}", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]
        _run(str(programs / "initdb"), "-D", str(folder / "data"), *english, *making)
        server = Postgres(programs=programs, folder=folder, port=_free_port())
        server.start()
        try:
            server.sql("CREATE DATABASE with_postgis")
            server.sql("CREATE DATABASE without_postgis")
            server.sql("CREATE EXTENSION postgis", "with_postgis")
            yield server
        finally:
            server.stop()


def _programs() -> Path:
    """The newest of the installed versions that has PostGIS."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True):
        if list(Path(f"/usr/share/postgresql/{folder.parent.name}/extension").glob("postgis.control")):
            return folder
    pytest.skip("needs Debian's packages postgresql and postgresql-15-postgis-3")


def _run(*command: str) -> None:
    """PostgreSQL refuses to run as root."""
    user = "postgres" if os.geteuid() == 0 else None
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user, cwd="/")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
