"""The web demo as a browser shows it. Skipped where there is no gradio, or no Chromium with its driver."""

import argparse
import http.client
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import browser
import pytest
from test_demo import DOTTED, EVIL, QUESTION

from odb_dllm import demo
from odb_dllm.stream import Piece, Snapshot


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Any, str]]:
    """The demo as ``odb-dllm demo`` serves it, and its address."""
    pytest.importorskip("gradio", reason="gradio is not installed (pip install 'gradio>=6')")
    parser = demo.add_verb(argparse.ArgumentParser().add_subparsers())
    made = demo.build(parser.parse_args(["--device", "cpu"]))
    address = demo.launch(made, "127.0.0.1", None, False, block=False)
    assert made.page.share_url is None
    yield made, address
    made.page.close()


@pytest.fixture(scope="module")
def chromium(served: Any) -> Iterator[Any]:
    why = browser.lacking()
    if why:
        pytest.skip(why)
    with browser.browser() as driver:
        yield driver


@pytest.fixture
def page(served: tuple[Any, str], chromium: Any) -> browser.Page:
    return browser.Page(chromium, served[1])


def test_requests_under_other_host_names_are_refused(served: tuple[Any, str]) -> None:
    def status(host: str) -> int:
        address = urllib.parse.urlsplit(served[1])
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
        connection.request("GET", "/config", headers={"Host": f"{host}:{address.port}"})
        return connection.getresponse().status

    assert (status("127.0.0.1"), status("localhost"), status("evil.example")) == (200, 200, 400)


def test_a_question_is_answered_and_the_cells_fill(page: browser.Page) -> None:
    page.number("#gen_length", 64)
    page.choose("#setting", "llada_baseline")
    page.type("#prompt textarea", QUESTION)
    started = time.monotonic()
    page.click("#generate")
    browser.wait(lambda: page.state() == "running", "the first frame")
    first = time.monotonic() - started
    assert first < 2, f"the first frame took {first:.2f} s"
    some = browser.wait(lambda: page.count("#lane0 .od-canvas s"), "a cell")
    assert page.count("#lane0 .od-canvas u:not(.od-end)") > 0
    page.until("done")
    assert page.count("#lane0 .od-canvas s") > some
    assert page.count("#lane0 .od-canvas u:not(.od-end)") == 0
    assert page.count("#lane0 svg rect") == 64
    assert "#### 17" in page.text("#talk")
    assert "64\nNFE" in page.text("#lane0 .od-figures")
    # The slider, by its number: back to the fifth forward.
    page.number("#slider0", 5)
    browser.wait(lambda: "forward 5 of 64" in page.text("#lane0 .od-badge"), "the fifth forward")
    assert page.count("#lane0 .od-canvas [class*=a]:not(.od-block)") == 5
    assert page.count("#lane0 .a0") == 1
    assert not page.errors()
    requested = page.requested()
    assert any("127.0.0.1" in each for each in requested)
    assert all("127.0.0.1" in each or each.startswith(("data:", "blob:")) for each in requested)


def test_two_settings_side_by_side(page: browser.Page) -> None:
    page.click("#compare input")
    browser.wait(lambda: page.all("#column1")[0].is_displayed(), "the second lane")
    page.choose("#other", "dual-cache")
    page.number("#gen_length", 64)
    page.ask(QUESTION)
    page.until("done", 0)
    page.until("done", 1)
    browser.wait(lambda: "faster" in page.text("#notice"), "the comparison")
    assert page.text("#lane0 h3") == "jump-share"
    assert page.text("#lane1 h3") == "dual-cache"
    page.click("#new")
    browser.wait(lambda: "Ask something" in page.text("#talk"), "an empty conversation")


def test_a_long_generation_can_be_stopped(page: browser.Page, served: tuple[Any, str]) -> None:
    page.choose("#setting", "llada_baseline")
    page.ask(QUESTION)
    page.until("running")
    browser.wait(lambda: page.count("#lane0 svg rect") > 2, "some forwards")
    page.click("#stop")
    page.until("stopped", seconds=5)
    assert 0 < page.count("#lane0 svg rect") < 256
    assert "stopped" in page.text("#talk")
    browser.wait(lambda: len(served[0].turns) == 0, "the line to be empty")
    page.click("#generate")  # nothing is asked, and it says so
    browser.wait(lambda: "prompt" in page.text("#notice"), "a notice")


def test_starting_over_ends_what_is_under_way(page: browser.Page, served: tuple[Any, str]) -> None:
    page.choose("#setting", "llada_baseline")
    page.ask(QUESTION)
    browser.wait(lambda: page.count("#lane0 svg rect") > 2, "some forwards")
    page.click("#new")
    page.until("ready")
    browser.wait(lambda: len(served[0].turns) == 0, "the line to be empty")
    time.sleep(0.3)  # for what might still come
    assert page.state() == "ready"
    assert "Tom" not in page.text("#talk")
    page.choose("#setting", "jump-share")
    page.ask(QUESTION)
    page.until("done")
    assert page.text("#talk").count("You") == 1


def test_numbers_that_make_no_sense_are_refused_in_a_sentence(page: browser.Page) -> None:
    page.number("#gen_length", 32_000_000_000)
    page.ask(QUESTION)
    browser.wait(lambda: "exceed the model's maximum" in page.text("#notice"), "the reason")
    page.number("#gen_length", 100)
    page.ask(QUESTION)
    browser.wait(lambda: "must be a multiple of block_length" in page.text("#notice"), "the reason")
    assert page.all("#prompt textarea")[0].get_attribute("value") == QUESTION
    page.number("#gen_length", 64)
    page.click("#generate")
    page.until("done")


def test_two_tabs_queue_and_a_closed_one_makes_way(page: browser.Page, served: tuple[Any, str]) -> None:
    made, address = served
    page.choose("#setting", "llada_baseline")
    page.number("#pause", 0.5)
    page.ask(QUESTION)
    page.until("running")
    first = page.tab
    with ExitStack() as cleanup:
        page.driver.switch_to.new_window("tab")
        second = browser.Page(page.driver, address)
        second.ask(QUESTION)
        second.until("waiting")
        assert "1 before you" in second.text("#lane0 .od-badge")
        assert len(made.turns) == 2
        cleanup.callback(page.driver.switch_to.window, second.tab)
        page.driver.switch_to.window(first)
        page.driver.close()
        page.driver.switch_to.window(second.tab)
        second.until("done", seconds=15)
    assert len(made.turns) == 0


def test_what_a_model_writes_is_text_in_the_browser(
    page: browser.Page, served: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from odb_dllm.demo import page as module

    def evil(model: Any, snapshot: Snapshot) -> list[Piece]:
        return [Piece("text", EVIL, (i, i + 1)) for i in range(2)]

    monkeypatch.setattr(module, "pieces", evil)
    monkeypatch.setattr(module, "answer_text", lambda *_: EVIL)
    page.driver.execute_script("window.alerted = false; window.alert = () => { window.alerted = true; }")
    page.ask(EVIL)
    page.until("done")
    browser.wait(lambda: EVIL in page.text("#talk"), "the text as it was written")
    assert page.driver.execute_script("return document.querySelector('#lane0 s').textContent") == DOTTED
    assert page.count("#lane0 img, #talk img") == 0
    assert not page.driver.execute_script("return window.alerted")


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_is_wider_than_the_page(page: browser.Page, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.click("#compare input")
    page.number("#gen_length", 1024)
    page.ask(QUESTION)
    page.until("done")
    wide = page.driver.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width
