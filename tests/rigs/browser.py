"""Debian's Chromium, headless, on an engine's page; and what tests do and see there."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Any, Self

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from selenium.webdriver.remote.webelement import WebElement

_TIMEOUT_S = 45.0
_EXPECTED = re.compile(
    r"the server responded with a status of \d|net::ERR_CONNECTION|net::ERR_INCOMPLETE|net::ERR_EMPTY"
)
"""What Chromium says by itself of a request that was refused, or lost its connection."""


class Browser:
    """One window.

    Args:
        folder: for its profile.
        size: of the window, in CSS pixels.
        has_scripts: false: JavaScript is off.
    """

    def __init__(
        self, folder: Path, *, size: tuple[int, int] = (1440, 900), has_scripts: bool = True
    ) -> None:
        driver = shutil.which("chromedriver")
        assert driver is not None, "the package chromium-driver is not installed"
        options = Options()
        options.binary_location = shutil.which("chromium") or "chromium"
        for word in (
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-default-apps",
            "--disable-extensions",
            "--no-first-run",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
            "--lang=en-GB",
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={size[0]},{size[1]}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
        ):
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        if not has_scripts:
            options.add_experimental_option(
                "prefs", {"profile.managed_default_content_settings.javascript": 2}
            )
        self.driver = webdriver.Chrome(options, Service(driver))
        self._said: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.driver.quit()

    def open(self, url: str) -> None:
        """Load an address; the same page with another fragment is not loaded again."""
        self.driver.get(url)

    def size(self, width: int, height: int) -> None:
        """Be as large as that, in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def theme(self, name: str) -> None:
        """Prefer ``light`` or ``dark``, as a system does."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def picture(self, path: Path) -> None:
        """Write what is seen as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(path))

    # What is seen

    @property
    def text(self) -> str:
        """What is seen of the page, as text."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    @property
    def place(self) -> str:
        """The fragment of the address."""
        return str(self.run("return location.hash"))

    def run(self, script: str, *args: object) -> Any:
        """Run a script in the page, and return what it returns."""
        return self.driver.execute_script(script, *args)

    def all(self, css: str) -> list[WebElement]:
        """Return what is there, seen or not."""
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def texts(self, css: str) -> list[str]:
        """Return the texts of what is there; read in one step, as a page that is live changes meanwhile."""
        return list(
            self.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)", css)
        )

    def see(self, css: str, text: str = "", timeout_s: float = _TIMEOUT_S) -> WebElement:
        """Wait until an element is seen that has *text* in it, and return it."""

        def found() -> WebElement | None:
            try:
                for element in self.all(css):
                    if element.is_displayed() and text in element.text:
                        return element
            except StaleElementReferenceException:
                pass
            return None

        try:
            return wait_until(found, what=f"{css} with {text!r}", timeout_s=timeout_s)  # type: ignore[return-value]
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.place}\n{self.text}\n{self.errors()}") from None

    def wait_for(self, text: str, timeout_s: float = _TIMEOUT_S) -> None:
        """Wait until *text* is seen."""
        try:
            wait_until(lambda: text in self.text, what=repr(text), timeout_s=timeout_s)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.place}\n{self.text}\n{self.errors()}") from None

    # What is done

    def click(self, css: str, text: str = "", times: int = 1) -> None:
        """Click an element once it is seen; again where the page has just made it anew."""

        def clicked() -> bool:
            try:
                element = self.see(css, text)
                if times > 1:
                    self.run("for (let i = 0; i < arguments[1]; i += 1) arguments[0].click()", element, times)
                else:
                    element.click()
            except (StaleElementReferenceException, WebDriverException) as exc:
                if not isinstance(exc, StaleElementReferenceException) and "intercepted" not in str(exc):
                    raise
                return False
            return True

        wait_until(clicked, what=f"a click on {css}", timeout_s=_TIMEOUT_S)

    def click_at(self, css: str) -> None:
        """Click where an element is, whatever takes that click."""
        ActionChains(self.driver).move_to_element(self.see(css)).click().perform()

    def type(self, css: str, text: str) -> None:
        """Type into a field, in place of what it has."""
        element = self.see(css)
        element.clear()
        element.send_keys(text)

    def choose(self, css: str, value: str) -> None:
        """Choose an option by its value."""
        self.see(css)
        script = (
            "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('change', {bubbles: true}))"
        )
        self.run(script, css, value)

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def press(self, name: str) -> None:
        """Press a key that has a name, such as ``ESCAPE``."""
        self.keys(getattr(Keys, name))

    def sign_in(self, url: str, token: str, *, is_kept: bool = False) -> None:
        """Open the page, and give a token."""
        self.open(url)
        self.type("input[name=token]", token)
        if is_kept:
            self.click("input[name=keep]")
        self.click("button[type=submit]")

    def errors(self) -> list[str]:
        """Return what the page's console has of errors and warnings, but for refused requests."""
        log: list[dict[str, Any]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        said = [json.dumps(entry["message"]) for entry in log if entry["level"] in {"WARNING", "SEVERE"}]
        self._said += [one for one in said if not _EXPECTED.search(one)]
        return self._said
