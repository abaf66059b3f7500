"""Reading ahead in threads."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from affine import Affine

from geoanom.errors import SceneError
from geoanom.raster.georef import Georeference
from geoanom.raster.grid import Window
from geoanom.raster.prefetch import read_ahead
from geoanom.raster.scene import Band, Pixels, Scene

if TYPE_CHECKING:
    from collections.abc import Generator

WINDOWS = [Window(row_off=i, col_off=0, height=1, width=8) for i in range(40)]


@dataclass
class Desk:
    """Hands out handles and writes down who read what on which."""

    broken_row: int = -1
    gate: threading.Event = field(default_factory=threading.Event)
    stuck_row: int = -1
    reads: list[tuple[int, int, int]] = field(default_factory=list)
    """(handle, thread, row)."""
    opened: int = 0
    closed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def scene(self) -> Scene:
        georef = Georeference(crs_wkt=None, transform=Affine.identity())
        band = Band(index=1, name="band 1", dtype="int64")
        return Scene(
            uri="desk",
            name="desk",
            digest="0",
            height=40,
            width=8,
            bands=(band,),
            band_count=1,
            block_height=1,
            block_width=8,
            georef=georef,
            open_handle=self.open,
        )

    def open(self) -> DeskHandle:
        with self.lock:
            self.opened += 1
            return DeskHandle(self, self.opened)


@dataclass
class DeskHandle:
    desk: Desk
    number: int

    def read(self, window: Window) -> Pixels:
        with self.desk.lock:
            self.desk.reads.append((self.number, threading.get_ident(), window.row_off))
        if window.row_off == self.desk.stuck_row:
            self.desk.gate.wait()
        if window.row_off == self.desk.broken_row:
            raise SceneError("desk", f"row {window.row_off} is broken")
        return Pixels(values=np.full((1, 1, 8), window.row_off), valid=np.ones((1, 8), bool))

    def close(self) -> None:
        self.desk.closed.release()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_windows_come_in_the_order_in_which_they_were_asked_for(threads: int) -> None:
    got = list(read_ahead(Desk().scene(), WINDOWS, threads=threads, timeout_s=60))
    assert [window for window, _ in got] == WINDOWS
    assert [int(pixels.values[0, 0, 0]) for _, pixels in got] == list(range(40))


def test_every_window_is_read_once_and_no_handle_serves_two_threads() -> None:
    desk = Desk()
    list(read_ahead(desk.scene(), WINDOWS, threads=4, timeout_s=60))
    assert sorted(row for _, _, row in desk.reads) == list(range(40))
    users: dict[int, set[int]] = {}
    for handle, thread, _ in desk.reads:
        users.setdefault(handle, set()).add(thread)
    assert all(len(threads) == 1 for threads in users.values())
    assert threading.get_ident() not in {thread for _, thread, _ in desk.reads}


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_is_raised_where_its_window_stands(threads: int) -> None:
    reads = read_ahead(Desk(broken_row=17).scene(), WINDOWS, threads=threads, timeout_s=60)
    assert [next(reads)[0].row_off for _ in range(17)] == list(range(17))
    with pytest.raises(SceneError, match="row 17 is broken"):
        next(reads)


def test_handles_are_closed_when_the_caller_stops_early() -> None:
    desk = Desk()
    with closing(cast("Generator[Any]", read_ahead(desk.scene(), WINDOWS, threads=2, timeout_s=60))) as reads:
        next(reads)
    for _ in range(desk.opened):
        assert desk.closed.acquire(timeout=60)
    assert len(desk.reads) < len(WINDOWS)


def test_a_read_that_hangs_ends_in_an_error_that_names_the_scene() -> None:
    desk = Desk(stuck_row=3)
    try:
        with pytest.raises(SceneError, match=r"desk: gave no pixels for 0\.2 s"):
            list(read_ahead(desk.scene(), WINDOWS, threads=1, timeout_s=0.2))
    finally:
        desk.gate.set()


def test_a_file_that_cannot_be_opened_again_raises_instead_of_hanging() -> None:
    def refuse() -> DeskHandle:
        raise SceneError("desk", "is gone")

    scene = Desk().scene()
    object.__setattr__(scene, "open_handle", refuse)
    with pytest.raises(SceneError, match="is gone"):
        list(read_ahead(scene, WINDOWS, threads=2, timeout_s=60))


def test_no_windows_give_no_pixels() -> None:
    assert list(read_ahead(Desk().scene(), [], threads=2, timeout_s=60)) == []
