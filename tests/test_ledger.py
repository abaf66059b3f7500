"""The ledger keeps what it is given, and says so when it cannot be trusted."""

from __future__ import annotations

import os
import sqlite3
import threading
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoanom.archive.ledger import NAME, Row, State, open_ledger, read_ledger
from geoanom.archive.lock import is_locked, locked
from geoanom.errors import InputError, LockedError, OutputError

if TYPE_CHECKING:
    from pathlib import Path

paths = st.binary(min_size=1, max_size=30).filter(lambda raw: b"\0" not in raw).map(os.fsdecode)
rows = st.builds(
    Row,
    name=paths,
    state=st.sampled_from(get_args(State)),
    kills=st.integers(0, 5),
    seconds=st.floats(0, 1e6),
    outputs=st.dictionaries(st.text(max_size=10).filter(str.isprintable), st.text("0123456789abcdef", max_size=4), max_size=2),
    error_message=st.none() | st.text(max_size=20).filter(str.isprintable),
    duplicate_of=st.none() | paths,
)


@given(given_rows=st.lists(rows, max_size=8))
def test_rows_come_back_as_they_were_whatever_bytes_their_names_are(
    given_rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    ledger = open_ledger(folder)
    ledger.put(*given_rows)
    expected = {row.name: row for row in given_rows}
    assert ledger.rows() == expected
    assert list(ledger.rows()) == sorted(expected, key=os.fsencode)
    ledger.close()
    assert read_ledger(folder).rows() == expected


def test_a_reader_sees_the_rows_while_they_are_written(tmp_path: Path) -> None:
    writer = open_ledger(tmp_path)
    for n in range(5):
        writer.put(Row(name=f"{n}.tif"))
        reader = read_ledger(tmp_path)
        assert len(reader.rows()) == n + 1
        reader.close()


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, None])
def test_a_damaged_ledger_stops_the_run_and_is_left_as_it_is(tmp_path: Path, content: bytes | None) -> None:
    ledger = open_ledger(tmp_path)
    ledger.put(*(Row(name=f"{n:04d}.tif", error_message="x" * 100) for n in range(500)))
    ledger.close()
    path = tmp_path / NAME
    raw = path.read_bytes()
    broken = raw[:8000] + b"\xff" * 8000 + raw[16000:] if content is None else content
    path.write_bytes(broken)
    for use in (open_ledger, read_ledger):
        with pytest.raises(InputError, match=r"is damaged|has schema"):
            use(tmp_path)
    assert path.read_bytes()[-50:] == broken[-50:]


def test_a_ledger_that_is_gone_is_not_begun_anew_beside_its_layers(tmp_path: Path) -> None:
    (tmp_path / "layers").mkdir()
    with pytest.raises(InputError, match="is gone, and its layers are still there"):
        open_ledger(tmp_path)
    assert not (tmp_path / NAME).exists()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    open_ledger(tmp_path).put_meta(schema_version="99")
    with pytest.raises(InputError, match="has schema 99"):
        open_ledger(tmp_path)


def test_reading_a_ledger_at_rest_writes_nothing_beside_it(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.put(Row(name="a.tif"))
    ledger.close()
    reader = read_ledger(tmp_path)
    assert set(reader.rows()) == {"a.tif"}
    reader.close()
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_ledger_that_another_program_holds_is_an_error_of_the_output(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    other = sqlite3.connect(tmp_path / NAME)
    other.execute("BEGIN EXCLUSIVE")
    ledger._connection.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(OutputError, match="cannot be used"):
        ledger.put(Row(name="a.tif"))
    other.rollback()
    ledger.put(Row(name="a.tif"))
    assert set(ledger.rows()) == {"a.tif"}


def test_the_lock_keeps_two_apart_and_names_the_one_that_holds_it(tmp_path: Path) -> None:
    with locked(tmp_path):
        found: list[BaseException] = []

        def intrude() -> None:
            try:
                with locked(tmp_path):
                    pass
            except LockedError as error:
                found.append(error)

        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()
        assert f"process {os.getpid()}" in str(found[0])
    with locked(tmp_path):
        pass


def test_who_only_looks_whether_a_run_is_at_work_keeps_none_from_beginning(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        assert is_locked(tmp_path)
    over = threading.Event()
    looker = threading.Thread(target=lambda: [is_locked(tmp_path) for _ in iter(over.is_set, True)])
    looker.start()
    try:
        for _ in range(20):
            with locked(tmp_path):
                pass
    finally:
        over.set()
        looker.join()
