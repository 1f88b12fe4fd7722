"""The portal as people meet it: in Chromium, over the HTTP interface of a collector with data."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.support.ui import Select

from collector.identity.pseudonym import SubscriberIdentity, subscriber_id
from tests.browser import traffic
from tests.browser.conftest import SITE_KEY, Page, fresh, started
from tests.collector.conftest import CollectorProcess

Ask = Callable[..., Any]
VIEWS = ["", f"#/cell/{traffic.BAD_CELL}", f"#/subscriber/{traffic.UNHAPPY}"]


def numbers(text: str) -> list[float]:
    """Return the numbers in a text, whose thousands are separated by commas."""
    return [float(found.replace(",", "")) for found in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


def number(text: str) -> float:
    return numbers(text)[0]


def milliseconds(us: int) -> Any:
    return pytest.approx(us / 1000, rel=0.006)  # shown with three digits


# --------------------------------------------------------------------------- loading, isolation


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_loads_without_a_complaint_and_asks_no_other_host(page: Page, view: str) -> None:
    page.open(view)
    assert page.complaints() == []
    asked = page.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(asked) > 15
    assert [url for url in asked if not url.startswith(page.url + "/")] == []
    assert page.run("return document.querySelectorAll('.plot .main-svg').length") >= 4


def test_the_page_opens_on_the_range_that_holds_data(page: Page) -> None:
    page.open()
    assert Select(page.find("#range")).first_selected_option.text == "All data"
    start, end = page.run(
        "return [...document.querySelectorAll('#span time')].map((time) => time.dateTime)"
    )[:2]
    assert (start, end) == ("2026-01-31T12:00:00.000Z", "2026-01-31T12:30:00.000Z")


def test_a_range_without_data_says_so_and_shows_no_zero_as_a_score(page: Page) -> None:
    page.open("#/?range=1h")
    assert "not enough samples" in page.tile("qoe")
    assert "The newest data is from" in page.text("#notes")
    assert "No sessions in this range." in page.panel("Worst cells").text


# ------------------------------------------------------------------- numbers equal the interface


def test_tiles_equal_the_numbers_of_the_interface(page: Page, ask: Ask) -> None:
    page.open()
    sums = ask("/network")["data"]
    assert number(page.tile("sessions").removeprefix("Sessions")) == sums["sessions"]
    assert number(page.tile("subscribers").removeprefix("Subscribers")) == sums["subscribers"]
    assert number(page.tile("failures")) == pytest.approx(100 * sums["failure_ratio"], abs=0.05)
    assert f"{sums['failures']} failures" in page.tile("failures")
    score, low, high, _, samples = numbers(page.tile("qoe"))
    for shown, name in ((score, "value"), (low, "low"), (high, "high")):
        assert shown == pytest.approx(sums["qoe"][name], abs=0.5)  # shown without decimals
    assert samples == sums["qoe"]["samples"]
    for side in ("client", "server"):
        median, tail = re.findall(r"([\d.]+) ms", page.tile(f"rtt-{side}"))
        assert float(median) == milliseconds(sums[f"rtt_{side}_us"]["p50"])
        assert float(tail) == milliseconds(sums[f"rtt_{side}_us"]["p95"])
    megabytes = (sums["bytes_up"] + sums["bytes_down"]) / 1e6
    assert number(page.tile("volume")) == pytest.approx(megabytes, rel=0.006)


def test_the_worst_cell_ranks_first_in_table_and_plot(page: Page, ask: Ask) -> None:
    page.open()
    expected = [row["cell_id"] for row in ask("/cells")["data"]]
    assert expected[0] == traffic.BAD_CELL
    assert page.texts(".cells tbody th") == expected
    plot = page.panel("Worst cells").find_element("css selector", ".plot")
    assert f"{traffic.BAD_CELL} " in str(plot.get_attribute("aria-label")).partition(",")[0]


def test_the_timeline_as_a_table_adds_up_to_the_tiles(page: Page, ask: Ask) -> None:
    page.open()
    figure = page.panel("Over time").find_elements("css selector", "figure")[1]
    figure.find_element("css selector", "summary").click()
    cells = page.until(
        "const cells = [...arguments[0].querySelectorAll('tbody tr td:nth-child(2)')];"
        "return cells.length > 0 && cells.map((cell) => cell.textContent)",
        figure,
    )
    assert len(cells) == traffic.MINUTES
    assert sum(number(text) for text in cells) == ask("/network")["data"]["sessions"]


def test_causes_are_told_in_words_with_an_owner(page: Page, ask: Ask) -> None:
    page.open()
    rows = page.texts(".causes tbody tr")
    found = ask("/failures")["data"]
    assert len(rows) == len(found) == 2
    assert found[0]["failure_cause"] == "connect_timeout"
    assert "connect_timeout" in rows[0]
    assert "The service did not answer." in rows[0]
    assert "Operator of the service" in rows[0]


def test_missing_batches_and_dropped_packets_are_noted(page: Page) -> None:
    page.open()
    notes = page.text("#notes")
    assert "1 batch of probe edge-1 never arrived" in notes
    assert "missed 5.0 % of its packets" in notes


# ------------------------------------------------------------------------------- finding the way


def test_a_cell_opens_from_its_link_and_has_its_own_numbers(page: Page, ask: Ask) -> None:
    page.open()
    page.find(".cells tbody a").click()
    page.until("return document.querySelector('h1').textContent.startsWith('Cell')")
    page.complete()
    sums = ask(f"/cells/{traffic.BAD_CELL}")["data"]
    assert page.text("h1") == f"Cell {traffic.BAD_CELL}"
    assert number(page.tile("sessions").removeprefix("Sessions")) == sums["sessions"]
    assert page.driver.title.startswith(f"Cell {traffic.BAD_CELL}")
    assert page.run("return document.activeElement.id") == "view"
    page.driver.back()
    page.until("return document.querySelector('h1').textContent === 'Network'")


def test_a_table_is_sorted_by_the_buttons_of_its_head(page: Page) -> None:
    page.open()
    button = page.find(".cells thead th:nth-child(4) button")
    button.send_keys("\n")  # by keyboard
    head = page.find(".cells thead th:nth-child(4)")
    assert head.get_attribute("aria-sort") == "descending"
    counts = [number(text) for text in page.texts(".cells tbody td:nth-child(4)")]
    assert counts == sorted(counts, reverse=True)
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert [number(text) for text in page.texts(".cells tbody td:nth-child(4)")] == counts[::-1]


def test_dragging_across_a_plot_narrows_the_range_of_the_page(page: Page) -> None:
    page.open()
    room = page.panel("Over time").find_element("css selector", ".plot .nsewdrag")
    page.run("arguments[0].scrollIntoView({block: 'center'})", room)
    drag = ActionChains(page.driver).move_to_element_with_offset(room, -60, 0)
    drag.click_and_hold().move_by_offset(60, 0).move_by_offset(40, 0).release().perform()
    page.until("return location.hash.includes('from=')")
    page.until("return document.getElementById('range').value === 'custom'")
    page.complete()
    assert 0 < number(page.tile("sessions").removeprefix("Sessions")) < 800


def test_a_capture_point_can_be_chosen(page: Page, ask: Ask) -> None:
    page.open()
    assert page.texts("#point option") == ["s1u", "sgi"]
    Select(page.find("#point")).select_by_visible_text("sgi")
    page.until("return location.hash.includes('point=sgi')")
    page.complete()
    page.until("return document.querySelector('[data-tile=sessions] .value').textContent === '100'")
    assert ask("/network", "capture_point=sgi")["data"]["sessions"] == 100


def test_an_unknown_cell_is_said_to_have_nothing(page: Page) -> None:
    page.open("#/cell/001-01-FFFFFFF")
    assert "There is nothing here in this time range." in page.text("main")


# ----------------------------------------------------------------------------------- subscribers


def test_a_subscriber_is_found_by_imsi_and_the_imsi_stays_nowhere(
    page: Page, collector: CollectorProcess
) -> None:
    imsi = "001010000000042"
    page.open()
    Select(page.find("#lookup-kind")).select_by_visible_text("IMSI")
    page.find("#lookup-value").send_keys(imsi, "\n")
    expected = subscriber_id(SITE_KEY.encode(), SubscriberIdentity(imsi=imsi))
    page.until("return location.hash.includes(arguments[0])", expected)
    page.complete()
    assert page.find("#lookup-value").get_attribute("value") == ""
    assert imsi not in page.run("return location.href + document.documentElement.outerHTML")
    assert imsi not in collector.log.read_text()


def test_a_subscriber_has_sessions_with_words_for_a_care_agent(page: Page) -> None:
    page.open(f"#/subscriber/{traffic.UNHAPPY}")
    rows = page.texts(".sessions tbody tr")
    assert len(rows) == 13
    failed = [row for row in rows if "Failed" in row]
    assert len(failed) == 12
    assert all("The service did not answer." in row for row in failed)
    page.find("#only-failed").click()
    page.until("return document.querySelectorAll('.sessions tbody tr').length === 12")


def test_too_few_samples_are_words_and_not_a_zero(page: Page) -> None:
    page.open(f"#/subscriber/{traffic.RARE}")
    assert "not enough samples" in page.tile("qoe")
    assert "not enough samples" in page.tile("rtt-client")
    assert "0.0 %" not in page.tile("failures")


def test_a_wrong_identity_is_refused_in_words(page: Page) -> None:
    page.open()
    Select(page.find("#lookup-kind")).select_by_visible_text("IMSI")
    page.find("#lookup-value").send_keys("12ab", "\n")
    page.until("return document.getElementById('notes').textContent.includes('cannot be looked')")


# ------------------------------------------------------------------------------- hostile content


def test_names_from_the_network_are_text_and_never_markup(page: Page) -> None:
    page.open(f"#/subscriber/{traffic.UNHAPPY}")
    assert traffic.HOSTILE_NAME in page.texts(".sessions .server")
    page.open()
    assert traffic.HOSTILE_CELL in page.texts(".cells tbody th")
    page.find(".cells tbody a[href*='img']").click()
    page.until("return document.querySelector('h1').textContent.startsWith('Cell <img')")
    page.complete()
    assert page.run("return document.querySelectorAll('main img, main b').length") == 0
    assert page.run("return window.harmed") is None
    assert page.complaints() == []


@pytest.mark.parametrize(
    "address", ["#/cell/%E0%A4%A", "#/subscriber/<img>", "#/?from=9&to=1", "#/x/y/z?range=%"]
)
def test_an_address_that_makes_no_sense_does_no_harm(page: Page, address: str) -> None:
    page.open(address)
    page.until("return document.querySelector('h1') !== null")
    assert page.run("return window.violations") == []


# ---------------------------------------------------------------------------------------- tokens


def test_a_token_opens_the_page_and_lives_in_the_tab_only(
    closed_page: Page, closed_collector: CollectorProcess
) -> None:
    page = closed_page
    page.open()
    assert page.text("h1") == "Sign in"
    assert page.run("return document.activeElement.id") == "token"
    page.find("#token").send_keys("wrong", "\n")
    page.until("return document.querySelector('.problem').textContent.includes('does not know')")
    probes = closed_collector.token("probe", "edge-9")
    page.find("#token").send_keys(probes, "\n")
    page.until("return document.querySelector('.problem').textContent.includes('reader')")
    page.find("#token").send_keys(closed_collector.token("reader", "care"), "\n")
    page.until("return document.querySelector('h1').textContent === 'No data yet'")
    assert "is a probe sending?" in page.text("main")
    assert page.run("return [sessionStorage.length, localStorage.length]") == [1, 0]
    assert page.run("return document.cookie") == ""
    assert page.run("return location.href") == f"{page.url}/"
    page.find("#sign-out").click()
    page.until("return document.querySelector('h1').textContent === 'Sign in'")
    assert page.run("return sessionStorage.length") == 0


def test_data_that_arrives_in_an_empty_collector_is_shown_live(
    driver: webdriver.Chrome, tmp_path: Path
) -> None:
    collector = started(tmp_path, "open_on_loopback: true\n")
    try:
        page = fresh(driver, collector)
        page.open()
        assert page.text("h1") == "No data yet"
        shift = time.time_ns() - traffic.START - (traffic.MINUTES + 1) * 60 * traffic.SECOND_NS
        token = collector.token("probe", "edge-1")
        for batch in traffic.in_two_batches(traffic.network(shift)):
            assert collector.send(batch, token).status == 200
        page.until("return document.querySelector('h1').textContent === 'Network'")
        page.complete()
        assert Select(page.find("#range")).first_selected_option.text == "Last hour"
        assert page.find("#every-minute").is_selected()
        assert number(page.tile("sessions").removeprefix("Sessions")) == 915
        assert "The newest data" not in page.text("#notes")
    finally:
        collector.stop()


def test_a_collector_that_cannot_be_reached_is_said_so(page: Page) -> None:
    page.open()
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    try:
        page.find("#refresh").click()
        page.until(
            "return document.querySelector('main').textContent.includes('cannot be reached')"
        )
    finally:
        online = {**offline, "offline": False, "downloadThroughput": -1, "uploadThroughput": -1}
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", online)


# ------------------------------------------------------------------------------ for every reader


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("pixels", [400, 800, 1400])
def test_nothing_is_wider_than_the_screen(page: Page, view: str, pixels: int) -> None:
    page.width(pixels)
    page.open(view)
    assert page.run("return document.documentElement.scrollWidth") <= pixels


_CONTRASTS = """
const luminance = (colour) => {
  const [r, g, b] = colour.map((value) => {
    const part = value / 255;
    return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const parsed = (text) => text.match(/[\\d.]+/g).map(Number);
const ground = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const colour = parsed(getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour.slice(0, 3);
  }
  return [255, 255, 255];
};
const poor = [];
for (const node of document.querySelectorAll("body *")) {
  const said = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  if (!said || !node.checkVisibility() || node.closest("svg, .unseen, .skip")) continue;
  const [a, b] = [luminance(parsed(getComputedStyle(node).color).slice(0, 3)),
                  luminance(ground(node))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) poor.push(`${node.tagName}.${node.className} ${ratio.toFixed(2)}`);
}
return poor;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_text_has_the_contrast_of_wcag_aa(page: Page, view: str, scheme: str) -> None:
    page.scheme(scheme)
    page.open(view)
    assert page.run(_CONTRASTS) == []


def test_every_control_has_a_name_and_every_plot_a_description(page: Page) -> None:
    page.open()
    unnamed = page.run(
        "return [...document.querySelectorAll('input, select, button')].filter((control) =>"
        " !(control.labels?.length || control.ariaLabel || control.textContent.trim()))"
        ".map((control) => control.outerHTML)"
    )
    assert unnamed == []
    labels = page.run(
        "return [...document.querySelectorAll('.plot')].map((plot) =>"
        " [plot.getAttribute('role'), plot.ariaLabel])"
    )
    assert len(labels) == 6
    assert all(role == "img" and len(label) > 30 for role, label in labels)
