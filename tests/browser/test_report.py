"""The report in a real browser: Chromium, offline, on a desk, on a phone and in print."""

import io
import shutil
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.command import installed

SETTINGS = [
    "task=text", "data.length=32", "data.validation_bytes=500", "data.test_bytes=1000", "backbone.dim=16",
    "train.tokens=4096", "mixers=[gtu,softmax,convolution]", "seeds=3", "match=parameters",
]  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    (folder / "words.txt").write_text("".join(f"line {n}: the square is {n * n}\n" for n in range(3000)))
    result = installed("compare", *SETTINGS, "data.path=words.txt", "out=here", folder=folder)
    assert result.returncode == 0, result.stderr
    return folder / "here" / "report.html"


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "make test-browser needs Chromium; on Debian: apt-get install chromium"
    with sync_playwright() as play:
        yield play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])


def open_offline(browser, report: Path, width: int) -> Page:
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    page = context.new_page()
    page.requests = []
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(report.as_uri())
    return page


@pytest.mark.parametrize("width", [1280, 768, 390, 320])
def test_it_fits_every_screen_and_asks_for_nothing(browser, report: Path, width: int):
    page = open_offline(browser, report, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.requests == [report.as_uri()]
    boxes = page.eval_on_selector_all("figure svg", "all => all.map(one => one.getBoundingClientRect().toJSON())")
    assert len(boxes) == 8
    for box in boxes:
        assert box["width"] >= 250
        assert box["left"] >= 0
        assert box["right"] <= width


def test_it_says_the_verdict_first_and_shows_every_number(browser, report: Path):
    page = open_offline(browser, report, 1280)
    verdict = page.locator("section.verdict").first
    sentences = verdict.locator("p").all_inner_texts()
    assert len(sentences) >= 2
    assert all(sentence.startswith("After 4,096 tokens: ") for sentence in sentences)
    assert verdict.bounding_box()["y"] < 300
    header = page.locator("table").first.locator("th").all_inner_texts()
    assert header[:4] == ["mixer", "bits per byte", "seeds", "parameters"]
    assert page.locator("table").first.locator("tbody tr").count() == 3
    titles = page.locator("figure h3").all_inner_texts()
    assert titles == [
        "Bits per byte of every seed",
        "Learning over tokens",
        "Learning over seconds",
        "Bits per byte against length",
        "Speed",
        "Coefficients by lag",
        "Toeplitz matrices",
        "Which inputs each output depends on",
    ]


def test_every_picture_is_drawn_in_several_colours(browser, report: Path):
    page = open_offline(browser, report, 1280)
    for figure in page.locator("figure svg").all():
        image = Image.open(io.BytesIO(figure.screenshot())).convert("RGB")
        colours = image.getcolors(maxcolors=2**20)
        assert colours
        assert max(count for count, _ in colours) < 0.97 * image.width * image.height
        vivid = [colour for _, colour in colours if max(colour) - min(colour) > 60]
        assert len(vivid) >= 3


def test_it_prints(browser, report: Path):
    page = open_offline(browser, report, 1280)
    page.emulate_media(media="print")
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 20_000
    assert page.evaluate("document.fonts.status") == "loaded"
