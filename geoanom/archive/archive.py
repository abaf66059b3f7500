"""One run over an archive, from the lock to the manifest."""

from __future__ import annotations

import hashlib
import signal
import threading
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from geoanom.archive.ledger import SCORED, open_ledger, read_ledger
from geoanom.archive.local import LocalExecutor
from geoanom.archive.lock import is_locked, locked
from geoanom.archive.manifest import manifest_of, write_manifest
from geoanom.archive.models import header_of
from geoanom.archive.outputs import sweep
from geoanom.archive.progress import Several, totals_of
from geoanom.archive.runner import Plan, Run
from geoanom.archive.work import Job
from geoanom.config import canonical_json, parse_config
from geoanom.errors import ConfigError, GeoanomError, ModelError, OutputError
from geoanom.sources.catalog import find_scenes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from geoanom.archive.ledger import Row
    from geoanom.archive.progress import Watcher
    from geoanom.archive.work import Executor
    from geoanom.config import Config


@dataclass(frozen=True, kw_only=True)
class Report:
    """How a run ended."""

    rows: Mapping[str, Row]
    """Every scene by its name."""
    signal: int | None
    """The signal that stopped it; None when it came to its end."""

    @property
    def totals(self) -> dict[str, int]:
        """Number of scenes in every state."""
        return totals_of(self.rows)

    @property
    def n_scored(self) -> int:
        """Scenes that have their layer."""
        return sum(row.state in SCORED for row in self.rows.values())

    @property
    def is_clean(self) -> bool:
        """Has every scene its layer, or is it a copy of one?"""
        return all(row.state in SCORED or row.state == "duplicate" for row in self.rows.values())


def run_archive(
    uri: str,
    model: Path,
    folder: Path,
    config: Config,
    *,
    scheduler: str | None = None,
    retry: bool = False,
    watchers: Callable[[int], Sequence[Watcher]] = lambda _: (),
) -> Report:
    """Score what is still to be scored of an archive.

    Args:
        uri: a folder, a pattern, a text list or a catalog.
        model: folder of the bundle.
        folder: for the outputs; made where it does not exist.
        config: threshold, permissions, workers.
        scheduler: address of a Dask scheduler; processes of this machine when None.
        retry: try again what was refused or quarantined.
        watchers: takes the number of scenes and gives those who are told what happens.

    Raises:
        InputError: the archive holds no scene, the model cannot be used, or the ledger is damaged.
        OutputError: outputs cannot be written.
        LockedError: another run works on the folder.
    """
    model_id, frozen = header_of(model)
    digest = _effective_digest(model, frozen, config)
    catalog = find_scenes(uri, config, leave_out=folder)
    _make(folder)
    with locked(folder):
        sweep(folder)
        job = Job(model=str(model.absolute()), model_id=model_id, settings=config.model_dump(mode="json"), folder=str(folder.absolute()))
        plan = Plan(
            catalog=catalog,
            config=config,
            folder=folder,
            recipe=_recipe(model_id, digest, config),
            max_attempts=config.archive.max_attempts,
            retry=retry,
        )
        with closing(open_ledger(folder)) as ledger:
            executor = _executor(job, config, scheduler)
            with _signals() as caught:
                watcher = Several(watchers(len(catalog.entries)))
                run = Run(plan=plan, ledger=ledger, executor=executor, watcher=watcher, stopped=lambda: bool(caught))
                ledger.put_meta(model_id=model_id, config_digest=digest, root=catalog.root.name)
                _carry_out(run)
    return Report(rows=run.rows, signal=caught[0] if caught else None)


def _carry_out(run: Run) -> None:
    """Work, and leave the manifest however that ended, and the merged layers where it came to its end."""
    manifest = run.plan.folder / "manifest.json"
    try:
        run.work()
    except GeoanomError:
        with suppress(GeoanomError):  # what ended the run is the reason to tell
            write_manifest(run.rows, run.ledger.meta(), manifest)
        raise
    finally:
        run.executor.close()
        run.watcher.close(run.rows)
    write_manifest(run.rows, run.ledger.meta(), manifest)
    if not run.stopped():
        from geoanom.archive.merge import merge_layers

        merge_layers(run.rows, run.plan.folder, run.stopped)


def status_of(folder: Path) -> dict[str, Any]:
    """The manifest as it would be written now, and who works on what.

    Raises:
        InputError: the folder has no ledger, or a damaged one.
    """
    ledger = read_ledger(folder)
    try:
        rows, meta = ledger.rows(), ledger.meta()
    finally:
        ledger.close()
    if not is_locked(folder):  # the run was killed
        rows = {name: row.moved_to("pending") if row.state == "running" else row for name, row in rows.items()}
    running = [{"scene": row.name, "worker": row.worker, "since": row.since} for row in rows.values() if row.state == "running"]
    return {**manifest_of(rows, {"model_id": "", "config_digest": "", **meta}), "running": running}


def _make(folder: Path) -> None:
    if (folder / "model.json").exists():
        raise OutputError(folder, "is the folder of a model", "choose another output folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(folder, f"cannot be made ({error.strerror})", "choose another output folder") from error


def _executor(job: Job, config: Config, scheduler: str | None) -> Executor:
    if scheduler is None:
        return LocalExecutor(job, config.archive)
    from geoanom.archive.cluster import DaskExecutor

    return DaskExecutor(job, scheduler)


def _effective_digest(model: Path, frozen: Mapping[str, Any], config: Config) -> str:
    """The digest that stands in the layers: the model's settings under the run's threshold and permissions."""
    try:
        settings = parse_config(frozen)
    except ConfigError as error:
        raise ModelError(model, f"has settings that this geoanom does not know ({error})", "use the geoanom that made it") from error
    return settings.model_copy(update={"threshold": config.threshold, "sources": config.sources}).digest()


def _recipe(model_id: str, digest: str, config: Config) -> str:
    extra = [config.archive.heatmaps, config.archive.embeddings, list(config.bands or ())]
    return hashlib.sha256(canonical_json([model_id, digest, version("geoanom"), extra]).encode()).hexdigest()[:16]


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals to stop that came meanwhile, where this is the main thread and may listen to them; before, they end it at once."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.signal(number, lambda n, _: caught.append(n)) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
