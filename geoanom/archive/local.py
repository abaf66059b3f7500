"""Processes of this machine: each works on one scene at a time, and none of them can take another one down."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

import psutil
from tqdm import tqdm

from geoanom.archive.work import Finished, Lost, Result, Started, score_one

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from geoanom.archive.work import Event, Job, Task
    from geoanom.config import Archive

LEAVE_S = 2.0
"""How long idle workers may take to leave by themselves."""
START_S = 600.0
"""How long a worker may take to read the model; that is not the scene's time."""
SPAWN = multiprocessing.get_context("spawn")  # fork would hand on open rasters and threads' locks


@dataclass
class _Worker:
    """A process, and the scene that it has."""

    name: str
    process: SpawnProcess
    pipe: Connection
    task: Task | None = None
    begun: bool = False
    """Has it read the model, and begun with the scene?"""
    since: float = field(default_factory=time.monotonic)

    def resident_mb(self) -> float:
        """Its resident memory; 0 when it is gone."""
        try:
            return float(psutil.Process(self.process.pid).memory_info().rss) / 2**20
        except psutil.Error:
            return 0.0


class LocalExecutor:
    """Workers in processes of their own, watched for time and memory."""

    def __init__(self, job: Job, settings: Archive) -> None:
        """No process is started before there is work for it."""
        self._job, self._settings = job, settings
        self._workers: dict[str, _Worker] = {}
        self._free = [str(n) for n in range(settings.workers, 0, -1)]

    @property
    def capacity(self) -> int:
        """One scene each."""
        return self._settings.workers

    def submit(self, task: Task) -> None:
        """Hand a scene to an idle worker; a new one where none is."""
        for gone in [w for w in self._workers.values() if not w.process.is_alive() and w.task is None]:
            self._take_down(gone)
        worker = next((w for w in self._workers.values() if w.task is None), None) or self._start()
        worker.task, worker.begun, worker.since = task, False, time.monotonic()
        with suppress(OSError):  # one that went down this very moment is heard of by `wait`
            worker.pipe.send(task)

    def wait(self, timeout_s: float) -> Sequence[Event]:
        """What the workers said, and who of them went down, was too slow or too large."""
        busy = [w for w in self._workers.values() if w.task is not None]
        wait([*(w.pipe for w in busy), *(w.process.sentinel for w in busy)], timeout_s)
        events: list[Event] = []
        for worker in busy:
            events += self._hear(worker)
        return events

    def close(self) -> None:
        """Take all workers down; what they were writing has no final name yet."""
        idle = [w for w in self._workers.values() if w.task is None]
        for worker in idle:
            worker.pipe.close()
        deadline = time.monotonic() + LEAVE_S
        for worker in idle:
            worker.process.join(max(0.0, deadline - time.monotonic()))
        for worker in list(self._workers.values()):
            self._take_down(worker)

    def _start(self) -> _Worker:
        name = self._free.pop()
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=serve, args=(theirs, self._job, os.getpid()), name=f"geoanom worker {name}", daemon=True)
        resource_tracker.ensure_running()  # to start it lets interruptions in again
        with _interruptions_held_back():
            process.start()
        theirs.close()  # so that the worker's end is the only one, and its death is heard
        self._workers[name] = _Worker(name=name, process=process, pipe=ours)
        return self._workers[name]

    def _hear(self, worker: _Worker) -> list[Event]:
        """All that one worker has said; where nothing is left to be said, how it is."""
        events: list[Event] = []
        is_gone = False
        try:
            while worker.task is not None and worker.pipe.poll():
                said = worker.pipe.recv()
                if isinstance(said, Result):
                    events.append(Finished(name=worker.task.name, worker=worker.name, result=said))
                    worker.task = None
                else:
                    worker.begun, worker.since = True, time.monotonic()
                    events.append(Started(name=worker.task.name, worker=worker.name))
        except (EOFError, OSError):
            is_gone = True
        return events if worker.task is None else events + self._check(worker, worker.task, is_gone=is_gone)

    def _check(self, worker: _Worker, task: Task, *, is_gone: bool) -> list[Event]:
        """Take a worker down that is too slow or too large, and say so; say, too, when it went down by itself."""
        settings = self._settings
        limit_s = settings.scene_timeout_s if worker.begun else START_S
        if is_gone:
            worker.process.join(LEAVE_S)
            code, message = "crash", f"took its worker down ({_ending(worker.process)})"
        elif time.monotonic() - worker.since > limit_s:
            code, message = "timeout", f"took longer than {limit_s:g} s; raise archive.scene_timeout_s"
        elif worker.resident_mb() > settings.memory_mb:
            code, message = "memory", f"needed more than {settings.memory_mb} MB; raise archive.memory_mb or lower runtime.threads"
        else:
            return []
        if not worker.begun:
            code, message = "start", f"the worker went down before it began: {message}"
        self._take_down(worker)
        return [Lost(name=task.name, worker=worker.name, code=code, message=message)]

    def _take_down(self, worker: _Worker) -> None:
        """End a worker; what it was writing has no final name yet."""
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        del self._workers[worker.name]
        self._free.append(worker.name)


def serve(pipe: Connection, job: Job, parent: int) -> None:
    """What a worker does until its parent is gone: score the scenes that come through the pipe."""
    show_no_bars()
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a killed worker would leave behind
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    from geoanom.archive.models import cached_model

    while True:
        try:
            task = pipe.recv()
            model = cached_model(job)
            pipe.send("started")
            pipe.send(model if isinstance(model, Result) else score_one(task, job, model))
        except (EOFError, OSError):
            return


class _Plain(io.TextIOWrapper):
    """The terminal, as something that is none."""

    def isatty(self) -> bool:
        """Bars ask this."""
        return False


def show_no_bars() -> None:
    """The parent shows the progress of all; bars that ask whether this is a terminal are told that it is none."""
    sys.stderr = _Plain(os.fdopen(2, "wb", closefd=False), line_buffering=True, errors="backslashreplace")


def _leave_with(parent: int) -> None:
    """An orphan must not go on writing beside the next run."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


@contextmanager
def _interruptions_held_back() -> Iterator[None]:
    """A process that is started meanwhile never hears of them: its parent decides what Ctrl-C means, however young its workers are."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ending(process: SpawnProcess) -> str:
    code = process.exitcode
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
