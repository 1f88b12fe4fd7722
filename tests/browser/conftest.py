"""A real browser in front of a real collector."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.browser import traffic
from tests.collector.conftest import CollectorProcess

SITE_KEY = "the site key of the browser tests"
PATIENCE_S = 30.0
# Kept by the page from its first moment on: what the policy refused.
_NOTE_VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@dataclass
class Page:
    """The portal in a browser, asked as a person would see it."""

    driver: webdriver.Chrome
    url: str = ""

    def open(self, address: str = "") -> None:
        """Load the page anew, with nothing kept from before, and wait until it is complete."""
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}/{address}")
        self.complete()

    def complete(self) -> None:
        """Wait until every panel has its answer, or a message stands in their place."""
        self.until(
            "return document.querySelector('main .panel') !== null"
            " && document.querySelector('[aria-busy=true]') === null"
        )

    def until(self, script: str, *arguments: Any) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := self.run(script, *arguments)):
            assert time.monotonic() < deadline, f"never: {script}\n{self.text('body')}"
            time.sleep(0.05)
        return found

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def texts(self, selector: str) -> list[str]:
        return [found.text for found in self.driver.find_elements(By.CSS_SELECTOR, selector)]

    def panel(self, heading: str) -> WebElement:
        for section in self.driver.find_elements(By.CSS_SELECTOR, "section.panel"):
            if section.find_elements(By.XPATH, f"./h2[text()='{heading}']"):
                return section
        raise AssertionError(f"no panel {heading}")

    def tile(self, name: str) -> str:
        return self.text(f"[data-tile='{name}']")

    def width(self, pixels: int) -> None:
        """Give the page a width, which a window may not be as narrow as."""
        size = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def scheme(self, name: str) -> None:
        wanted = {"features": [{"name": "prefers-color-scheme", "value": name}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)

    def complaints(self) -> list[str]:
        """Return what the console has held since it was last asked, and what the policy refused."""
        return console(self.driver) + list(self.run("return window.violations"))


@pytest.fixture(scope="session")
def driver(
    tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = tool("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",  # the sandbox needs rights that a container does not give
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1400,900",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(tool("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _NOTE_VIOLATIONS})
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def collector(
    driver: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CollectorProcess]:
    """A collector with data that anybody on this host may read."""
    collector = started(tmp_path_factory.mktemp("open"), "open_on_loopback: true\n")
    token = collector.token("probe", "edge-1")
    for batch in traffic.in_two_batches(traffic.network()):
        assert collector.send(batch, token).status == 200
    yield collector
    collector.stop()


@pytest.fixture(scope="session")
def closed_collector(
    driver: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CollectorProcess]:
    """An empty collector that nobody may read without a token."""
    collector = started(tmp_path_factory.mktemp("closed"), "")
    yield collector
    collector.stop()


def started(directory: Path, settings: str) -> CollectorProcess:
    (directory / "key").write_text(SITE_KEY)
    collector = CollectorProcess(
        directory, settings + "site_key_file: key\nincidents: {enabled: false}\n"
    )
    collector.start()
    return collector


@pytest.fixture
def page(driver: webdriver.Chrome, collector: CollectorProcess) -> Page:
    """The page of the open collector, as wide as a desk's screen, in light colours."""
    return fresh(driver, collector)


@pytest.fixture
def closed_page(driver: webdriver.Chrome, closed_collector: CollectorProcess) -> Page:
    return fresh(driver, closed_collector)


def fresh(driver: webdriver.Chrome, collector: CollectorProcess) -> Page:
    page = Page(driver, collector.url)
    page.width(1400)
    page.scheme("light")
    driver.get(f"{collector.url}/healthz")
    driver.execute_script("sessionStorage.clear(); localStorage.clear();")
    console(driver)  # what an earlier test left
    return page


def console(driver: webdriver.Chrome) -> list[str]:
    """Return what the browser's console has held since it was last asked."""
    entries: list[dict[str, Any]] = driver.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in entries]


@pytest.fixture
def ask(collector: CollectorProcess) -> Callable[[str], Any]:
    """Ask the HTTP interface about the same range as the page, all that it holds."""
    span = "from=2026-01-31T12:00:00Z&to=2026-01-31T12:30:00Z"

    def ask(path: str, query: str = "") -> Any:
        answer = collector.ask(f"/api/v1{path}?{span}{'&' if query else ''}{query}")
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    return ask
