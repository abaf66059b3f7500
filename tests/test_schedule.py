"""Units that systemd takes, lines that cron takes, and figures that Prometheus takes."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from geoanom.errors import ConfigError, OutputError
from geoanom.monitor.metrics import Figures, write_metrics
from geoanom.monitor.schedule import as_text, cron_line, minutes_of, systemd_units

if TYPE_CHECKING:
    from collections.abc import Iterator

PERIODS = ["1m", "5m", "16m", "20m", "30m", "45m", "1h", "90m", "4h", "6h", "8h", "12h", "1d", "1w"]
UNEVEN = ["7m", "5h", "36h", "2d", "3w"]
PATHS = ["/srv/n/monitor.yaml", "/srv/a b/100% $HOME 'q' \"d\"/a;b&c.yaml", "/srv/ümlaut/#x/[m].yaml", "/srv/%h/%%/m.yaml", "/tmp/x/m.yaml"]  # noqa: S108 - is named, not used


def systemd(*words: str) -> str:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze, which judges the units")
    environ = {"TZ": "UTC", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False, env=environ)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("every", ["6h", "90m", "5h", "1w"])
def test_systemd_takes_the_units(tmp_path: Path, every: str, path: str) -> None:
    units = systemd_units(Path(path), every, "north-sea", writes=[Path("/srv/out put"), Path("/var/100%")], user="root")
    for name, text in units.items():
        (tmp_path / name).write_text(text, "utf-8")
        assert text in as_text(units)
    systemd("verify", *(str(tmp_path / name) for name in units))


def test_systemd_starts_what_it_should_and_protects_the_rest(tmp_path: Path) -> None:
    unit = tmp_path / "geoanom-n.service"
    unit.write_text(systemd_units(Path("/srv/n/m.yaml"), "6h", "n", user="root")[unit.name], "utf-8")
    found = re.search(r"exposure level for geoanom-n.service: ([0-9.]+)", systemd("security", "--offline=true", str(unit)))
    assert found
    assert float(found[1]) < 5.0  # an unprotected service has 9.6


def executable(folder: Path) -> Path:
    """A program that prints its arguments, one a line."""
    path = folder / "print arguments"
    path.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("path", PATHS)
def test_a_shell_gets_the_path_that_cron_hands_on(tmp_path: Path, path: str) -> None:
    line = cron_line(Path(path), "6h", program=[str(executable(tmp_path))])
    *times, command = line.split(" ", 5)
    assert times == ["0", "*/6", "*", "*", "*"]
    assert not re.search(r"(?<!\\)%", command)  # crontab(5): it would be a line break
    done = subprocess.run(["/bin/sh", "-c", command.replace(r"\%", "%")], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["monitor", "run", path]


def words_of(line: str) -> Iterator[str]:
    """A command line as systemd.service(5) and systemd.syntax(7) read it: quotes, backslashes, then specifiers, then variables."""
    for quoted, bare in re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line):
        word = re.sub(r"\\(.)", r"\1", quoted or bare)
        assert not re.search("[%$]", re.sub(r"%%|\$\$", "", word)), "a specifier or a variable"
        yield word.replace("%%", "%").replace("$$", "$")


PRINTABLE = st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="/")


@given(st.text(PRINTABLE, min_size=1))
@example("100% %h %% $HOME ${HOME} $$ 'q' \"d\" \\ ;")
def test_systemd_gets_the_path_as_it_is(name: str) -> None:
    path = f"/srv/a {name}/m.yaml"
    service = systemd_units(Path(path), "6h", "n", program=["/bin/true"])["geoanom-n.service"]
    line = next(line for line in service.splitlines() if line.startswith("ExecStart="))
    assert list(words_of(line.removeprefix("ExecStart="))) == ["/bin/true", "monitor", "run", path]


@pytest.mark.parametrize("every", PERIODS)
def test_the_calendar_keeps_the_period(every: str) -> None:
    timer = systemd_units(Path("/srv/m.yaml"), every, "n")["geoanom-n.timer"]
    assert "Persistent=true" in timer
    minutes = minutes_of(every)
    lines = re.findall(r"OnCalendar=(.*)", timer)
    n = min(8, max(2, 1440 // minutes))
    told = systemd("calendar", f"--iterations={n}", "--base-time=2024-05-06 00:00:00 UTC", *lines)
    found = re.findall(r"(?:Next elapse|Iter\. #\d+): \w{3} (\S+ \S+) UTC", told)
    times = {datetime.fromisoformat(moment) for moment in found}
    first = sorted(times)[:n]
    assert len(first) == n
    assert {later - earlier for earlier, later in pairwise(first)} == {timedelta(minutes=minutes)}


@pytest.mark.parametrize("every", UNEVEN)
def test_where_the_day_does_not_divide_the_distance_has_to_do(every: str) -> None:
    timer = systemd_units(Path("/srv/m.yaml"), every, "n")["geoanom-n.timer"]
    assert f"OnUnitActiveSec={minutes_of(every)}min" in timer
    assert "OnCalendar" not in timer
    with pytest.raises(ConfigError, match=r"cannot be said in cron; .*systemd"):
        cron_line(Path("/srv/m.yaml"), every)


@pytest.mark.parametrize(
    ("every", "times"),
    [
        ("1m", "* * * * *"),
        ("30m", "*/30 * * * *"),
        ("60m", "0 * * * *"),
        ("1h", "0 * * * *"),
        ("6h", "0 */6 * * *"),
        (" 6 h ", "0 */6 * * *"),
        ("24h", "0 0 * * *"),
        ("1d", "0 0 * * *"),
        ("7d", "0 0 * * 1"),
    ],
)
def test_cron_says_periods_that_divide_the_hour_or_the_day(every: str, times: str) -> None:
    assert cron_line(Path("/srv/m.yaml"), every).startswith(f"{times} ")


def times_of(field: str, size: int) -> list[int]:
    """A field of a crontab, by crontab(5)."""
    return [i for i in range(size) if field == "*" or (i % int(field[2:]) == 0 if field[0] == "*" else i == int(field))]


@given(st.one_of(st.integers(1, 4 * 10_080), st.sampled_from([1, 5, 15, 30, 60, 120, 180, 480, 720, 1440, 10_080])))
def test_cron_keeps_the_period_or_refuses(minutes: int) -> None:
    try:
        minute, hour, _, _, day = cron_line(Path("/srv/m.yaml"), f"{minutes}m").split(" ")[:5]
    except ConfigError:
        assert minutes not in (1, 5, 15, 30, 60, 120, 180, 480, 720, 1440, 10_080)
        return
    starts = [d * 1440 + h * 60 + m for d in times_of(day, 7) for h in times_of(hour, 24) for m in times_of(minute, 60)]
    assert {later - earlier for earlier, later in pairwise([*starts, starts[0] + 10_080])} == {minutes}


@pytest.mark.parametrize("every", ["", "6", "h", "0h", "-1h", "1.5h", "90s", "6 hours", "5w", "9999999m", "\uff16h", "1h30m", "6H"])
def test_what_is_no_period_gets_one_line(every: str) -> None:
    with pytest.raises(ConfigError, match="is no period; write 30m, 6h, 1d or 2w"):
        minutes_of(every)


@pytest.mark.parametrize(
    ("path", "name"),
    [("m.yaml", "n"), ("/srv/a\nExecStart=x/m.yaml", "n"), ("/srv/m.yaml", "a/b"), ("/srv/m.yaml", "a\nb"), ("/srv/m.yaml", "")],
)
def test_paths_and_names_cannot_break_out(path: str, name: str) -> None:
    with pytest.raises(ConfigError):
        systemd_units(Path(path), "6h", name)
    if name == "n":
        with pytest.raises(ConfigError):
            cron_line(Path(path), "6h")
    with pytest.raises(ConfigError, match="backslash"):
        cron_line(Path("/srv/a\\b/m.yaml"), "6h")


# Figures


def figures(monitor: str = "n", **more: object) -> Figures:
    return Figures(**{"monitor": monitor, "last_success": 1.7e9, "newest": 1.7e9 - 7200, "now": 1.7e9, "looks": 12, **more})  # type: ignore[arg-type]


def samples(text: str) -> dict[tuple[str, str], float]:
    from prometheus_client.parser import text_string_to_metric_families

    families = list(text_string_to_metric_families(text))
    return {
        (sample.name.removeprefix("geoanom_monitor_"), ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_prometheus_reads_the_figures(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client", reason="needs prometheus-client")
    path = tmp_path / "n.prom"
    write_metrics(path, figures(alerts={"new": 2}, undelivered={"hook": 0, 'a"b': 3}, suspect_scenes=1, drift=0.25))
    read = samples(path.read_text())
    assert read["last_success_timestamp_seconds", "monitor=n"] == 1.7e9
    assert read["lag_seconds", "monitor=n"] == 7200
    assert (read["looks_total", "monitor=n"], read["suspect_scenes_total", "monitor=n"]) == (12, 1)
    assert {key: value for key, value in read.items() if key[0] == "alerts"} == {
        ("alerts", f"monitor=n,status={status}"): 2 * (status == "new") for status in ("new", "persistent", "resolved", "dismissed")
    }
    assert (read["undelivered", "monitor=n,sink=hook"], read["undelivered", 'monitor=n,sink=a"b']) == (0, 3)
    assert read["drift", "monitor=n"] == 0.25
    assert [entry.name for entry in tmp_path.iterdir()] == ["n.prom"]


def test_what_is_not_known_is_left_out_and_two_monitors_do_not_clash(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client", reason="needs prometheus-client")
    for name in "nm":
        write_metrics(tmp_path / f"{name}.prom", figures(name, last_success=None, newest=None))
    read = [samples((tmp_path / f"{name}.prom").read_text()) for name in "nm"]
    assert not {"last_success_timestamp_seconds", "lag_seconds", "drift"} & {name for name, _ in read[0]}
    assert not read[0].keys() & read[1].keys()


def test_figures_that_cannot_be_written_get_one_line(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client", reason="needs prometheus-client")
    with pytest.raises(OutputError, match="could not be written"):
        write_metrics(tmp_path / "none" / "n.prom", figures())
