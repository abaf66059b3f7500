"""A Dask cluster: workers on other machines, which see the archive, the model and the output folder under the same paths."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from geoanom.archive.models import cached_model
from geoanom.archive.work import Finished, Lost, Result, Started, score_one
from geoanom.errors import ConfigError, GeoanomError, InputError, PartialError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Client, Future

    from geoanom.archive.work import Event, Job, Task

CONNECT_S = 10.0
GONE_S = 20.0
"""How long a scheduler may be out of reach before the run ends."""
AHEAD = 2
"""Scenes handed to the scheduler for each thread of the workers, so that none waits for the next."""
ASK_EVERY_S = 2.0
_one_at_a_time = threading.Lock()
"""Threads of one worker share libraries whose number of threads would change bits."""


class DaskExecutor:
    """Scenes as tasks of a Dask scheduler; only paths and results travel."""

    def __init__(self, job: Job, address: str) -> None:
        """Connect.

        Raises:
            ConfigError: Dask is not installed.
            InputError: no scheduler answers.
        """
        self._job, self._address = job, address
        self._client = _connect(address)
        self._topic = f"geoanom-{uuid.uuid4().hex[:12]}"
        self._told: queue.Queue[Event | GeoanomError] = queue.Queue()
        self._names: dict[str, str] = {}
        self._futures: dict[str, Future] = {}
        self._capacity, self._asked, self._reached = 1, 0.0, time.monotonic()
        self._client.subscribe_topic(self._topic, self._on_start)

    @property
    def capacity(self) -> int:
        """Two scenes for each thread of the workers there are now."""
        if time.monotonic() - self._asked > ASK_EVERY_S:
            self._asked = time.monotonic()
            try:
                self._capacity = max(1, AHEAD * sum(self._client.nthreads().values()))
                self._reached = time.monotonic()
            except (OSError, TimeoutError):
                self._check_reached()
        return self._capacity

    def submit(self, task: Task) -> None:
        """Hand a scene to the scheduler."""
        key = f"{self._topic}-{uuid.uuid4().hex}"
        resources = {"GPU": 1} if self._job.settings["runtime"]["device"] == "cuda" else None
        self._names[key] = task.name
        try:
            future = self._client.submit(remote_score, task, self._job, self._topic, key, key=key, pure=False, resources=resources)
        except (OSError, RuntimeError) as error:
            raise self._gone() from error
        self._futures[key] = future
        future.add_done_callback(self._on_end)

    def wait(self, timeout_s: float) -> Sequence[Event]:
        """What the scheduler has told since the last call.

        Raises:
            PartialError: the scheduler is gone.
        """
        events: list[Event] = []
        try:
            events.append(self._take(timeout_s))
            while True:
                events.append(self._take(0))
        except queue.Empty:
            pass
        if self._client.status == "running":
            self._reached = time.monotonic()
        self._check_reached()
        return events

    def close(self) -> None:
        """Cancel what has not begun, and leave; the scheduler goes on without us."""
        futures = list(self._futures.values())
        self._futures.clear()
        try:
            self._client.cancel(futures, force=True)
            self._client.close(timeout=CONNECT_S)
        except (OSError, TimeoutError, RuntimeError):
            pass  # it is gone already

    def _take(self, timeout_s: float) -> Event:
        told = self._told.get(timeout=timeout_s) if timeout_s else self._told.get_nowait()
        if isinstance(told, GeoanomError):
            raise told
        return told

    def _on_start(self, event: tuple[float, dict[str, Any]]) -> None:
        """A worker has told that it begins."""
        _, told = event
        name = self._names.get(told["key"])
        if name is not None:
            self._told.put(Started(name=name, worker=told["worker"]))

    def _on_end(self, future: Future) -> None:
        """A task has ended, one way or another."""
        if self._futures.pop(future.key, None) is None:
            return
        name = self._names.pop(future.key)
        if future.status == "finished":
            worker, result = future.result()
            self._told.put(Finished(name=name, worker=worker, result=result))
        elif future.status == "error":
            self._told.put(_of_exception(name, future.exception()))
        else:
            self._told.put(self._gone())

    def _check_reached(self) -> None:
        if time.monotonic() - self._reached > GONE_S:
            raise self._gone()

    def _gone(self) -> PartialError:
        return PartialError(self._address, "the scheduler is gone", "start it, and run again to go on; what is finished is kept")


def remote_score(task: Task, job: Job, topic: str, key: str) -> tuple[str, Result]:
    """What a Dask worker does with a scene; returns who did it, too."""
    from distributed import get_worker

    worker = get_worker()
    with _one_at_a_time:
        worker.log_event(topic, {"key": key, "worker": worker.address})
        model = cached_model(job)
        return worker.address, model if isinstance(model, Result) else score_one(task, job, model)


def _connect(address: str) -> Client:
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError("--scheduler", "needs Dask", "pip install 'geoanom[distributed]'") from error
    try:
        return Client(address, timeout=CONNECT_S, name="geoanom", set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(address, "no scheduler answers there", "start one with dask scheduler, or use --workers") from error


def _of_exception(name: str, error: BaseException | None) -> Event:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return Lost(name=name, worker=str(error.last_worker.address), code="crash", message="took its worker down")
    wrong = f"the worker cannot work: {type(error).__name__}: {error}"
    result = Result.of(PartialError(name, wrong, "install the same geoanom on all workers"))
    return Finished(name=name, worker="", result=result)
