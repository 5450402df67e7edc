"""A real headless Chromium that opens a page of ours and tells what it saw."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "" if CHROMIUM and DRIVER else "no chromium with chromedriver on this machine"


# Of each element with text of its own: its colour against the next background below it.
_FAINT = """
const parts = c => c.match(/[0-9.]+/g).map(Number);
const light = c => { const [r, g, b] = parts(c).slice(0, 3).map(v => { v /= 255;
  return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
  return .2126 * r + .7152 * g + .0722 * b; };
const below = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
  if ((parts(c)[3] ?? 1) > 0) return c; } return 'rgb(255, 255, 255)'; };
const found = [];
for (const e of document.querySelectorAll('body *')) {
  if (e.closest('svg') || !e.getClientRects().length) continue;
  const text = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join(' ');
  if (!text.trim()) continue;
  const [a, b] = [light(getComputedStyle(e).color), light(below(e))].sort((x, y) => y - x);
  const ratio = (a + .05) / (b + .05);
  if (ratio < arguments[0]) found.push([ratio, text]);
}
return found;
"""


class Page:
    """One opened page."""

    def __init__(self, driver: webdriver.Chrome, path: Path) -> None:
        self._driver = driver
        self._address = path.as_uri()
        driver.get_log("performance")  # forget what came before
        driver.get_log("browser")
        driver.get(self._address)

    def resize(self, width: int, height: int = 1000) -> None:
        """Set the size of the viewport in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def show_as(self, scheme: str, media: str = "screen") -> None:
        """Have the page shown as somebody sees it who prefers light or dark, on screen or paper."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": media, "features": features}
        )

    def faint(self, least: float = 4.5) -> list[Any]:
        """Return texts outside of pictures whose contrast (WCAG 2.1) is too low, with it."""
        return list(self._driver.execute_script(_FAINT, least))

    def ask(self, script: str) -> Any:
        """Return the value of a JavaScript expression, run by the test and not by the page."""
        return self._driver.execute_script(f"return {script}")

    def complaints(self) -> list[str]:
        """Return what stands on the console, blocked contents included."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the addresses of everything that was asked for besides the page itself."""
        events = [json.loads(e["message"])["message"] for e in self._driver.get_log("performance")]
        addresses = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        assert self._address in addresses, "the log of requests works"
        return [a for a in addresses if a != self._address and not a.startswith("data:")]

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        return int(
            self.ask("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        )

    def print_to_pdf(self) -> bytes:
        """Return the page as the browser prints it on A4."""
        paper = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True}
        result = self._driver.execute_cdp_cmd("Page.printToPDF", {**paper, "printBackground": True})
        return base64.b64decode(result["data"])

    def screenshot(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        result = self._driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True}
        )
        path.write_bytes(base64.b64decode(result["data"]))


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """Start a browser with a profile of its own; it is gone when this ends."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for word in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-background-networking", "--disable-component-update", "--no-first-run",
        f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(executable_path=str(DRIVER)))
    driver.set_page_load_timeout(120)
    try:
        yield driver
    finally:
        driver.quit()
