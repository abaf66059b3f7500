"""``geoanom monitor``: run a pass, see how it stands, export its alerts, schedule it, and answer it."""

from __future__ import annotations

import re
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from geoanom.cli.main import echo_json
from geoanom.cli.options import FILE, OVERWRITE, RUN, options
from geoanom.errors import ConfigError, ExitCode, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geoanom.monitor.settings import Monitor, MonitorConfig
    from geoanom.monitor.store import Store

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STATUSES = ("new", "persistent", "resolved", "dismissed")
CONFIG = click.argument("config", type=FILE, metavar="CONFIG")
VERBOSE = (RUN[1],)


@click.group()
def monitor() -> None:
    """Watch places: say when something is really there, when it persists, and when it is gone."""


@monitor.command()
@CONFIG
@click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing, send nothing.")
@click.option("--since", metavar="DATE", help="Leave scenes aside that were acquired before this date.")
@click.option("--exit-code", is_flag=True, help="Leave with 10 when there are new alerts.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@options(VERBOSE)
def run(config: Path, *, dry_run: bool, since: str | None, exit_code: bool, as_json: bool) -> int:
    """Look at what is new, and tell what has changed.

    Run it again, every few hours or after an interruption: what is done is not done twice, and nothing is told twice. Scenes that cannot
    be used are named, and tried again when they change.
    """
    settings = _settings(config)
    from geoanom.monitor.run import Terms
    from geoanom.monitor.run import run as run_pass

    with _signals() as caught:
        terms = Terms(
            home=config.absolute().parent,
            now=time.time,
            since=None if since is None else _moment(since),
            dry=dry_run,
            stop=lambda: bool(caught),
            say=lambda line: click.echo(f"geoanom: {line}", err=True),
            stream=sys.stdout,
        )
        report = run_pass(settings, terms)
    if as_json:
        echo_json(report.as_json())
    click.echo(f"{settings.monitor.name}: {report.as_text()}", err=True)
    if report.stopped:
        return 128 + (caught[0] if caught else signal.SIGTERM)
    found = exit_code and report.told.get("alert.new", 0) and report.exit_code == ExitCode.DONE
    return ExitCode.FOUND if found else report.exit_code


@monitor.command()
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@options(VERBOSE)
def status(config: Path, *, as_json: bool) -> int:
    """Tell how a monitor stands: passes, lag, alerts, what waits for whom, suspect scenes, drift."""
    from geoanom.monitor.status import status_lines, status_of

    with _store(config) as (store, settings):
        found = status_of(store, settings, time.time())
    if as_json:
        echo_json(found)
    else:
        click.echo("\n".join(status_lines(found, time.time())))
    return ExitCode.DONE


@monitor.command()
@CONFIG
@click.option("--status", "statuses", type=click.Choice(STATUSES), multiple=True, help="Only these; may be repeated.")
@options(OVERWRITE, VERBOSE)
@click.option("-o", "--output", type=FILE, required=True, metavar="OUT", help="The layer; its suffix says the format.")
def alerts(config: Path, output: Path, *, statuses: tuple[str, ...], overwrite: bool) -> int:
    """Write the alerts as they stand as a layer."""
    from geoanom.monitor.export import check_format, write_alerts

    check_format(output)
    with _store(config) as (store, settings):
        n = write_alerts(store.alerts(), output, monitor=settings.name, statuses=statuses, overwrite=overwrite)
    click.echo(f"{output}: {n} alert{'' if n == 1 else 's'}", err=True)
    return ExitCode.DONE


@monitor.command()
@CONFIG
@click.option("--every", metavar="PERIOD", help="30m, 6h, 1d or 2w; as the settings say when left out.")
@click.option("--format", "kind", type=click.Choice(["systemd", "cron"]), default="systemd", show_default=True)
@options(VERBOSE)
@click.option("-o", "--output", type=FILE, metavar="DIR", help="Write the units into this folder instead of printing them.")
def schedule(config: Path, *, every: str | None, kind: str, output: Path | None) -> int:
    """Say how a monitor is run every few hours: units of systemd, or a line for cron."""
    import getpass

    from geoanom.monitor.schedule import as_text, cron_line, systemd_units

    settings, path = _settings(config).monitor, config.absolute()
    period = every or settings.every
    if kind == "cron":
        files = {f"geoanom-{settings.name}.cron": cron_line(path, period) + "\n"}
    else:
        files = systemd_units(path, period, settings.name, writes=settings.written, user=getpass.getuser())
    if output is None:
        click.echo("".join(files.values()) if kind == "cron" else as_text(files), nl=False)
        return ExitCode.DONE
    _write(files, output)
    return ExitCode.DONE


@monitor.command()
@CONFIG
@click.argument("alert_ids", metavar="ALERT_ID...", nargs=-1, required=True)
@click.option("--note", default="", help="Why.")
@options(VERBOSE)
def dismiss(config: Path, alert_ids: tuple[str, ...], *, note: str) -> int:
    """Say that alerts are nothing: nobody is told of them any more."""
    return _answer(config, alert_ids, "dismissed", note)


@monitor.command()
@CONFIG
@click.argument("alert_ids", metavar="ALERT_ID...", nargs=-1, required=True)
@click.option("--note", default="", help="Why.")
@options(VERBOSE)
def confirm(config: Path, alert_ids: tuple[str, ...], *, note: str) -> int:
    """Say that alerts are real; also takes a dismissal back."""
    return _answer(config, alert_ids, "confirmed", note)


def _answer(config: Path, alert_ids: tuple[str, ...], verdict: Any, note: str) -> int:
    """Keep what a person says of alerts: of all that are named, or of none."""
    import getpass

    from geoanom.monitor.history import Verdict
    from geoanom.monitor.sinks.building import refresh_feeds
    from geoanom.monitor.states import states
    from geoanom.monitor.status import moment_at

    with _store(config) as (store, settings):
        unknown = sorted(set(alert_ids) - set(store.alerts()))
        if unknown:
            raise InputError(unknown[0], f"is no alert of monitor {settings.name}", "see geoanom monitor alerts")
        for alert_id in alert_ids:
            said = {"moment": moment_at(time.time()), "author": getpass.getuser(), "note": note}
            store.put_verdict(Verdict(alert_id=alert_id, verdict=verdict, **said))
        refresh_feeds(settings.sinks, lambda: states(store, settings))
    click.echo(f"{settings.name}: {len(alert_ids)} {verdict}", err=True)
    return ExitCode.DONE


def _settings(config: Path) -> MonitorConfig:
    from geoanom.monitor.settings import load_monitor

    return load_monitor(config)


@contextmanager
def _store(config: Path) -> Iterator[tuple[Store, Monitor]]:
    """The store of a monitor that has run before."""
    settings = _settings(config).monitor
    from geoanom.monitor.store import open_store

    with open_store(settings.store, must_exist=True) as store:
        yield store, settings


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Signals that came and ask for an end; the second of them ends at once."""
    caught: list[int] = []

    def note(number: int, _frame: object) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        click.echo("geoanom: ending after this scene; again to end at once", err=True)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _moment(date: str) -> str:
    """A date, or a date and a time, as a moment in UTC."""
    import datetime as dt

    try:
        moment = dt.datetime.fromisoformat(date)
    except ValueError:
        raise ConfigError("--since", f"{date!r} is no date", "write it 2024-05-01") from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return aware.astimezone(dt.UTC).replace(tzinfo=None, microsecond=0).isoformat() + "Z"


def _write(files: dict[str, str], folder: Path) -> None:
    from geoanom.layer.atomic import atomic_file, check_output

    for name in files:
        check_output(folder / name, overwrite=True)
    for name, text in files.items():
        with atomic_file(folder / name) as temporary:
            temporary.write_text(text, "utf-8")
    timers = [name for name in files if re.search(r"\.timer$", name)]
    hint = f"; put them into /etc/systemd/system, then systemctl enable --now {timers[0]}" if timers else ""
    click.echo(f"{folder}: {', '.join(files)}{hint}", err=True)
