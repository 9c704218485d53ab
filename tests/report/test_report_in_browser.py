"""The page of a report, in a browser without a network."""

import re

import browsers
import pytest
import run_logs
from browsers import COLORS, contrast, luminance, too_faint

from tfdp.report.comparison import read
from tfdp.report.page import write_report

HOSTILE = '<img src="http://nowhere.invalid/x" onerror="window.broken = 1">"\''

OVERFLOWING = """() => [...document.querySelectorAll("body *")]
  .filter((e) => !e.closest(".table") && !e.ownerSVGElement)
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def browser():
    with browsers.browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    folders = [
        run_logs.write(
            folder / f"run_{replicas}",
            run_logs.trained(
                workers, replicas, seed=replicas, max_staleness=bound
            ),
        )
        for workers, replicas, bound in [(1, 1, None), (2, 4, 4)]
    ]
    names = [f"one {HOSTILE}", "four"]
    path, *images = write_report(read(folders, names), folder / "report")
    return path.as_uri(), len(images)


@pytest.fixture(scope="module")
def opened(browser, report):
    """A page of its own width, what it asked for, and what it complained of."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    url, _ = report
    asked, complaints = browsers.watch(page, lambda address: address == url)
    page.goto(url)
    page.wait_for_selector("html[data-drawn]", timeout=30_000)
    return page, asked, complaints


@pytest.fixture
def page(opened):
    page, _, _ = opened
    yield page
    page.emulate_media(media="screen", color_scheme="light")
    resize(page, 1200)


def resize(page, width):
    if width != page.viewport_size["width"]:
        page.evaluate("delete document.documentElement.dataset.drawn")
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_selector("html[data-drawn]")


def ground(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_contrast_is_that_of_the_standard():
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(119, 119, 119)", "rgb(255, 255, 255)") < 4.5


def test_every_chart_is_drawn(page, report):
    _, count = report
    marks = page.evaluate(
        """() => [...document.querySelectorAll(".chart")].map((chart) =>
          [...chart.querySelectorAll(
            ".mark-line path, .mark-rect path, .mark-symbol path")]
          .filter((path) => {
            const box = path.getBBox();
            return box.width * box.height > 0;
          }).length)"""
    )
    assert len(marks) == count
    assert min(marks) > 0


def test_charts_say_what_they_show_to_those_who_do_not_see_them(page):
    labels = page.evaluate(
        """() => [...document.querySelectorAll(".chart svg")].map((svg) =>
          (svg.closest("[aria-label]") ?? svg.querySelector("[aria-label]"))
          ?.getAttribute("aria-label"))"""
    )
    assert labels
    assert any(label.startswith("Throughput over updates") for label in labels)
    assert page.locator("figure table").count() == len(labels)


def test_nothing_is_asked_of_the_network_and_nothing_fails(opened):
    page, asked, complaints = opened
    assert asked == []
    assert complaints == []
    assert page.evaluate("window.broken") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
def test_text_can_be_read(page, scheme, width):
    resize(page, width)
    page.emulate_media(color_scheme=scheme)
    is_dark = luminance(ground(page)) < 0.5
    assert is_dark == (scheme == "dark")
    assert len(page.evaluate(COLORS)) > 100
    assert too_faint(page) == []


@pytest.mark.parametrize("width", [400, 760, 1200])
def test_legends_are_whole_at_any_width(page, width):
    resize(page, width)
    cut = page.evaluate(
        """() => [...document.querySelectorAll(".chart svg")].filter((svg) => {
          const frame = svg.getBoundingClientRect();
          return [...svg.querySelectorAll("text")].some((text) => {
            const box = text.getBoundingClientRect();
            return box.top < frame.top - 1 || box.right > frame.right + 1
              || box.bottom > frame.bottom + 1 || box.left < frame.left - 1;
          });
        }).map((svg) => svg.textContent.slice(0, 80))"""
    )
    assert cut == []


def test_a_phone_is_wide_enough(page):
    resize(page, 400)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.evaluate(OVERFLOWING) == []


def test_the_button_changes_the_colours(page):
    button = page.get_by_role("button", name="Colours")
    seen = []
    for _ in range(3):
        button.click()
        seen.append((button.inner_text(), luminance(ground(page)) < 0.5))
    assert seen == [
        ("Colours: light", False),
        ("Colours: dark", True),
        ("Colours: auto", False),
    ]


def test_the_pointer_shows_the_numbers_of_all_runs(page):
    chart = page.locator("figure", has_text="Samples of all workers")
    chart.scroll_into_view_if_needed()
    box = chart.locator("svg").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.move(middle[0] + 3, middle[1])
    tooltip = page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    names = [name.inner_text() for name in tooltip.locator("th").all()]
    assert names == ["update", f"one {HOSTILE}: total", "four: total"]
    numbers = [x.inner_text() for x in tooltip.locator("td").all()]
    assert all(re.fullmatch(r"[\d,]+", number) for number in numbers)


def test_print_is_on_white(page):
    page.emulate_media(media="print", color_scheme="dark")
    assert luminance(ground(page)) > 0.9
    assert too_faint(page) == []
