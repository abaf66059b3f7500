"""The same layers from a Dask cluster, whoever of it dies meanwhile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from archives import layers, make_scenes, manifest, start, states

from geoanom import pipeline
from geoanom.archive import cluster as cluster_module
from geoanom.archive.archive import run_archive, status_of
from geoanom.archive.cluster import _of_exception
from geoanom.archive.work import Lost
from geoanom.errors import InputError, OutputError
from geoanom.model.bundle import save_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geoanom.config import Config

pytest.importorskip("distributed", reason="needs the extra 'distributed'")
TOP = "threshold.top=5"


class Cluster:
    """A scheduler and workers in processes of their own, as an operator starts them."""

    def __init__(self, n_workers: int, log: Path) -> None:
        self._log = log.open("wb")
        self.scheduler = self._start("scheduler", "--port", "0", "--dashboard-address", "127.0.0.1:0", "--host", "127.0.0.1")
        self.address = self._address(log)
        one_each = ("--nworkers", str(n_workers), "--nthreads", "1", "--memory-limit", "0", "--no-dashboard")
        self.nannies = self._start("worker", self.address, *one_each)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-m", "dask", *arguments], stderr=self._log, stdout=self._log, env=env)

    def _address(self, log: Path) -> str:
        for _ in range(600):
            found = re.search(r"Scheduler at:\s+(tcp://\S+)", log.read_text())
            if found:
                return found[1]
            time.sleep(0.1)
        raise TimeoutError(log.read_text())

    def workers(self) -> list[psutil.Process]:
        children = psutil.Process(self.nannies.pid).children()
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(child.cmdline())]

    def close(self) -> None:
        for process in (self.nannies, self.scheduler):
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
                child.kill()
            process.kill()
            process.wait()
        self._log.close()


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(2, tmp_path_factory.mktemp("cluster") / "log")
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, quick_config: Config) -> tuple[Path, Path, Path]:
    """Scenes, model, and the folder of an undisturbed run on this machine."""
    folder = tmp_path_factory.mktemp("cluster archive")
    make_scenes(folder / "scenes", 6)
    make_scenes(folder / "scenes" / "large", 1, side=640)  # long enough to be met by a kill
    training = make_scenes(folder / "training", 2)
    save_model(pipeline.fit(training, quick_config), folder / "model")
    run_archive(str(folder / "scenes"), folder / "model", folder / "local", quick_config)
    return folder / "scenes", folder / "model", folder / "local"


def test_a_cluster_whose_workers_are_killed_gives_the_layers_of_one_machine(
    cluster: Cluster, archive: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    scenes, model, local = archive
    arguments = ("archive", "run", scenes, "-m", model, "--set", TOP, "--scheduler", cluster.address, "-o", tmp_path)
    process = start(*arguments)
    kills = 0
    while process.poll() is None and kills < 1:
        time.sleep(0.2)
        try:
            running = status_of(tmp_path)["running"]
        except (InputError, OutputError):
            continue
        if any(busy["scene"].startswith("large/") for busy in running):
            for worker in cluster.workers():
                worker.kill()
            kills += 1
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert kills > 0
    assert layers(tmp_path) == layers(local)
    assert set(states(tmp_path).values()) == {"done"}
    assert manifest(tmp_path)["totals"]["retries"] > 0


def test_a_scheduler_that_dies_in_mid_run_ends_it_and_what_is_finished_is_kept(
    cluster: Cluster, archive: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    scenes, model, local = archive
    arguments = ("archive", "run", scenes, "-m", model, "--set", TOP, "--scheduler", cluster.address, "-o", tmp_path)
    process = start(*arguments)
    while process.poll() is None and not layers(tmp_path):
        time.sleep(0.1)
    cluster.scheduler.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    assert "the scheduler is gone" in errors
    assert layers(tmp_path).items() <= layers(local).items()
    assert set(states(tmp_path).values()) <= {"done", "pending"}


def test_a_scheduler_that_hangs_does_not_hold_back_a_signal_to_stop(
    cluster: Cluster, archive: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    scenes, model, _ = archive
    process = start("archive", "run", scenes, "-m", model, "--set", TOP, "--scheduler", cluster.address, "-o", tmp_path)
    while process.poll() is None and not any((tmp_path / "layers").rglob("*.geojson")):
        time.sleep(0.1)
    cluster.scheduler.send_signal(signal.SIGSTOP)
    time.sleep(3.0)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - begun < 10.0
    cluster.scheduler.send_signal(signal.SIGCONT)


def test_scenes_that_take_too_long_on_a_cluster_fail_and_are_not_begun_again(
    cluster: Cluster, archive: tuple[Path, Path, Path], quick_config: Config, tmp_path: Path, sample_scene: Path
) -> None:
    _, model, _ = archive
    hasty = quick_config.model_copy(update={"archive": quick_config.archive.model_copy(update={"scene_timeout_s": 0.01})})
    report = run_archive(str(sample_scene), model, tmp_path, hasty, scheduler=cluster.address)
    (row,) = report.rows.values()
    assert (row.state, row.error_code, row.attempts) == ("failed", "timeout", 1)


def test_a_process_that_hangs_ends_itself_and_tells_where() -> None:
    program = "import time; from geoanom.archive.cluster import _ended_after\nwith _ended_after(0.2): time.sleep(60)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
    assert 'File "<string>", line 2' in ended.stderr


def test_a_worker_without_geoanom_is_not_the_fault_of_the_scene() -> None:
    lost = _of_exception("a.tif", ModuleNotFoundError("No module named 'geoanom'"))
    assert isinstance(lost, Lost)
    assert lost.code == "start"
    assert "install the same geoanom on all workers" in lost.message


def test_no_scheduler_at_the_address_is_one_line(
    archive: tuple[Path, Path, Path], quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "CONNECT_S", 1.0)
    scenes, model, _ = archive
    errors: list[Exception] = []

    def work() -> None:
        try:
            run_archive(str(scenes), model, tmp_path, quick_config, scheduler="tcp://127.0.0.1:9")
        except InputError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "no scheduler answers" in str(errors[0])
