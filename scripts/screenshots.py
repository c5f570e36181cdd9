#!/usr/bin/env python3
"""Makes docs/images/demo-*.png from the real page: the embedded model, answering in a headless Chromium.

Needs the extras ``demo`` and ``test``, and Debian's chromium and chromium-driver.
Usage: scripts/screenshots.py [folder]
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import browser  # noqa: E402

from odb_dllm import demo  # noqa: E402

QUESTION = "Anna has 24 marbles. She gives 7 of them to Ben and loses 5. How many marbles does Anna have left?"
MOST_BYTES = 200_000
SHOTS = {  # name: width, height, dark, compares, step shown
    "demo-light": (1400, 900, False, True, None),
    "demo-dark": (1400, 900, True, True, None),
    "demo-steps-light": (1400, 900, False, False, 12),
    "demo-steps-dark": (1400, 900, True, False, 12),
    "demo-narrow-light": (400, 1180, False, False, None),
    "demo-narrow-dark": (400, 1180, True, False, None),
}


def main() -> int:
    why = browser.lacking()
    if why:
        print(f"error: No pictures: {why}.", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    parser = demo.add_verb(argparse.ArgumentParser().add_subparsers())
    made = demo.build(parser.parse_args(["--device", "cpu"]))
    address = demo.launch(made, "127.0.0.1", None, False, block=False)
    try:
        for name, (width, height, dark, compares, step) in SHOTS.items():
            with browser.browser(width, height, dark=dark) as driver:
                picture = shoot(browser.Page(driver, address), compares, step)
            (folder / f"{name}.png").write_bytes(picture)
            print(f"{folder / name}.png: {len(picture) / 1000:.0f} kB")
            if len(picture) > MOST_BYTES:
                print(f"error: {name}.png is larger than {MOST_BYTES / 1000:.0f} kB.", file=sys.stderr)
                return 1
    finally:
        made.page.close()
    return 0


def shoot(page: browser.Page, compares: bool, step: int | None) -> bytes:
    """Ask, wait for the answer, and return the picture as PNG."""
    if compares:
        page.click("#compare input")
        browser.wait(lambda: page.all("#column1")[0].is_displayed(), "the second lane")
    if step is not None:
        page.choose("#setting", "llada_baseline")
        page.number("#gen_length", 64)
    page.ask(QUESTION)
    for lane in range(1 + compares):
        page.until("done", lane, seconds=60)
    if step is not None:
        page.number("#slider0", step)
        browser.wait(lambda: f"forward {step} of" in page.text("#lane0 .od-badge"), "the step")
    page.driver.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    time.sleep(0.5)  # for transitions to end
    return bytes(page.driver.get_screenshot_as_png())


if __name__ == "__main__":
    sys.exit(main())
