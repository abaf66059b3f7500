"""An archive run does every scene once, keeps what is finished, and gives every bad scene its reason."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pyogrio
import pytest
from archives import geoanom, layers, make_scenes, manifest, start, states

from geoanom import pipeline
from geoanom.archive.archive import run_archive, status_of
from geoanom.archive.ledger import NAME, Row, open_ledger, read_ledger
from geoanom.archive.local import LocalExecutor
from geoanom.archive.lock import locked
from geoanom.archive.merge import merge_layers
from geoanom.archive.models import cached_model
from geoanom.archive.progress import JsonLines, Metrics, Several
from geoanom.archive.work import Finished, Job, Lost, Result, Task
from geoanom.errors import InputError, LockedError, ModelError, OutputError, PartialError
from geoanom.model.bundle import load_model, save_model

if TYPE_CHECKING:
    from geoanom.archive.work import Event
    from geoanom.config import Config

TOP = "threshold.top=5"


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, quick_config: Config) -> Path:
    folder = tmp_path_factory.mktemp("archive model")
    scenes = make_scenes(folder / "training", 2)
    save_model(pipeline.fit(scenes, quick_config), folder / "model")
    return folder / "model"


@pytest.fixture(scope="session")
def good_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good scenes")
    make_scenes(folder, 6)
    return folder


@pytest.fixture(scope="session")
def undisturbed(good_scenes: Path, model_folder: Path, quick_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    report = run_archive(str(good_scenes), model_folder, folder, quick_config)
    assert report.is_clean
    return folder


def command(archive: Path, model: Path, out: Path, *more: str) -> tuple[str | Path, ...]:
    return ("archive", "run", archive, "-m", model, "--set", TOP, *more, "-o", out)


def test_a_layer_of_an_archive_is_the_layer_that_score_writes(
    undisturbed: Path, good_scenes: Path, model_folder: Path, quick_config: Config, tmp_path: Path
) -> None:
    model, alone = load_model(model_folder), tmp_path / "alone.geojson"
    pipeline.score([good_scenes / "scene_001.tif"], model, quick_config, pipeline.Outputs(layer=alone))
    assert (undisturbed / "layers" / "scene_001.geojson").read_bytes() == alone.read_bytes()


def test_the_merged_file_holds_every_feature_of_every_layer(undisturbed: Path) -> None:
    trees = [json.loads(path.read_text()) for path in (undisturbed / "layers").rglob("*.geojson")]
    ids = sorted(feature["id"] for tree in trees for feature in tree["features"])
    merged = pyogrio.read_dataframe(undisturbed / "anomalies.gpkg", layer="anomalies")
    assert len(ids) > 0
    assert sorted(merged["anomaly_id"]) == ids
    assert merged.crs.to_epsg() == 4326
    assert set(merged["path"]) <= {scene["path"] for scene in manifest(undisturbed)["scenes"]}


def test_a_second_run_does_nothing_and_changes_nothing(
    undisturbed: Path, good_scenes: Path, model_folder: Path, quick_config: Config
) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("layers/**/*.geojson")}
    merged = (undisturbed / "anomalies.gpkg").read_bytes()
    report = run_archive(str(good_scenes), model_folder, undisturbed, quick_config)
    assert {row.attempts for row in report.rows.values()} == {1}
    assert before == {path: path.stat().st_mtime_ns for path in undisturbed.rglob("layers/**/*.geojson")}
    assert merged == (undisturbed / "anomalies.gpkg").read_bytes()


def test_every_bad_scene_has_its_reason_and_every_good_one_its_layer(
    undisturbed: Path, good_scenes: Path, model_folder: Path, tmp_path: Path
) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    shutil.copytree(good_scenes, archive)
    shutil.copy(archive / "scene_001.tif", archive / "zz copy.tif")
    (archive / "cut.tif").write_bytes((archive / "scene_002.tif").read_bytes()[:2000])
    (archive / "text.tif").write_text("no raster")
    (archive / "empty.tif").touch()
    (archive / "gone.tif").symlink_to("nowhere.tif")
    os.mkfifo(archive / "pipe.tif")
    shutil.copy(archive / "scene_001.tif", archive / os.fsdecode(b"latin\xe9.tif"))
    (archive / "scene_002.tif").rename(archive / "new\nline.tif")
    code, errors = geoanom(*command(archive, model_folder, out))
    assert code == 3, errors
    found = states(out)
    assert {found[f"{name}.tif"] for name in ("cut", "text", "empty", "gone", "pipe", "latin\\xe9")} == {"refused"}
    assert errors.count("geoanom: error: ") == 6
    assert found["zz copy.tif"] == "duplicate"
    by_path = {scene["path"]: scene for scene in manifest(out)["scenes"]}
    assert by_path["zz copy.tif"]["duplicate_of"] == "scene_001.tif"
    assert all(scene["error"]["message"] for scene in by_path.values() if scene["state"] == "refused")
    assert {name: digest for name, digest in layers(out).items() if "new" not in name}.items() <= layers(undisturbed).items()
    assert sum(scene["state"] == "done" for scene in by_path.values()) == 6


def test_killing_the_run_at_any_moment_loses_nothing_and_doubles_nothing(
    undisturbed: Path, good_scenes: Path, model_folder: Path, tmp_path: Path
) -> None:
    moments = random.Random(1)
    for _ in range(3):
        process = start(*command(good_scenes, model_folder, tmp_path, "--workers", "2"))
        time.sleep(moments.uniform(1.0, 9.0))
        process.kill()
        process.communicate()
    time.sleep(1.0)  # orphans leave
    code, errors = geoanom(*command(good_scenes, model_folder, tmp_path))
    assert code == 0, errors
    assert layers(tmp_path) == layers(undisturbed)
    assert set(states(tmp_path).values()) == {"done"}


def test_a_signal_to_stop_is_obeyed_in_time_and_the_run_can_go_on(good_scenes: Path, model_folder: Path, tmp_path: Path) -> None:
    process = start(*command(good_scenes, model_folder, tmp_path))
    while not list(tmp_path.rglob("*.geojson")):
        time.sleep(0.1)
        assert process.poll() is None
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - begun < 10.0
    assert {"done", "pending"} >= set(states(tmp_path).values())
    assert geoanom(*command(good_scenes, model_folder, tmp_path))[0] == 0
    assert all(scene["attempts"] <= 2 for scene in manifest(tmp_path)["scenes"])


def test_what_changed_is_done_again_and_nothing_else(good_scenes: Path, model_folder: Path, quick_config: Config, tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    for n in (1, 2, 4):
        shutil.copy(good_scenes / f"scene_00{n}.tif", archive)
    run_archive(str(archive), model_folder, out, quick_config)
    before = {path.name: path.stat().st_mtime_ns for path in (out / "layers").iterdir()}
    shutil.copy(good_scenes / "scene_005.tif", archive / "scene_001.tif")
    (out / "layers" / "scene_002.geojson").write_text("{}")
    report = run_archive(str(archive), model_folder, out, quick_config)
    after = {path.name: path.stat().st_mtime_ns for path in (out / "layers").iterdir()}
    assert report.is_clean
    assert {name for name in after if after[name] != before[name]} == {"scene_001.geojson", "scene_002.geojson"}
    other = quick_config.model_copy(update={"threshold": quick_config.threshold.model_copy(update={"top": 2})})
    run_archive(str(archive), model_folder, out, other)
    assert all(path.stat().st_mtime_ns != after[path.name] for path in (out / "layers").iterdir())


def job_of(model_folder: Path, out: Path, config: Config) -> Job:
    model_id = load_model(model_folder).model_id
    return Job(model=str(model_folder), model_id=model_id, settings=config.model_dump(mode="json"), folder=str(out))


def workers_of(parent: int) -> list[psutil.Process]:
    """The processes of the workers, without multiprocessing's tracker."""
    found = []
    for child in psutil.Process(parent).children():
        with suppress(psutil.Error):  # it went meanwhile
            found += [child] if "spawn_main" in " ".join(child.cmdline()) else []
    return found


def test_a_scene_whose_worker_dies_three_times_is_quarantined_and_the_rest_is_done(
    good_scenes: Path, model_folder: Path, tmp_path: Path
) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    shutil.copy(good_scenes / "scene_001.tif", archive / "good.tif")
    shutil.copy(Path(__file__).parents[1] / "data" / "s2_virginia_1024.tif", archive / "bad.tif")
    process = start(*command(archive, model_folder, out))
    while process.poll() is None:
        time.sleep(0.05)
        try:
            running = status_of(out)["running"]
        except (InputError, OutputError):
            continue
        if any(busy["scene"] == "bad.tif" for busy in running):
            for worker in workers_of(process.pid):
                with suppress(psutil.Error):
                    worker.kill()
    _, errors = process.communicate()
    assert process.returncode == 3, errors
    assert states(out) == {"bad.tif": "quarantined", "good.tif": "done"}
    assert "took its worker down (signal 9), 3 times" in manifest(out)["scenes"][0]["error"]["message"]
    assert errors.count("took its worker down (signal 9); it is tried again") == 2  # one killed before it began does not count


def next_end(executor: LocalExecutor) -> Event:
    """How the next scene ends."""
    while True:
        for event in executor.wait(0.1):
            if isinstance(event, Lost | Finished):
                return event


def test_a_worker_that_is_too_slow_is_taken_down_and_one_that_dies_idle_is_replaced(
    model_folder: Path, quick_config: Config, tmp_path: Path, sample_scene: Path
) -> None:
    executor = LocalExecutor(job_of(model_folder, tmp_path, quick_config), quick_config.archive.model_copy(update={"scene_timeout_s": 0.3}))
    executor.submit(Task(name="slow.tif", uri=str(sample_scene), layer="layers/slow.geojson"))
    lost = next_end(executor)
    assert isinstance(lost, Lost)
    assert lost.code == "timeout"
    assert not list(tmp_path.rglob("*.geojson"))
    executor.close()
    executor = LocalExecutor(job_of(model_folder, tmp_path, quick_config), quick_config.archive)
    executor.submit(Task(name="missing.tif", uri="missing.tif", layer="layers/missing.geojson"))
    assert isinstance(next_end(executor), Finished)
    (idle,) = workers_of(os.getpid())
    idle.kill()
    os.waitid(os.P_PID, idle.pid, os.WEXITED | os.WNOWAIT)  # its end stays there for the executor
    executor.submit(Task(name="bad.tif", uri="missing.tif", layer="layers/bad.geojson"))
    assert isinstance(next_end(executor), Finished)
    executor.close()
    assert workers_of(os.getpid()) == []


def test_workers_that_outgrow_their_memory_before_they_begin_end_the_run_and_no_scene_is_to_blame(
    good_scenes: Path, model_folder: Path, quick_config: Config, tmp_path: Path
) -> None:
    narrow = quick_config.model_copy(update={"archive": quick_config.archive.model_copy(update={"memory_mb": 256})})
    with pytest.raises(PartialError, match="went down before it began: needed more than 256 MB"):
        run_archive(str(good_scenes), model_folder, tmp_path, narrow)
    assert set(states(tmp_path).values()) == {"pending"}


def test_a_worker_refuses_another_version_and_a_model_of_newer_settings_is_refused_before_any_work(
    good_scenes: Path, model_folder: Path, quick_config: Config, tmp_path: Path
) -> None:
    other = cached_model(replace(job_of(model_folder, tmp_path, quick_config), geoanom="0.0.1"))
    assert isinstance(other, Result)
    assert other.stops_run
    assert "geoanom 0.0.1" in str(other.error)
    newer = tmp_path / "newer"
    shutil.copytree(model_folder, newer)
    tree = json.loads((newer / "model.json").read_text())
    tree["config"]["telepathy"] = True
    (newer / "model.json").write_text(json.dumps(tree))
    with pytest.raises(ModelError, match="settings that this geoanom does not know"):
        run_archive(str(good_scenes), newer, tmp_path / "out", quick_config)


def test_a_merge_is_whole_or_not_there(undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    with closing(read_ledger(tmp_path)) as ledger:
        rows = ledger.rows()
    (tmp_path / "anomalies.gpkg").unlink()
    asked = iter([False, False, True])
    merge_layers(rows, tmp_path, lambda: next(asked))
    assert not (tmp_path / "anomalies.gpkg").exists()
    (tmp_path / "layers" / "scene_001.geojson").unlink()
    with pytest.raises(OutputError, match=r"scene_001\.geojson: is gone"):
        merge_layers(rows, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in undisturbed.iterdir()} - {"anomalies.gpkg"}


def test_a_run_that_was_killed_has_no_workers_to_show(tmp_path: Path) -> None:
    with closing(open_ledger(tmp_path)) as ledger:
        ledger.put(Row(name="a.tif", state="running", worker="1"))
    with locked(tmp_path):
        assert [busy["scene"] for busy in status_of(tmp_path)["running"]] == ["a.tif"]
    after = status_of(tmp_path)
    assert after["running"] == []
    assert after["totals"]["pending"] == 1


def test_watchers_that_cannot_write_do_not_end_the_run(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    watcher = Several([JsonLines(os.fdopen(writing, "w", closefd=False)), Metrics(tmp_path / "missing folder" / "m.prom")])
    watcher.tell("started", Row(name="a.tif"))
    watcher.tick({})
    watcher.close({})
    os.close(writing)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_draws_no_bars_on_its_parents_terminal() -> None:
    bars = "show_no_bars(); list(tqdm.tqdm([1], disable=None)); print('x', file=sys.stderr)"
    program = f"import sys, tqdm; from geoanom.archive.local import show_no_bars; {bars}"
    ours, terminal = os.openpty()
    subprocess.run([sys.executable, "-c", program], stderr=terminal, check=True)
    assert os.read(ours, 1000).split() == [b"x"]
    os.close(ours)
    os.close(terminal)


def test_an_interruption_while_the_workers_are_young_ends_all_without_a_traceback(
    good_scenes: Path, model_folder: Path, tmp_path: Path
) -> None:
    process = start(*command(good_scenes, model_folder, tmp_path, "--workers", "2"), new_session=True)
    while process.poll() is None and not workers_of(process.pid):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGINT
    assert errors.splitlines() == [f"{tmp_path}: {len(manifest(tmp_path)['scenes'])} pending; interrupted, run again to go on"]
    assert not any(
        "spawn_main" in " ".join(p.info["cmdline"] or ()) and getsid(p.pid) == process.pid for p in psutil.process_iter(["cmdline"])
    )


def getsid(pid: int) -> int:
    """The session of a process; 0 when it is gone."""
    with suppress(OSError):
        return os.getsid(pid)
    return 0


def test_two_runs_on_one_folder_are_kept_apart(good_scenes: Path, model_folder: Path, quick_config: Config, tmp_path: Path) -> None:
    process = start(*command(good_scenes, model_folder, tmp_path))
    while not (tmp_path / NAME).exists():
        time.sleep(0.05)
    with pytest.raises(LockedError, match=f"process {process.pid}"):
        run_archive(str(good_scenes), model_folder, tmp_path, quick_config)
    process.terminate()
    process.communicate()


def test_bad_folders_and_ledgers_stop_the_run_before_any_work(
    undisturbed: Path, good_scenes: Path, model_folder: Path, quick_config: Config, tmp_path: Path
) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        run_archive(str(good_scenes), model_folder, occupied, quick_config)
    copy = tmp_path / "copy"
    shutil.copytree(undisturbed, copy)
    (copy / NAME).write_bytes(b"nonsense")
    with pytest.raises(InputError, match="is damaged"):
        run_archive(str(good_scenes), model_folder, copy, quick_config)
    assert layers(copy) == layers(undisturbed)
    with pytest.raises(InputError, match="is not a model folder"):
        run_archive(str(good_scenes), tmp_path, tmp_path / "out", quick_config)


def test_json_lines_tell_every_event(good_scenes: Path, model_folder: Path, tmp_path: Path) -> None:
    list_file = tmp_path / "list.txt"
    list_file.write_text(f"{good_scenes / 'scene_001.tif'}\nmissing.tif\n")
    metrics = tmp_path / "geoanom.prom"
    code, errors = geoanom(*command(list_file, model_folder, tmp_path / "out", "--log-format", "json", "--metrics", str(metrics)))
    lines = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    told = {(line["event"], line.get("scene", "").rsplit("/", 1)[-1]) for line in lines}
    assert told == {
        ("started", "scene_001.tif"),
        ("finished", "scene_001.tif"),
        ("started", "missing.tif"),
        ("finished", "missing.tif"),
        ("end", ""),
    }
    assert lines[-1]["totals"]["done"] == lines[-1]["totals"]["refused"] == 1
    assert 'geoanom_archive_scenes{state="done"} 1.0' in metrics.read_text()
    assert code == 3
