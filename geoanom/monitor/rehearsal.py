"""What a pass would do."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from geoanom.errors import InputError
from geoanom.monitor.deliver import SinkReport
from geoanom.monitor.intake import names_of, take_in
from geoanom.monitor.report import PassReport
from geoanom.monitor.seeing import model_folder
from geoanom.monitor.store import open_store

if TYPE_CHECKING:
    from geoanom.config import Config
    from geoanom.monitor.run import Terms
    from geoanom.monitor.settings import Monitor
    from geoanom.monitor.store import Store


def rehearse(monitor: Monitor, config: Config, terms: Terms) -> PassReport:
    """Find what is new, and change and send nothing.

    Raises:
        InputError: a source cannot be reached.
        OutputError: the store cannot be reached.
    """
    store = _existing(monitor)
    if store is None:
        return _rehearsed(monitor, config, terms, None)
    with closing(store):
        return _rehearsed(monitor, config, terms, store)


def _existing(monitor: Monitor) -> Store | None:
    """The store, if there is one: a rehearsal makes none."""
    try:
        return open_store(monitor.store, must_exist=True)
    except InputError as error:
        if error.wrong == "there is no such store":
            return None
        raise


def _rehearsed(monitor: Monitor, config: Config, terms: Terms, store: Store | None) -> PassReport:
    intake = take_in(monitor, config, {} if store is None else store.seen(), terms.since, terms.now())
    report = PassReport(dry=True, looked=len(intake.fresh), older=intake.n_older)
    wanted = monitor.fit_on_first
    if wanted is not None and not model_folder(monitor, terms.home).exists():
        report.waiting = (len(intake.fresh), wanted) if len(intake.fresh) < wanted else None
        report.fitted = report.waiting is None
    for name in names_of(intake.fresh):
        terms.say(f"new: {name}")
    waiting = {} if store is None else store.undelivered(monitor.sinks)
    report.sinks = {name: SinkReport(waiting=n) for name, n in waiting.items()}
    return report
