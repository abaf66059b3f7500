"""A Dask cluster: workers on other machines, which see the archive, the model and the output folder under the same paths."""

from __future__ import annotations

import faulthandler
import queue
import sys
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from geoanom.archive.models import cached_model
from geoanom.archive.work import Finished, Lost, Result, Started, score_one
from geoanom.errors import ConfigError, GeoanomError, InputError, PartialError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from distributed import Client, Future

    from geoanom.archive.work import Event, Job, Task

CONNECT_S = 10.0
ANSWER_S = 2.0
"""How long the scheduler may take to answer a question, so that a signal to stop is never waited with."""
GONE_S = 20.0
"""How long a scheduler may be out of reach before the run ends."""
AHEAD = 2
"""Scenes handed to the scheduler for each thread of the workers, so that none waits for the next."""
ASK_EVERY_S = 2.0
LEAVE_S = 5.0
"""How long leaving may take; and how much longer than we a worker waits for a scene before it ends itself."""
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
        self._begun: dict[str, tuple[str, float]] = {}
        """Key to the worker, and when it began."""
        self._timeout_s = job.config().archive.scene_timeout_s
        self._capacity, self._asked, self._reached = 1, 0.0, time.monotonic()
        self._client.subscribe_topic(self._topic, self._on_start)

    @property
    def capacity(self) -> int:
        """Two scenes for each thread of the workers there are now."""
        if time.monotonic() - self._asked > ASK_EVERY_S:
            self._asked = time.monotonic()
            try:
                self._capacity = max(1, AHEAD * sum(self._client.nthreads(callback_timeout=ANSWER_S).values()))
                self._reached = time.monotonic()
            except (OSError, TimeoutError, RuntimeError):
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
        return [*events, *self._give_up()]

    def close(self) -> None:
        """Cancel what has not begun, and leave; the scheduler goes on without us."""
        futures = list(self._futures.values())
        self._futures.clear()
        leaving = threading.Thread(target=self._leave, args=(futures,), daemon=True)
        leaving.start()
        leaving.join(LEAVE_S)  # a scheduler that hangs answers nobody

    def _leave(self, futures: list[Future]) -> None:
        with suppress(OSError, TimeoutError, RuntimeError):  # it may be gone already
            self._client.cancel(futures, force=True)
            self._client.close(timeout=LEAVE_S)

    def _give_up(self) -> list[Event]:
        """Scenes that took too long, which no worker is to begin with again; those that have them end themselves."""
        lost: list[Event] = []
        for key, (worker, since) in list(self._begun.items()):
            if time.monotonic() - since > self._timeout_s and (future := self._futures.pop(key, None)):
                future.cancel(force=True)
                del self._begun[key]
                message = f"took longer than {self._timeout_s:g} s; raise archive.scene_timeout_s"
                lost.append(Lost(name=self._names.pop(key), worker=worker, code="timeout", message=message))
        return lost

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
            self._begun[told["key"]] = (told["worker"], time.monotonic())
            self._told.put(Started(name=name, worker=told["worker"]))

    def _on_end(self, future: Future) -> None:
        """A task has ended, one way or another."""
        if self._futures.pop(future.key, None) is None:
            return
        name = self._names.pop(future.key)
        self._begun.pop(future.key, None)
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
        model = cached_model(job)
        if isinstance(model, Result):
            return worker.address, model
        worker.log_event(topic, {"key": key, "worker": worker.address})
        with _ended_after(job.config().archive.scene_timeout_s + LEAVE_S):
            return worker.address, score_one(task, job, model)


@contextmanager
def _ended_after(limit_s: float) -> Iterator[None]:
    """A process that hangs ends, and tells its log where it hung; its nanny starts another one."""
    faulthandler.dump_traceback_later(limit_s, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


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
    wrong = f"the worker cannot work: {type(error).__name__}: {error}; install the same geoanom on all workers"
    return Lost(name=name, worker="", code="start", message=wrong)
