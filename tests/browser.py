"""A headless Chromium for tests of pages: the system's own, driven by selenium."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


def lacking() -> str | None:
    """Why no browser can be driven here; None where one can."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed (pip install selenium)"
    if CHROMIUM is None or DRIVER is None:
        return "there is no Chromium with its driver (apt-get install chromium chromium-driver)"
    return None


@contextmanager
def browser(width: int = 1400, height: int = 1000, *, dark: bool = False) -> Iterator[Any]:
    """A browser that reaches this machine alone: a page that needs more looks broken in it."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless=new",
        "--no-sandbox",  # tests may run as root, who has none
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        "--hide-scrollbars",
        "--force-device-scale-factor=1",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        # A window has a least width, which is more than a telephone's.
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        yield driver
    finally:
        driver.quit()


def wait(until: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """Wait until something is so, and return it."""
    from selenium.common.exceptions import WebDriverException

    end = time.monotonic() + seconds
    while True:
        try:
            found = until()
        except (IndexError, WebDriverException):  # what is looked for is not there yet, or just replaced
            found = None
        if found:
            return found
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.03)


class Page:
    """The demo as somebody sees it."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver = driver
        driver.get(address)
        self.tab = driver.current_window_handle
        self.ready()

    def ready(self) -> None:
        wait(lambda: self.all("#generate") and self.all("#lane0 .od-lane"), "the page")

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def text(self, selector: str) -> str:
        return " ".join(each.text for each in self.all(selector))

    def count(self, selector: str) -> int:
        return int(self.driver.execute_script("return document.querySelectorAll(arguments[0]).length", selector))

    def click(self, selector: str) -> None:
        wait(lambda: self.all(selector) and self.all(selector)[0].is_enabled(), f"{selector} to be enabled")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", self.all(selector)[0])
        self.all(selector)[0].click()

    def type(self, selector: str, text: str) -> None:
        from selenium.webdriver.common.keys import Keys

        box = wait(lambda: self.all(selector), selector)[0]
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text)

    def choose(self, selector: str, name: str) -> None:
        """Choose a name in a dropdown."""
        from selenium.webdriver.common.keys import Keys

        self.type(f"{selector} input", name)
        wait(
            lambda: [e for e in self.all(f"{selector} li, ul[role=listbox] li") if name in e.text], f"the choice {name}"
        )
        self.all(f"{selector} input")[0].send_keys(Keys.ENTER)
        wait(lambda: self.all(f"{selector} input")[0].get_attribute("value") == name, f"{name} to be chosen")

    def number(self, selector: str, value: float) -> None:
        from selenium.webdriver.common.keys import Keys

        self.type(f"{selector} input", str(value))
        self.all(f"{selector} input")[0].send_keys(Keys.TAB)

    def state(self, lane: int = 0) -> str:
        """waiting, running, stopped, failed or done."""
        return str(
            self.driver.execute_script(
                "return document.querySelector(arguments[0])?.dataset.state", f"#lane{lane} .od-lane"
            )
        )

    def ask(self, text: str) -> None:
        self.type("#prompt textarea", text)
        self.click("#generate")

    def until(self, state: str, lane: int = 0, seconds: float = 30.0) -> None:
        wait(lambda: self.state(lane) == state, f"lane {lane} to be {state}", seconds)

    def errors(self) -> list[str]:
        """What the browser complained of."""
        return [each["message"] for each in self.driver.get_log("browser") if each["level"] == "SEVERE"]

    def requested(self) -> list[str]:
        """Every address that the page asked for."""
        import json

        events = [json.loads(each["message"])["message"] for each in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
