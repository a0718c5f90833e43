"""A real browser on this machine, cut off from any network, that opens one file."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

BROWSERS, DRIVER = ("chromium", "chromium-browser", "google-chrome"), "chromedriver"
OWN = ("data:", "chrome:", "chrome-untrusted:")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


def require_browser() -> tuple[str, str]:
    """Returns the browser and its driver; skips the test where they are not installed.

    Fails it in CI, where they must be.
    """
    import pytest

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which(DRIVER)
    if browser is None or driver is None:
        reason = (
            "no chromium with its driver; Debian: "
            "apt-get install --no-install-recommends chromium chromium-driver"
        )
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return browser, driver


class Browser:
    """An open browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, page: Path, width: int) -> None:
        """Opens a file in a window so wide, in CSS pixels, whatever the least of a window is."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(page.as_uri())

    def ask(self, script: str) -> Any:
        """Returns the result of a script."""
        return self.driver.execute_script(f"return {script}")

    def complaints(self) -> list[str]:
        """Returns the messages of the console, at any level."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Returns the requested addresses: files, and any in a network.

        Not what the pages have in themselves, nor the browser's own parts.
        """
        events = [json.loads(entry["message"])["message"]
                  for entry in self.driver.get_log("performance")]  # fmt: skip
        urls = [e["params"]["request"]["url"] for e in events
                if e["method"] == "Network.requestWillBeSent"]  # fmt: skip
        return [url for url in urls if not url.startswith(OWN)]


@contextlib.contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Starts a browser with a new profile, and ends it."""
    browser, driver = require_browser()
    options = Options()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    try:
        found.get("about:blank")  # or the page that it starts with is among the requests
        found.get_log("performance")
        yield Browser(found)
    finally:
        found.quit()
