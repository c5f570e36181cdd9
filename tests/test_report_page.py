"""The page of a report as a browser shows it; skipped where there is no Chromium with its driver."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import browser
import pytest
from test_figures import contrast, unsure_runs

from odb_dllm import DiffusionModel
from odb_dllm.report import figures
from odb_dllm.report.html import Section, Table, page

EVIL = "<script>document.title = 'taken'</script> & \"quotes\" <b>"
HEADS = ["task", "setting", "n", *(f"a figure of number {i}" for i in range(14))]
ROWS = [[task, name, "1319", *["79.8% – 81.9%"] * 14] for task in ("gsm8k", "mbpp") for name in ("alp", "jump-share")]
SECTIONS = [
    Section("Results", ["A paragraph.", EVIL], [Table([HEADS, *ROWS], "On an H200", grouped=True)]),
    Section(EVIL, tables=[Table([["what", "A", "B"], ["version", "0.3.0", EVIL], ["seconds", "1.5", "~2"]])]),
]


# Without a browser -----------------------------------------------------------------------------------------


def test_whatever_is_given_is_text() -> None:
    made = page(EVIL, SECTIONS)
    assert "<script" not in made
    assert "<b>" not in made
    assert made.count("&lt;script&gt;") == 6  # title and heading, paragraph, contents, heading, cell


def test_a_page_names_no_other_file() -> None:
    made = page("Report", SECTIONS)
    assert set(re.findall(r'(?:href|src)="([^#][^"]*)"', made)) == set()
    assert "url(" not in made
    assert "@import" not in made
    assert "default-src 'none'" in made


def test_figures_stand_to_the_right_and_words_to_the_left() -> None:
    numbers = ["1", "-0.5", "+1.2%", "~12.3", "–", "1.00x / –", "77.5% – 81.9%", "1e-05", "±0.1", ""]
    words = ["alp", "1 of 2", "2026-11-22T11:18:12", "0.3.0-dirty", "cpu"]
    tables = [Table([["of", "is"], ["x", cell]]) for cell in (*numbers, *words)]
    made = page("t", [Section("s", tables=tables)])
    cells = re.findall(r"<td( class=\"number\")?>([^<]*)</td>", made)
    assert [text for number, text in cells if number] == numbers
    assert [text for number, text in cells if not number] == words


def test_a_grouped_table_has_its_groups_as_headings() -> None:
    made = page(
        "t", [Section("s", tables=[Table([["task", "setting", "n"], *[row[:3] for row in ROWS]], grouped=True)])]
    )
    assert re.findall(r'<th scope="col"[^>]*>(\w+)', made) == ["setting", "n"]
    assert re.findall(r'scope="rowgroup" colspan="2"><span>(\w+)', made) == ["gsm8k", "mbpp"]
    assert re.findall(r'<th scope="row">([\w-]+)', made) == ["alp", "jump-share"] * 2


# In a browser ----------------------------------------------------------------------------------------------


@dataclass
class Shown:
    """A page in a browser, at some width, in light or dark."""

    driver: Any
    address: str
    titles: list[str]  # of its figures

    def at(self, width: int, *, dark: bool = False) -> "Shown":
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(self.address)
        return self

    def ask(self, script: str, *given: Any) -> Any:
        return self.driver.execute_script(script, *given)


@pytest.fixture(scope="module")
def shown(model_of: Callable[..., DiffusionModel], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    if why := browser.lacking():
        pytest.skip(why)
    out: Path = tmp_path_factory.mktemp("report")
    runs = [run for task in ("gsm8k_mini", "bbh_mini") for run in unsure_runs(model_of, task)]
    drawn = figures.draw(runs, out / "figures")
    (out / "report.html").write_text(page("A report", SECTIONS, drawn), encoding="utf-8")
    for file in (out / "figures").iterdir():  # the page needs none of them
        file.unlink()
    with browser.browser() as driver:
        yield Shown(driver, (out / "report.html").as_uri(), [each.title for each in drawn])


def test_the_page_asks_for_nothing_else(shown: Shown) -> None:
    shown.driver.get_log("performance")
    shown.at(1400)
    assert shown.ask("return performance.getEntriesByType('resource').length") == 0
    events = [json.loads(each["message"])["message"] for each in shown.driver.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert asked == [shown.address]
    assert shown.driver.title == "A report"
    assert [each["message"] for each in shown.driver.get_log("browser")] == []


def test_the_policy_keeps_what_is_slipped_in_from_asking(shown: Shown) -> None:
    shown.at(1400)
    shown.ask(
        "document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/a.png'}),"
        " Object.assign(document.createElement('script'), {textContent: 'document.title = 1'}))"
    )
    said: list[str] = []
    browser.wait(
        lambda: said.extend(e["message"] for e in shown.driver.get_log("browser")) or len(said) > 1, "refusals"
    )
    assert all("Content Security Policy" in message for message in said)
    assert shown.driver.title == "A report"


@pytest.mark.parametrize("width", [400, 1400])
def test_all_is_there_and_fits(shown: Shown, width: int) -> None:
    shown.at(width)
    assert shown.ask("return document.documentElement.scrollWidth") == width
    assert shown.ask("return [...document.querySelectorAll('figure h3')].map(e => e.innerText)") == shown.titles
    boxes = shown.ask(
        "return [...document.querySelectorAll('.panels svg')].map(e => e.getBoundingClientRect().toJSON())"
    )
    assert len(boxes) == 2 * len(shown.titles) == 16
    for box in boxes:
        assert box["width"] > 250
        assert box["height"] > 120
        assert box["left"] >= 0
        assert box["right"] <= width
    wide = shown.ask("const box = document.querySelector('.scroll'); return box.scrollWidth > box.clientWidth")
    assert wide  # scrolls in its own box


@pytest.mark.parametrize("width", [400, 1400])
def test_no_label_is_cut_or_covers_another(shown: Shown, width: int) -> None:
    shown.at(width)
    drawings = shown.ask(
        """return [...document.querySelectorAll('.panels svg')].map(svg => ({
            label: svg.getAttribute('aria-label'), box: svg.getBoundingClientRect().toJSON(),
            texts: [...svg.querySelectorAll('text')].map(e => [e.textContent, e.getBoundingClientRect().toJSON()])}))"""
    )
    for drawing in drawings:
        texts = drawing["texts"]
        assert len(texts) > 3
        for text, box in texts:
            assert box["height"] > 9, (drawing["label"], text)
            assert inside(box, drawing["box"]), (drawing["label"], text)
        for i, (text, box) in enumerate(texts):
            for other, more in texts[:i]:
                assert not overlap(box, more), (drawing["label"], text, other)


def inside(box: dict[str, float], outer: dict[str, float], slack: float = 2.0) -> bool:
    return all(
        (
            box["left"] >= outer["left"] - slack,
            box["right"] <= outer["right"] + slack,
            box["top"] >= outer["top"] - slack,
            box["bottom"] <= outer["bottom"] + slack,
        )
    )


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether two boxes of text share more than the leading that each has above and below."""
    across = min(one["right"], other["right"]) - max(one["left"], other["left"])
    down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
    return across > 1 and down > 0.3 * min(one["height"], other["height"])


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_contrast(shown: Shown, dark: bool) -> None:
    shown.at(1400, dark=dark)
    pairs = shown.ask(
        """const hex = c => '#' + c.match(/\\d+/g).slice(0, 3).map(v => (+v).toString(16).padStart(2, '0')).join('');
        const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
            if (!c.endsWith(', 0)')) return hex(c); } };
        return ['h1', 'h2', 'h3', 'p', 'nav a', 'caption', 'thead th', 'tbody th', 'td', '.group', '.legend li',
            'figcaption', 'summary', 'footer', '.panels text'].map(s => {
            const e = document.querySelector(s), style = getComputedStyle(e);
            return [s, hex(s.endsWith('text') ? style.fill : style.color), behind(e)]; })"""
    )
    for selector, colour, paper in pairs:
        assert contrast(colour, paper) >= 4.5, (selector, colour, paper)
    assert (contrast(pairs[0][2], "#000000") < 2) == dark
    assert len({colour for selector, colour, _ in pairs if selector in ("p", ".panels text")}) == 1


def test_a_wide_table_keeps_its_row_heads_in_view(shown: Shown) -> None:
    shown.at(400)
    script = """const box = document.querySelector('.scroll'); box.scrollLeft = arguments[0];
        const place = s => box.querySelector(s).getBoundingClientRect().left - box.getBoundingClientRect().left;
        return [place('tbody th[scope=row]'), place('thead th'), place('.group span'), place('tbody td')]"""
    before, after = shown.ask(script, 0), shown.ask(script, 300)
    assert after[:3] == pytest.approx(before[:3], abs=1.5)
    assert after[3] == pytest.approx(before[3] - 300, abs=1.5)


def test_every_link_leads_somewhere_and_no_id_is_there_twice(shown: Shown) -> None:
    shown.at(1400)
    ids: Sequence[str] = shown.ask("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    links = shown.ask("return [...document.querySelectorAll('nav a')].map(e => e.getAttribute('href').slice(1))")
    assert len(set(ids)) == len(ids)
    assert set(links) <= set(ids)
    assert len(links) == len(SECTIONS) + 1 + len(shown.titles)


def test_the_numbers_of_a_figure_unfold(shown: Shown) -> None:
    shown.at(400)
    summary = shown.driver.find_elements("css selector", "figure summary")[1]
    shown.ask("arguments[0].scrollIntoView({block: 'center'})", summary)
    summary.click()
    table = shown.driver.find_elements("css selector", "figure table")[1]
    assert table.is_displayed()
    assert "fast_dllm_baseline" in table.text
    assert shown.ask("return document.documentElement.scrollWidth") == 400
