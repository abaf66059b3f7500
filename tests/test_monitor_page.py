"""The page of a monitor's state: what it shows, that nothing in a name can run in it, and that everybody can read it."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from browser import ask, barriers_of, chromium, complaints_of, requests_of, show
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from series import BEGUN, NOW, Thing, begun, run_pass, write_look

from geoanom.errors import OutputError
from geoanom.monitor.courses import Course, Dot, State
from geoanom.monitor.page import Shown, page_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

HOSTILE = (
    "<img src=x onerror=window.ran=1>",
    "</style><script>window.ran=1</script>",
    "javascript:window.ran=1",
    '" onmouseover="window.ran=1',
    "'><svg onload=window.ran=1>",
    "{{style}}\u2028\ud800\x00",
    "-->\n<!--",
)


def picture() -> str:
    memory = io.BytesIO()
    Image.new("RGB", (128, 128), (90, 120, 60)).save(memory, "PNG")
    return base64.b64encode(memory.getvalue()).decode()


def shown(text: str = "harbour", status: str = "new", **kind: Any) -> Shown:
    alert = {
        "alert_id": kind.pop("name", "7a6720dfcb23d827"),
        "status": status,
        "lon": 15.004,
        "lat": 45.149,
        "area": text,
        "scene": text,
        "reason": text,
        "families": [text],
        "score": 0.97,
        "n_detections": 2,
        "first_detected": "2024-06-05T00:00:00Z",
    }
    state = {
        "monitor": text,
        "store": "/srv/secret/state.sqlite",
        "model_id": "0123456789ab",
        "last_success": "2024-07-01T00:00:00Z",
        "last_run": {"started": "2024-07-01T00:00:00Z", "outcome": "done", "message": "/srv/secret/inbox: gone"},
        "newest": "2024-06-10T00:00:00Z",
        "lag_s": 86_400,
        "looks": {"used": 8, "suspect": 1},
        "alerts": {status: 1},
        "undelivered": {text: 3},
        "given_up": [],
        "refused": [{"path": text, "message": "/srv/secret/bad.tif: is damaged"}],
        "n_refused": 1,
        "suspects": [{"scene": text, "moment": "2024-06-10T00:00:00Z", "reason": text}],
        "n_suspect": 1,
        "drift": None,
    }
    course: tuple[tuple[int, State], ...] = (1, "clear"), (5, "detected"), (8, "unseen"), (10, "detected")
    dots = tuple(Dot(moment=f"2024-06-{day:02d}T00:00:00Z", scene=text, state=state_then) for day, state_then in course)
    pictures = {"thumbnail_before": picture(), "thumbnail_after": picture(), **kind}
    return Shown(
        status=state,
        alerts=[alert],
        courses={str(alert["alert_id"]): Course(dots=dots)},
        pictures={str(alert["alert_id"]): pictures},
        n_alerts=1,
        extent=(15.0, 45.1, 15.1, 45.2),
        now=NOW,
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("downloads")) as running:
        yield running


def tags_of(page: str) -> list[str]:
    """All tags, without what stands in quotes."""
    return re.findall(r"<[^>]*>", re.sub(r'"[^"]*"', '""', page))


@given(st.text(st.characters()) | st.sampled_from(HOSTILE))
def test_a_name_is_text_and_nothing_else(text: str) -> None:
    plain, page = page_of(shown("a")), page_of(shown(f"a{text}"))
    assert tags_of(page) == tags_of(plain)
    assert page.encode("utf-8").decode("utf-8") == page


def test_the_policy_allows_this_style_and_no_script_at_all() -> None:
    page = page_of(shown(HOSTILE[1]))
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy
    assert "<script" not in page


def test_a_picture_that_is_none_is_left_out() -> None:
    assert page_of(shown()).count("<img") == 2
    assert page_of(shown(thumbnail_after='"><script>')).count("<img") == 1


def test_paths_of_the_machine_are_not_published() -> None:
    assert "/srv/secret" not in page_of(shown())


def test_the_timeline_has_a_dot_for_each_look_in_the_order_of_dates() -> None:
    [line] = re.findall(r'<svg class="timeline".*?</svg>', page_of(shown()), re.DOTALL)
    dots = [(kind, float(x)) for kind, x in re.findall(r'<circle class="(\w+)" cx="([\d.]+)"', line)]
    assert [kind for kind, _ in dots] == ["clear", "detected", "unseen", "detected"]
    assert [x for _, x in dots] == sorted(x for _, x in dots)
    assert "2 found, 1 nothing found, 1 not to be seen" in unescape(line)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_name_runs(browser: Chrome, tmp_path: Path, text: str) -> None:
    path = tmp_path / "page.html"
    path.write_text(page_of(shown(text, name=text)), "utf-8")
    show(browser, path, wait=False)
    assert ask(browser, "window.ran") is None
    assert complaints_of(browser) == []
    assert requests_of(browser) == []
    assert ask(browser, "document.querySelectorAll('article').length") == 1
    assert ask(browser, "document.images.length") == 2
    assert ask(browser, "[...document.images].every((image) => image.complete && image.naturalWidth === 128)")


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_stands_in_anybodys_way(browser: Chrome, tmp_path: Path, width: int, *, dark: bool) -> None:
    path = tmp_path / "page.html"
    path.write_text(page_of(shown()), "utf-8")
    show(browser, path, width=width, dark=dark, wait=False)
    assert barriers_of(browser) == []
    assert ask(browser, "document.documentElement.scrollWidth <= window.innerWidth")


def test_a_pass_leaves_a_page_of_what_it_found(tmp_path: Path) -> None:
    config = begun(tmp_path / "m", page="page.html", metrics="monitor.prom", thumbnails=True)
    for number in (BEGUN, BEGUN + 1):
        write_look(config.parent / "inbox", number, [Thing(row=40, col=24, begin=BEGUN, end=99)])
    run_pass(config)
    page = (tmp_path / "m" / "page.html").read_text("utf-8")
    [status] = re.findall(r'data-status="(\w+)"', page)
    assert status == "persistent"
    assert page.count("data:image/png;base64,") == 2
    assert 'class="detected"' in page
    assert str(tmp_path) not in page
    run_pass(config)
    assert (tmp_path / "m" / "page.html").read_text("utf-8") == page
    figures = (tmp_path / "m" / "monitor.prom").read_text()
    assert 'geoanom_monitor_alerts{monitor="test",status="persistent"} 1.0' in figures


def test_a_page_that_cannot_be_written_is_told_and_loses_nothing(tmp_path: Path) -> None:
    config = begun(tmp_path / "m", page="nowhere/page.html")
    report = run_pass(config)
    assert report.exit_code == OutputError.exit_code
    assert "nowhere" in report.problems[0].message
    (tmp_path / "m" / "nowhere").mkdir()
    assert run_pass(config).exit_code == 0
