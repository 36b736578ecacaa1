"""The report as Chromium shows and prints it; without one these tests are skipped."""

import base64
import itertools
import json
import os
import re
import select
import shutil
import subprocess
import time

import numpy as np
import pandas as pd
import pytest

from skmode import MoDEClassifier
from skmode.inspection import report

fcntl = pytest.importorskip("fcntl", reason="pipes are handed over as POSIX systems do")

NAMES = ("chromium", "chromium-browser", "google-chrome")
PHONE, DESKTOP = 375, 1280


def find():
    """Path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find() is None, reason=f"none of {', '.join(NAMES)} is installed"),
]

needs_pdftotext = pytest.mark.skipif(
    shutil.which("pdftotext") is None, reason="pdftotext is not installed"
)

# Contrast of each piece of text with what is behind it, and what it is.
CONTRASTS = """
(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => {
    const [r, g, b] = rgb(text).slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const color = getComputedStyle(each).backgroundColor;
      if (rgb(color)[3] !== 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest("script, style")) continue;
    const [one, two] = [light(getComputedStyle(node).color), light(ground(node))];
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    found.push([ratio, walker.currentNode.data.trim()]);
  }
  return found.sort((a, b) => a[0] - b[0]);
})()
"""

# Boxes that stand out of the page without lying in a part that scrolls by itself.
TOO_WIDE = """
[...document.body.querySelectorAll("*")]
  .filter((node) => !node.closest(".scroll table, .skip"))
  .filter((node) => node.getBoundingClientRect().right > innerWidth + 0.5)
  .map((node) => node.outerHTML.slice(0, 80))
"""

# How many tables have a heading, and whose does not stand in sight as a whole.
CUT_HEADINGS = """
(() => {
  const headings = [...document.querySelectorAll("table")]
    .map((table) => document.getElementById(table.getAttribute("aria-labelledby")));
  const cut = headings.filter((node) => {
    const box = node.getBoundingClientRect();
    return box.left < 0 || box.right > innerWidth || node.closest(".scroll")
      || node.scrollWidth > node.clientWidth;
  });
  return [headings.length, cut.map((node) => node.textContent)];
})()
"""


class Browser:
    """One page, driven through the two pipes of the DevTools protocol.

    What it complains about is gathered in `complaints`, what it asks for in `urls`.
    """

    def __init__(self, program, profile):
        commands, answers = os.pipe(), os.pipe()
        # Chromium reads from 3 and writes to 4: first out of the way with what might be there.
        inner = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (commands[0], answers[1])]
        arguments = [
            program,
            "--headless=new",
            "--remote-debugging-pipe",
            "--no-sandbox",  # root in a container has none
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
        ]
        silent = os.open(os.devnull, os.O_RDWR)
        actions = [(os.POSIX_SPAWN_DUP2, silent, n) for n in (0, 1, 2)]
        actions += [(os.POSIX_SPAWN_DUP2, end, n) for end, n in zip(inner, (3, 4), strict=True)]
        self.process = os.posix_spawn(program, arguments, os.environ, file_actions=actions)
        for end in (*inner, commands[0], answers[1], silent):
            os.close(end)
        self.input, self.output = commands[1], answers[0]
        self.buffer, self.numbers, self.session = b"", itertools.count(1), None
        self.complaints, self.urls, self.loaded = [], [], False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.session = None
        self.call("Browser.close")
        os.close(self.input)
        os.close(self.output)
        os.waitpid(self.process, 0)

    def call(self, method, **parameters):
        """Call a method of the protocol and wait for its result."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.input, data) :]
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self):
        deadline = time.monotonic() + 60
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.output], [], [], deadline - time.monotonic())
            assert ready, "Chromium does not answer"
            part = os.read(self.output, 1 << 20)
            assert part, "Chromium has ended"
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        message = json.loads(message)
        self._notice(message.get("method"), message.get("params"))
        return message

    def _notice(self, method, parameters):
        if method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append([part.get("value") for part in parameters["args"]])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(parameters["exceptionDetails"]["text"])
        elif method == "Log.entryAdded":
            self.complaints.append(parameters["entry"]["text"])
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(parameters["message"])
        elif method == "Network.requestWillBeSent":
            self.urls.append(parameters["request"]["url"])

    def open(self, path, width, height=800):
        """Show a file as a screen of this width does."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.loaded = False
        self.call("Page.navigate", url=path.absolute().as_uri())
        while not self.loaded:
            self._read()

    def run(self, expression):
        """Value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key, code):
        """Press a key."""
        text = {"Enter": "\r"}.get(key, "")
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code, "text": text}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def click(self, selector):
        """Click in the middle of an element, as a mouse does."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'});"
            " const box = e.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self):
        """The whole page as PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(found["data"])

    def pdf(self):
        """The page as printed."""
        found = self.call("Page.printToPDF", preferCSSPageSize=True)
        return base64.b64decode(found["data"])


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(find(), tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A report with wide tables, hostile names and an expert without rows."""
    rng = np.random.default_rng(0)
    names = ["<script>console.error('ran')</script>", "<img src=x onerror=console.error('ran')>"]
    names += ["a" * 90, "words " * 30, *(f"x{i}" for i in range(3))]
    X = pd.DataFrame(rng.normal(size=(300, len(names))), columns=names)
    X.iloc[::5, 4] = np.nan
    y = np.array(["</table>", "<i>", "\u202e"])[np.arange(300) % 3]
    classifier = MoDEClassifier(
        n_experts=8, hidden_layer_sizes=(8,), max_epochs=4, random_state=0, balance=0.0
    ).fit(X, y)
    unused = int(np.flatnonzero(classifier.expert_usage_ == classifier.expert_usage_.min())[0])
    rows = classifier.route(X) != unused
    path = tmp_path_factory.mktemp("report") / "report.html"
    return report(classifier, X[rows], y[rows], path, n_repeats=1)


def column(browser, table, place):
    """Texts of a column as they stand."""
    return browser.run(
        f"[...document.querySelectorAll('#{table}-table tbody tr')]"
        f".map((row) => row.cells[{place}].textContent)"
    )


def order(browser, table, place):
    return browser.run(
        f"document.querySelectorAll('#{table}-table thead th')[{place}].getAttribute('aria-sort')"
    )


def button(table, place):
    return f"#{table}-table thead th:nth-child({place + 1}) button"


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_renders_without_errors(width, browser, path):
    browser.complaints.clear()
    browser.urls.clear()
    browser.open(path, width)
    assert browser.complaints == []
    assert browser.urls[0] == path.as_uri()
    assert {url.partition(",")[0] for url in browser.urls[1:]} == {"data:image/svg+xml;base64"}
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.run(TOO_WIDE) == []
    assert browser.run(CUT_HEADINGS) == [13, []]
    assert browser.run("[...document.images].every((one) => one.naturalWidth > 300)")
    assert browser.run("[...document.images].every((one) => one.width <= innerWidth)")
    assert browser.run("document.scripts.length") == 1
    assert browser.screenshot().startswith(b"\x89PNG")


def test_text_has_enough_contrast(browser, path):
    browser.open(path, DESKTOP)
    found = browser.run(CONTRASTS)
    assert len(found) > 300
    assert found[0][0] >= 4.5, found[0]
    body = browser.run("[getComputedStyle(document.body).color, "
                       "getComputedStyle(document.body).backgroundColor]")  # fmt: skip
    assert body == ["rgb(26, 26, 26)", "rgb(255, 255, 255)"]


def test_a_click_sorts_by_number(browser, path):
    browser.open(path, DESKTOP)
    before = column(browser, "experts", 0)
    browser.click(button("experts", 1))
    rows = [int(text.replace(",", "")) for text in column(browser, "experts", 1)]
    assert rows == sorted(rows)
    assert order(browser, "experts", 1) == "ascending"
    browser.click(button("experts", 1))
    assert [int(text) for text in column(browser, "experts", 1)] == sorted(rows, reverse=True)
    assert order(browser, "experts", 1) == "descending"
    browser.click(button("experts", 0))
    assert column(browser, "experts", 0) == before
    assert order(browser, "experts", 1) is None
    assert browser.complaints == []


def test_missing_values_sort_last(browser, path):
    browser.open(path, DESKTOP)
    assert "\u2013" in column(browser, "experts", 3)
    for _ in range(2):
        browser.click(button("experts", 3))
        missing = [text == "\u2013" for text in column(browser, "experts", 3)]
        assert missing == sorted(missing)


def test_the_keyboard_sorts_too(browser, path):
    browser.open(path, DESKTOP)
    browser.run(f"document.querySelector({button('attention', 0)!r}).focus()")
    browser.press("Enter", 13)
    names = column(browser, "attention", 0)
    assert order(browser, "attention", 0) == "ascending"
    assert names.index("x0") < names.index("x1") < names.index("x2")
    browser.press("Tab", 9)
    browser.press("Enter", 13)
    assert order(browser, "attention", 1) == "ascending"
    focused = "getComputedStyle(document.activeElement).outlineStyle"
    assert browser.run(focused) == "solid"


def test_rows_stay_whole_when_they_are_sorted(browser, path):
    browser.open(path, DESKTOP)
    rows = (
        "Array.from(document.querySelectorAll('#matrix-table tbody tr'),"
        " (row) => row.innerText).sort()"
    )
    before = browser.run(rows)
    browser.click(button("matrix", 2))
    assert browser.run(rows) == before


def test_wide_tables_scroll_but_the_page_does_not(browser, path):
    browser.open(path, PHONE)
    scrolls = browser.run(
        "(() => { const part = document.querySelector('#attention-table').parentElement;"
        " part.scrollLeft = 999;"
        " return [part.scrollWidth > part.clientWidth, part.scrollLeft > 0, scrollX]; })()"
    )
    assert scrolls == [True, True, 0]
    left = "document.querySelector('#attention-table tbody th').getBoundingClientRect().left"
    assert 0 <= browser.run(left) < 30  # the names stay in sight


@needs_pdftotext
def test_headings_of_columns_are_printed_on_every_page(browser, path, tmp_path):
    browser.open(path, DESKTOP)
    browser.run(
        "(() => { const body = document.querySelector('#attention-table').tBodies[0];"
        " const rows = [...body.rows];"
        " for (let i = 0; i < 15; i++) body.append(...rows.map((row) => row.cloneNode(true))); })()"
    )
    file = tmp_path / "report.pdf"
    file.write_bytes(browser.pdf())
    text = subprocess.check_output(["pdftotext", "-layout", file, "-"], text=True)
    pages = [page for page in text.split("\f") if re.search(r"^ *x[012] .*", page, re.MULTILINE)]
    assert len(pages) >= 2
    assert all(re.search(r"^ *feature .* gate$", page, re.MULTILINE) for page in pages)


@needs_pdftotext
def test_the_whole_page_is_printed(browser, path, tmp_path):
    browser.open(path, DESKTOP)
    file = tmp_path / "report.pdf"
    file.write_bytes(browser.pdf())
    text = subprocess.check_output(["pdftotext", "-layout", file, "-"], text=True)
    pages = text.split("\f")[:-1]
    assert 4 <= len(pages) <= 14
    assert all(page.strip() for page in pages)
    for words in ("Findings", "May I serve the top expert alone?", "Parameters of the mixture"):
        assert words in text
    assert "Skip to the findings" not in text
    # The last columns of the widest tables are on the paper.
    heading = re.search(r"^ *feature .*", text, flags=re.MULTILINE).group()
    assert heading.split()[-1] == "gate"
