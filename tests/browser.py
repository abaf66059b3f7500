"""A real Chromium, driven through its own WebDriver, for pages that tests read from the disk."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
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
