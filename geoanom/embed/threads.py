"""Parallel work whose result does not depend on how parallel it is.

Sums that are split over threads change their last bits with the number of threads. So every computation runs in one
thread, and several computations run side by side.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS and torch to one thread in each computation."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(n_threads)


def side_by_side(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int | None, device: torch.device
) -> Iterator[Result]:
    """Map a function over items in order, some of them at the same time.

    Args:
        function: called with each item, in threads that compute alone.
        items: taken as they are needed, at most two more than there are threads.
        threads: how many; all cores when None. A GPU is fed by one.
        device: where the function computes.
    """
    n_threads = 1 if device.type == "cuda" else threads or os.cpu_count() or 1
    ahead: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > n_threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
