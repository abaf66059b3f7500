"""Labels leave a page and come into another reader's: what is kept, what is told, what is refused, and that nothing breaks the page."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest
from browser import afresh, ask, chromium, complaints_of, press, requests_of, saved_by, show, take_in, verdicts
from places import PEAKS, features_like, layer_at, scene_at

from geoanom.layer.report.page import write_report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

OURS, THEIRS = "0123456789ab", "ba9876543210"
ODD = (
    "=1+1",
    'a"b',
    "a,b",
    "a;b",
    "line\nbreak",
    "  room  ",
    "'quoted'",
    "-",
    "雪é",
    "<img src=x onerror=window.ran=1>",
    "__proto__",
    "'=x",
)
"""Identities that CSV, spreadsheets and scripts might take for something else."""
OPEN = ["open"] * (len(PEAKS) - 1)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("downloads")) as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three anomalies of the model `OURS`."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(layer_at(scene_at("mid-latitude")), path)
    return path


def identities(browser: Chrome) -> list[str]:
    return list(ask(browser, "[...document.querySelectorAll('#list tr')].map(row => row.dataset.anomalyId)"))


def document(labels: Any, **members: Any) -> str:
    return json.dumps({"geoanom_labels": 1, "model_id": OURS, "labels": labels, **members})


def given(folder: Path, content: str | bytes, name: str = "labels.json") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


def told_of(browser: Chrome) -> str:
    return str(ask(browser, "document.getElementById('progress').textContent"))


def test_labels_survive_a_second_opening_and_are_downloaded(browser: Chrome, page: Path, tmp_path: Path) -> None:
    afresh(browser, page)
    press(browser, "cjjd")
    show(browser, page)
    assert verdicts(browser) == ["confirmed", "open", "dismissed"]
    told = json.loads(saved_by(browser, "download", tmp_path / "json").read_text("utf-8"))
    path = saved_by(browser, "download-csv", tmp_path / "csv")
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert path.name == f"labels-{OURS}.csv"
    assert set(told) == {"geoanom_labels", "model_id", "labels"}
    assert (told["geoanom_labels"], told["model_id"]) == (1, OURS)
    assert [label["verdict"] for label in told["labels"]] == ["confirmed", "dismissed"]
    for label, row in zip(told["labels"], table, strict=True):
        assert set(label) == {"anomaly_id", "verdict", "lon", "lat", "scene"} == set(row)
        assert (row["anomaly_id"], row["scene"]) == (label["anomaly_id"], "flat.tif")
        assert (float(row["lon"]), float(row["lat"])) == (label["lon"], label["lat"])


@pytest.mark.parametrize("button", ["download", "download-csv"])
def test_two_people_share_a_review(browser: Chrome, page: Path, tmp_path: Path, button: str) -> None:
    afresh(browser, page)
    press(browser, "cjd")
    first = saved_by(browser, button, tmp_path / "first")
    afresh(browser, page)
    press(browser, "djjc")
    said = take_in(browser, first)
    assert said == f"{first.name}: 2 labels imported, 1 in place of another verdict. Undo takes it back."
    assert verdicts(browser) == ["confirmed", "dismissed", "confirmed"]
    assert told_of(browser) == "2 confirmed, 1 dismissed, 0 open"
    assert ask(browser, "document.getElementById('said').textContent") == said, "a screen reader hears it"
    show(browser, page)
    assert verdicts(browser) == ["confirmed", "dismissed", "confirmed"], "it is kept"
    assert take_in(browser, first) == f"{first.name}: 2 labels imported, 2 as here already."
    assert ask(browser, "document.getElementById('undo').disabled"), "nothing was changed, so nothing can be undone"
    assert complaints_of(browser) == requests_of(browser) == []


def test_undo_takes_an_import_back_as_a_whole(browser: Chrome, page: Path, tmp_path: Path) -> None:
    afresh(browser, page)
    press(browser, "cj")
    ids = identities(browser)
    take_in(browser, given(tmp_path, document([{"anomaly_id": each, "verdict": "dismissed"} for each in ids])))
    press(browser, "c")
    assert verdicts(browser) == ["dismissed", "confirmed", "dismissed"]
    press(browser, "u")
    assert verdicts(browser) == ["dismissed"] * 3
    press(browser, "u")
    assert verdicts(browser) == ["confirmed", "open", "open"]
    press(browser, "u")
    assert verdicts(browser) == OPEN
    show(browser, page)
    assert verdicts(browser) == OPEN


def test_what_is_unknown_or_unreadable_is_counted(browser: Chrome, page: Path, tmp_path: Path) -> None:
    afresh(browser, page)
    first, second, _ = identities(browser)
    labels: list[Any] = [
        {"anomaly_id": first, "verdict": "dismissed", "by": "somebody"},
        {"anomaly_id": first, "verdict": "confirmed"},
        {"anomaly_id": second, "verdict": "maybe"},
        {"anomaly_id": second, "verdict": "constructor"},
        {"anomaly_id": second, "verdict": ["confirmed"]},
        {"anomaly_id": [second], "verdict": "confirmed"},
        {"verdict": "confirmed"},
        None,
        "text",
        {"anomaly_id": "elsewhere", "verdict": "confirmed"},
        {"anomaly_id": "__proto__", "verdict": "confirmed"},
    ]
    said = take_in(browser, given(tmp_path, document(labels, note="foreign")))
    assert said.startswith("labels.json: 1 label imported, 2 anomalies unknown to this page left out, 7 unreadable left out.")
    assert verdicts(browser) == ["confirmed", "open", "open"], "the last of several labels holds"
    take_in(browser, given(tmp_path, document([{"anomaly_id": first, "verdict": "open"}])))
    assert verdicts(browser) == OPEN


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "other.json": (
        document([{"anomaly_id": "a", "verdict": "confirmed"}], model_id=THEIRS),
        f"its model is {THEIRS}, and this one is of {OURS}",
    ),
    "strange.json": (document([{"anomaly_id": "a", "verdict": "confirmed"}]), "no anomaly that it names is on this page"),
    "strange.csv": ("anomaly_id,verdict\r\na,confirmed\r\n", "no anomaly that it names is on this page"),
    "new.json": (document([], geoanom_labels=2), "version 2, and this page knows version 1"),
    "none.json": (document([]), "it has no labels"),
    "none.csv": ("anomaly_id,verdict,lon,lat,scene\r\n", "it has no labels"),
    "unread.json": (document([1, 2]), "none of its labels can be read"),
    "cut.json": (document([{"anomaly_id": "a", "verdict": "confirmed"}])[:-20], "cut off or damaged"),
    "cut.csv": ('anomaly_id,verdict\r\n"a,confirmed\r\n', "cut off or damaged"),
    "layer.json": ('{"type": "FeatureCollection", "features": []}', "no file of labels"),
    "object.json": (document({"a": "confirmed"}), "no file of labels"),
    "text.json": (document([], geoanom_labels="1"), "no file of labels"),
    "array.json": ("[1, 2]", "no file of labels"),
    "table.csv": ("name,age\r\na,3\r\n", "no file of labels"),
    "empty.csv": ("", "no file of labels"),
    "picture.csv": (bytes(range(256)) * 40, "not imported"),
    "deep.json": ('{"geoanom_labels": 1, "labels": ' + "[" * 200_000, "not imported"),
    "deeper.json": ('{"geoanom_labels": 1, "labels": [' + '{"anomaly_id":' * 50_000 + "0" + "}" * 50_000 + "]}", "not imported"),
    "quotes.csv": ("anomaly_id,verdict\r\n" + '"' * 300_001, "not imported"),
    "proto.json": ('{"__proto__": {"geoanom_labels": 1, "labels": []}}', "no file of labels"),
    "large.csv": (b"anomaly_id,verdict\r\n" + b"a,confirmed\r\n" * 1_300_000, "16.9 MB, and no labels have more than 16"),
    "<img src=x onerror=window.ran=1>.json": ("{", "<img src=x onerror=window.ran=1>.json was not imported"),
    "script.json": (
        document(
            [{"anomaly_id": "<script>window.ran=1</script>", "verdict": "<img src=x onerror=window.ran=1>"}], model_id="<img onerror=1>"
        ),
        "its model is <img onerror=1>",
    ),
}


def test_files_that_cannot_be_used_are_refused_in_words_and_break_nothing(browser: Chrome, page: Path, tmp_path: Path) -> None:
    afresh(browser, page)
    press(browser, "c")
    for name, (content, words) in REFUSED.items():
        said = take_in(browser, given(tmp_path, content, name))
        assert words in said, name
        assert "was not imported: " in said, name
        assert ask(browser, "document.getElementById('message').classList.contains('bad')")
        assert verdicts(browser) == ["confirmed", "open", "open"], name
    assert ask(browser, "typeof window.ran") == "undefined"
    assert ask(browser, "document.querySelectorAll('img').length") == 0
    assert complaints_of(browser) == requests_of(browser) == []
    press(browser, "jdu")
    assert verdicts(browser) == ["confirmed", "open", "open"], "the page works as before"
    browser.execute_script("document.getElementById('message-close').click()")
    assert not browser.find_element("id", "message").is_displayed()


@pytest.mark.parametrize("button", ["download", "download-csv"])
def test_odd_identities_come_back(browser: Chrome, tmp_path: Path, button: str) -> None:
    write_report(features_like([{"anomaly_id": each, "rank": n} for n, each in enumerate(ODD)]), tmp_path / "odd.html")
    afresh(browser, tmp_path / "odd.html")
    press(browser, "cjdj" * (len(ODD) // 2))
    before = verdicts(browser)
    assert "open" not in before
    path = saved_by(browser, button, tmp_path / "saved")
    afresh(browser, tmp_path / "odd.html")
    assert take_in(browser, path).startswith(f"{path.name}: {len(ODD)} labels imported.")
    assert verdicts(browser) == before
    assert ask(browser, "typeof window.ran") == "undefined"


def test_a_spreadsheet_may_have_written_the_table_again(browser: Chrome, page: Path, tmp_path: Path) -> None:
    """With a byte order mark, other columns, other line ends, quotes everywhere and a comment of several lines."""
    afresh(browser, page)
    first, *_, last = identities(browser)
    table = f'\ufeff"comment","verdict","anomaly_id"\n"one,\n""two""","confirmed","{first}"\n\n"","dismissed","{last}"'
    assert take_in(browser, given(tmp_path, table, "sheet.csv")).startswith("sheet.csv: 2 labels imported.")
    assert verdicts(browser) == ["confirmed", "open", "dismissed"]


def test_anomalies_without_an_identity_take_no_labels(browser: Chrome, tmp_path: Path) -> None:
    write_report(features_like([{}, {"anomaly_id": "a"}, {"anomaly_id": "a"}]), tmp_path / "poor.html")
    afresh(browser, tmp_path / "poor.html")
    labels = [{"anomaly_id": each, "verdict": "confirmed"} for each in ("", "a")]
    assert "1 unreadable left out" in take_in(browser, given(tmp_path, document(labels)))
    assert verdicts(browser) == ["open", "confirmed", "confirmed"]


def test_a_list_that_is_filtered_by_verdict_follows_an_import(browser: Chrome, page: Path, tmp_path: Path) -> None:
    afresh(browser, page)
    ids = identities(browser)
    browser.execute_script("const s = document.getElementById('verdicts'); s.value = 'open'; s.dispatchEvent(new Event('change'))")
    take_in(browser, given(tmp_path, document([{"anomaly_id": each, "verdict": "confirmed"} for each in ids[:2]])))
    assert verdicts(browser) == ["open"]
    press(browser, "u")
    assert verdicts(browser) == OPEN
