"""How soon the next comparison is on the screen, and how heavy the page is: pairs and four completions, in Chromium.

    make bench-page            (python -m bench.page --help lists what can be changed)

The web server and the PostgreSQL that `make run` starts, with 10,000 stored rankings; one annotator, who thinks for a
second. A time goes from the last key of an answer (or the one key of a pair) to the second frame after the next
comparison was drawn, by the page's own clock: the first frame paints it, the second is what a person can have seen.
The page is loaded once with an empty cache: its first paint, and its bytes without compression, HTML, styles, scripts.
The last line is the median time of pairs, then of four, in milliseconds.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from bench.web_server import Site, site_in
from bench.web_world import fill, make_world

RANKINGS = 10_000
KEYS = {2: ["ArrowLeft"], 4: ["1", "2", "3", "4", "Enter"]}  # a whole answer
THOUGHT_MS = 1_000
WATCH = """
window.times = [];
let pressed = 0;
addEventListener("keydown", () => (pressed = performance.now()), { capture: true });
addEventListener("DOMContentLoaded", () => {
  let was = document.querySelector("#stage form");
  new MutationObserver(() => {
    const form = document.querySelector("#stage form");
    if (!form || form === was) return;
    was = form;
    requestAnimationFrame(() => requestAnimationFrame(() => window.times.push(performance.now() - pressed)));
  }).observe(document.getElementById("stage"), { childList: true });
});
"""


@dataclass
class Found:
    """Milliseconds and bytes."""

    first_paint: float = 0.0
    page: int = 0
    ahead: list[int] = field(default_factory=list)  # each comparison that was fetched ahead
    next: list[float] = field(default_factory=list)

    def line(self, k: int) -> str:
        ahead = sum(self.ahead) / max(1, len(self.ahead))
        return (
            f"K = {k}, keys {len(KEYS[k])}: next on screen {statistics.median(self.next):.0f} ms median"
            f" ({max(self.next):.0f} largest of {len(self.next)}) · first paint {self.first_paint:.0f} ms"
            f" · page {self.page / 1000:.1f} KB, each further comparison {ahead / 1000:.1f} KB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.page", description="The ranking page in Chromium.")
    parser.add_argument("--answers", type=int, default=12, help="of each kind of comparison")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the browser's program")
    asked = parser.parse_args()
    if asked.chromium is None:
        sys.exit("Chromium was not found: install it, or name it with --chromium.")
    with tempfile.TemporaryDirectory(prefix="whetstone-bench-") as folder, site_in(Path(folder)) as site:
        found = {k: measure(site, k, asked) for k in KEYS}
    for k, each in found.items():
        print(each.line(k))
    print("next-ms: " + " ".join(f"{statistics.median(each.next):.0f}" for each in found.values()))


def measure(site: Site, k: int, asked: argparse.Namespace) -> Found:
    """Of a pool of its own, which takes the place of what was there before."""
    from django.core.management import call_command

    call_command("flush", "--noinput", verbosity=0)
    world = make_world(annotators=1, k=k)
    fill(world, RANKINGS, open_comparisons=100)
    with site.served(), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=asked.chromium, args=["--no-sandbox"])
        context = browser.new_context(base_url=f"http://127.0.0.1:{site.port}", viewport={"width": 1280, "height": 800})
        context.add_cookies(
            [{"name": "sessionid", "value": world["sessions"][0], "url": f"http://127.0.0.1:{site.port}"}]
        )
        found = rank(context.new_page(), k, asked.answers)
        browser.close()
    return found


def rank(page: Page, k: int, answers: int) -> Found:
    found = Found()

    def count(response) -> None:
        size = len(response.body())
        if response.url.endswith("/rank/next/"):
            found.ahead.append(size)
        else:
            found.page += size

    page.add_init_script(WATCH)
    page.on("response", count)
    page.goto("/rank/")
    page.wait_for_selector("html[data-ready]")
    page.wait_for_load_state("networkidle")
    page.remove_listener("response", count)
    found.first_paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    for number in range(answers):
        page.wait_for_timeout(THOUGHT_MS)
        for key in KEYS[k]:
            page.keyboard.press(key)
        page.wait_for_function("n => window.times.length > n", arg=number)
    found.next = page.evaluate("window.times")
    return found


if __name__ == "__main__":
    main()
