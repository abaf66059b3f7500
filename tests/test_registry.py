"""Names and what they stand for."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoanom import registry
from geoanom.errors import ConfigError, ExitCode
from geoanom.registry import BACKBONES, DETECTORS, EXPORTERS, SOURCES, Table, unknown

TABLES = [BACKBONES, DETECTORS, EXPORTERS, SOURCES]
EVERY = [pytest.param(table, name, id=f"{table.kind}-{name}") for table in TABLES for name in table.names()]


@pytest.mark.parametrize(("table", "name"), EVERY)
def test_every_name_of_every_table_stands_for_something_that_can_be_called(table: Table, name: str) -> None:
    assert callable(table.load(name))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.kind)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_name_with_one_letter_too_many_is_answered_with_the_right_one(table: Table, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([name for name in table.names() if len(name) > 4]))
    place = data.draw(st.integers(0, len(name)))
    with pytest.raises(ConfigError, match="did you mean") as caught:
        table.load(f"{name[:place]}q{name[place:]}")
    assert caught.value.exit_code == ExitCode.USAGE


def test_an_unknown_name_that_is_like_no_other_is_answered_with_all_names() -> None:
    with pytest.raises(ConfigError, match="unknown detector; known: agreement, copod, ecod") as caught:
        DETECTORS.load("zzzzz")
    assert "\n" not in str(caught.value)


def test_the_error_names_the_unknown_first() -> None:
    assert str(unknown("thing", "aple", ["apple", "pear"])) == "aple: unknown thing; did you mean 'apple'?"


def test_names_keep_the_order_of_the_table() -> None:
    assert Table("things", {"b": "x:y", "a": "x:y"}).names() == ["b", "a"]


def test_a_target_may_be_an_attribute_of_an_attribute() -> None:
    assert Table("things", {"join": "os:path.join"}).load("join").__name__ == "join"


def test_other_packages_add_names_and_cannot_take_over_built_in_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = [EntryPoint("mine", "json:dumps", "geoanom.things"), EntryPoint("ours", "json:loads", "geoanom.things")]
    monkeypatch.setattr(registry, "_declared", registry._declared.__wrapped__)
    monkeypatch.setattr(registry, "entry_points", lambda group: installed if group == "geoanom.things" else [])
    table = Table("things", {"ours": "os:getcwd"})
    assert table.names() == ["ours", "mine"]
    assert table.load("mine").__name__ == "dumps"
    assert table.load("ours").__name__ == "getcwd"


def test_looking_at_the_tables_imports_neither_torch_nor_pyod() -> None:
    code = "import sys, geoanom.registry as r; r.DETECTORS.names(); print(sys.modules.keys() & {'torch', 'pyod', 'timm'})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
