"""Debian's Chromium without a window, which remembers whatever its console and its policy complain about."""

from __future__ import annotations

import base64
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from selenium import webdriver
from selenium.common.exceptions import (
    ElementNotInteractableException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.kit.patience import Patience

SECONDS = 60.0  # how long anything may take on a busy machine
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # else it can't be run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--hide-scrollbars",
    "--autoplay-policy=no-user-gesture-required",
    "--force-prefers-reduced-motion",
)
# Runs in each page before anything of it.
_OBSERVER = """
window.observed = [];
addEventListener("securitypolicyviolation", (event) => observed.push(
  `policy: ${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
addEventListener("error", (event) => observed.push(`error: ${event.message}`));
addEventListener("unhandledrejection", (event) => observed.push(`rejection: ${event.reason}`));
"""
_PASSING = (StaleElementReferenceException, NoSuchElementException, ElementNotInteractableException)
_T = TypeVar("_T")


@dataclass
class Chromium:
    """One window."""

    driver: webdriver.Chrome
    url: str  # of the site, without a slash
    complaints: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        """Open a page of the site."""
        self.look_for_complaints()
        self.driver.get(self.url + path)

    def sign_in(self, name: str, password: str) -> None:
        """By the form, as a person does."""
        self.go("/sign-in")
        self.find("#name").send_keys(name)
        self.find("#password").send_keys(password, Keys.ENTER)
        self.wait("signed in", lambda: self.path() != "/sign-in")

    def path(self) -> str:
        """Where it is, with the query."""
        return self.driver.current_url.removeprefix(self.url)

    def find(self, css: str) -> WebElement:
        """The first such element, waited for."""
        return self.wait(css, lambda: self.driver.find_element(By.CSS_SELECTOR, css))

    def all(self, css: str) -> list[WebElement]:
        """All such elements as of now."""
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def link(self, text: str) -> WebElement:
        """The link or button with this text in it, waited for."""
        path = f"//*[self::a or self::button][contains(normalize-space(.), '{text}')]"
        return self.wait(text, lambda: self.driver.find_element(By.XPATH, path))

    def text(self, css: str = "body") -> str:
        """What a reader sees there."""
        with contextlib.suppress(*_PASSING):
            return self.driver.find_element(By.CSS_SELECTOR, css).text
        return ""

    def keys(self, *keys: str) -> None:
        """Type, wherever the focus is."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def ask(self, script: str, *arguments: object) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, what: str, condition: Callable[[], _T], *, seconds: float = SECONDS) -> _T:
        """The first true value of `condition`; fail naming `what` and what is shown if there is none."""
        patience = Patience(seconds)
        while True:
            with contextlib.suppress(*_PASSING):
                if value := condition():
                    return value
            assert not patience.is_over, f"never happened: {what}\n{self.path()}\n{self.text()}"
            time.sleep(0.1)

    def shows(self, text: str, css: str = "body") -> None:
        """Wait until that text is shown."""
        self.wait(f"{text!r} is shown", lambda: text in self.text(css))

    def look(
        self,
        *,
        scheme: str = "light",
        width: int = 1280,
        height: int = 900,
        language: str = "en",
        scale: float = 1,
    ) -> None:
        """Set how it shows pages from now on."""
        command = self.driver.execute_cdp_cmd
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        command("Emulation.setEmulatedMedia", {"features": media})
        screen = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
        command("Emulation.setDeviceMetricsOverride", screen)
        command("Network.enable", {})
        command("Network.setExtraHTTPHeaders", {"headers": {"Accept-Language": language}})
        command("Emulation.setTimezoneOverride", {"timezoneId": "Europe/Madrid"})

    def picture(self, path: Path, *, most_pixels: int = 1600) -> None:
        """The page as a PNG, at most so high."""
        width, height = self.ask("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, most_pixels), "scale": 1}
        shot = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        path.write_bytes(
            base64.b64decode(self.driver.execute_cdp_cmd("Page.captureScreenshot", shot)["data"])
        )

    def look_for_complaints(self) -> list[str]:
        """Everything that the console and the policy have complained about so far."""
        with contextlib.suppress(Exception):  # there may be no page
            self.complaints += self.ask("return window.observed ? window.observed.splice(0) : []")
        self.complaints += [entry["message"] for entry in self.driver.get_log("browser")]
        return self.complaints

    def evaluate(self, source: str) -> None:
        """Run a library's source: the policy does not apply to it."""
        self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": source})


@contextlib.contextmanager
def chromium(url: str, **look: Any) -> Iterator[Chromium]:
    """A new Chromium with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
        try:
            driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _OBSERVER})
            browser = Chromium(driver, url)
            browser.look(**look)
            yield browser
        finally:
            driver.quit()


def cost_of_loading(browser: Chromium) -> Mapping[str, Any]:
    """What loading the page has cost, as the browser measured it: requests, bytes, and milliseconds."""
    script = """
    const page = performance.getEntriesByType("navigation")[0];
    const all = [page, ...performance.getEntriesByType("resource")];
    return {requests: all.length, bytes: all.reduce((sum, one) => sum + one.transferSize, 0),
      answered: page.responseStart - page.requestStart, shown: page.domContentLoadedEventEnd};
    """
    found: Mapping[str, Any] = browser.ask(script)
    return found
