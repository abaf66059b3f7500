"""A real Chromium, driven through its own WebDriver, for pages that tests read from the disk."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # CI runs as root in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
"""Of axe-core: Web Content Accessibility Guidelines up to 2.2, levels A and AA, and more."""
AXE = """
const [rules, done] = arguments;
axe.run(document, {runOnly: rules}).then((told) => done(told), (error) => done(String(error)));
"""
LOADED = "return document.readyState === 'complete' && document.getElementById('summary').textContent !== ''"


@contextmanager
def chromium(downloads: Path) -> Iterator[Chrome]:
    """A browser that saves into a folder and logs what it asks for; the test is skipped where there is none."""
    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Chromium and its WebDriver (Debian: chromium, chromium-driver), which are not here")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, which is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    try:
        yield browser
    finally:
        browser.quit()


def show(browser: Chrome, page: Path, *, width: int = 1400, height: int = 1000, dark: bool = False, wait: bool = True) -> None:
    """Open a page from the disk, with nothing remembered and the logs empty, in a window of this size."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    browser.get(page.as_uri())
    if wait:
        WebDriverWait(browser, 30).until(lambda b: b.execute_script(LOADED))


def requests_of(browser: Chrome) -> list[str]:
    """Addresses asked for since the page was opened, itself and what stands in it aside."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked: list[dict[str, Any]] = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    documents = {event["request"]["url"] for event in asked if event.get("type") == "Document"}
    urls = [event["request"]["url"] for event in asked]
    return [url for url in urls if not url.startswith(("data:", "blob:")) and not (url in documents and url.startswith("file:"))]


def complaints_of(browser: Chrome) -> list[str]:
    """Everything in the console since the page was opened."""
    return [entry["message"] for entry in browser.get_log("browser")]


def ask(browser: Chrome, expression: str) -> Any:
    """The value of an expression in the page."""
    return browser.execute_script(f"return {expression}")


def press(browser: Chrome, keys: str) -> None:
    """Type into the page as a whole."""
    browser.find_element("tag name", "body").send_keys(keys)


def verdicts(browser: Chrome) -> list[str]:
    """Of the rows of the list, from above."""
    return list(ask(browser, "[...document.querySelectorAll('#list tr')].map(row => row.dataset.verdict)"))


def afresh(browser: Chrome, page: Path, **size: Any) -> None:
    """Open a page as somebody who never saw it."""
    show(browser, page, **size)
    browser.execute_script("localStorage.clear()")
    show(browser, page, **size)


def saved_by(browser: Chrome, button: str, folder: Path) -> Path:
    """Press a button and return the file that it saves into an empty folder."""
    folder.mkdir()
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    browser.execute_script(f"document.getElementById('{button}').click()")
    for _ in range(100):
        found = [path for path in folder.iterdir() if path.suffix in (".json", ".csv") and path.stat().st_size]
        if found:
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f"{button} saved nothing")


def take_in(browser: Chrome, path: Path) -> str:
    """Import a file of labels; returns what the page says of it."""
    browser.execute_script("document.getElementById('message-text').textContent = ''")
    browser.find_element("id", "import-file").send_keys(str(path))
    for _ in range(100):
        if words := str(ask(browser, "document.getElementById('message-text').textContent")):
            return words
        time.sleep(0.05)
    raise AssertionError(f"the page said nothing of {path.name}")


def barriers_of(browser: Chrome) -> list[str]:
    """What stands in the way of people with disabilities, as axe-core finds it in the page as it is."""
    pytest.importorskip("axe_playwright_python", reason="needs axe-core (axe-playwright-python), which is not installed")
    browser.execute_script((files("axe_playwright_python") / "axe.min.js").read_text("utf-8"))
    told = browser.execute_async_script(AXE, RULES)
    assert isinstance(told, dict), told
    assert len(told["passes"]) > 20, "the rules were not run"
    return [f"{found['id']} ({found['impact']}): {node['html'][:200]}" for found in told["violations"] for node in found["nodes"]]
