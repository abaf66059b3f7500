"""Reading ahead in threads, each with a handle of its own, with results in order."""

from __future__ import annotations

import queue
import threading
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING

from geoanom.errors import SceneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from geoanom.raster.grid import Window
    from geoanom.raster.scene import Handle, Pixels, Scene


class _Task:
    """A window to read and, later, its pixels or the error."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.done = threading.Event()
        self.pixels: Pixels | None = None
        self.error: BaseException | None = None

    def run(self, handle: Handle) -> None:
        try:
            self.pixels = handle.read(self.window)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it, which raises it
            self.error = error
        self.done.set()

    def result(self, scene: Scene, timeout_s: float) -> Pixels:
        if not self.done.wait(timeout_s):
            raise SceneError(scene.uri, f"gave no pixels for {timeout_s:g} s", "check the disk, or raise sources.read_timeout_s")
        if self.error is not None:
            raise self.error
        if self.pixels is None:  # pragma: no cover - a task is done with pixels or with an error
            raise RuntimeError("a read ended without a result")
        return self.pixels


def read_ahead(scene: Scene, windows: Iterable[Window], *, threads: int, timeout_s: float) -> Iterator[tuple[Window, Pixels]]:
    """Read windows of a scene in order, up to two per thread ahead.

    The threads are daemons, so that a read that hangs for ever cannot keep the process alive.

    Args:
        scene: what to read from; every thread opens a handle of its own.
        windows: in the order wanted.
        threads: number of readers; the result does not depend on it.
        timeout_s: longest wait for one window.

    Raises:
        SceneError: a window took longer than `timeout_s`.
    """
    todo: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
    workers = [threading.Thread(target=_work, args=(scene.open_handle, todo), daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    ahead: deque[_Task] = deque()
    try:
        for window in windows:
            ahead.append(_Task(window))
            todo.put(ahead[-1])
            if len(ahead) >= 2 * threads:
                task = ahead.popleft()
                yield task.window, task.result(scene, timeout_s)
        while ahead:
            task = ahead.popleft()
            yield task.window, task.result(scene, timeout_s)
    finally:
        for _ in workers:
            todo.put(None)


def _work(open_handle: Callable[[], Handle], todo: queue.SimpleQueue[_Task | None]) -> None:
    task = todo.get()
    if task is None:
        return
    try:
        handle = open_handle()
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it, which raises it
        task.error = error
        task.done.set()
        return
    with closing(handle):
        while task is not None:
            task.run(handle)
            task = todo.get()
