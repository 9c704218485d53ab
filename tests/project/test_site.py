"""The site that `make docs` builds, in a browser without a network."""

import html.parser
import re
import subprocess
import sys
import urllib.parse

import browsers
import pytest
from pages import DOCS
from places import ROOT

import tfdp
from tfdp.cli import main

PUBLIC = [
    f"{module.__name__}.{name}"
    for module in (tfdp, tfdp.callbacks, tfdp.testing)
    for name in module.__all__
    if not hasattr(getattr(module, name), "__path__")
]
# A page of prose, of examples, of tables, and of the API.
LOOKED_AT = [
    *("index.html", "how_to/input.html", "ideas/exactness.html"),
    *("reference/optimizer.html", "start/port.html"),
]


# Tables and code have a bar of their own to scroll by.
OVERFLOWING = """() => [...document.querySelectorAll("article *")]
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
  .filter((e) => {
    for (let at = e.parentElement; at.tagName !== "ARTICLE";) {
      if (/auto|scroll/.test(getComputedStyle(at).overflowX)) return false;
      at = at.parentElement;
    }
    return true;
  })
  .map((e) => e.outerHTML.slice(0, 80))"""


class Page(html.parser.HTMLParser):
    """What can be linked to in a page, and what it links to."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.targets, self.text = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids.add(found.get("id"))
        for name in ("href", "src"):
            if found.get(name):
                self.targets.append(found[name])

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the site, and what building it has said."""
    folder = tmp_path_factory.mktemp("site")
    options = ["-q", "-W", "--keep-going", "-w", folder / "warnings"]
    options += ["-d", folder / "doctrees"]
    result = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, DOCS, folder / "html"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    return folder / "html", result, (folder / "warnings").read_text()


@pytest.fixture(scope="module")
def pages(built):
    folder, *_ = built
    return {
        path.relative_to(folder).as_posix(): Page(path.read_text())
        for path in folder.rglob("*.html")
    }


@pytest.fixture(scope="module")
def opened(built):
    """A page of the browser, what it asked for, and its complaints."""
    folder = built[0].as_uri()
    with browsers.browser() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        yield page, *browsers.watch(page, lambda a: a.startswith(folder))


def test_it_builds_without_a_warning(built):
    _, result, warnings = built
    assert (result.returncode, warnings) == (0, ""), result.stderr


def test_every_page_is_there(pages):
    sources = {
        path.relative_to(DOCS).with_suffix(".html").as_posix()
        for path in DOCS.rglob("*.md")
        if "_build" not in path.parts
    }
    assert sources <= pages.keys()
    assert len(sources) > 40


def test_links_lead_somewhere(built, pages):
    folder, *_ = built
    for name, page in pages.items():
        for target in page.targets:
            parts = urllib.parse.urlsplit(target)
            if parts.scheme or not (parts.path or parts.fragment):
                continue
            path = (folder / name).parent / urllib.parse.unquote(parts.path)
            path = path.resolve() if parts.path else folder / name
            assert path.is_file(), f"{name}: {target}"
            if parts.fragment and path.suffix == ".html":
                to = pages[path.relative_to(folder.resolve()).as_posix()]
                assert urllib.parse.unquote(parts.fragment) in to.ids, target


def test_no_markup_is_left_in_what_is_read(pages):
    markup = re.compile(r"\.\. [\w-]+::|:[a-z]+:`|```|^:::", re.MULTILINE)
    left = {name: markup.findall(page.text) for name, page in pages.items()}
    assert {name: found for name, found in left.items() if found} == {}


def test_every_public_name_is_described(pages):
    described = set().union(*(page.ids for page in pages.values()))
    assert len(PUBLIC) > 40
    assert set(PUBLIC) <= described
    commands = {f"command-{name}" for name in main.commands}
    assert commands <= pages["reference/commands.html"].ids


def test_names_in_the_text_lead_to_their_description(pages):
    assert {
        "../reference/optimizer.html#tfdp.DistributedOptimizer",
        "../reference/callbacks.html#tfdp.callbacks.DataParallel",
    } <= set(pages["start/port.html"].targets)
    names = pages["reference/index.html"].targets
    assert "commands.html#command-launch" in names


@pytest.fixture(scope="module")
def overflowing(built, pages, opened):
    """What of each page is beyond a window of 400 pixels."""
    page, *_ = opened
    found = {}
    page.set_viewport_size({"width": 400, "height": 900})
    for name in pages:
        page.goto((built[0] / name).as_uri())
        found[name] = page.evaluate(OVERFLOWING)
    page.set_viewport_size({"width": 1200, "height": 900})
    return found


def test_pages_ask_nobody_and_complain_of_nothing(opened, overflowing):
    _, asked, complaints = opened
    assert len(overflowing) > 40
    assert asked == []
    assert complaints == []


def test_a_phone_is_wide_enough(overflowing):
    assert {n: found for n, found in overflowing.items() if found} == {}


@pytest.mark.parametrize("name", LOOKED_AT)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(built, opened, name, scheme):
    page, *_ = opened
    page.emulate_media(color_scheme=scheme)
    page.goto((built[0] / name).as_uri())
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (browsers.luminance(ground) < 0.5) == (scheme == "dark")
    assert len(page.evaluate(browsers.COLORS)) > 50
    assert browsers.too_faint(page) == []


def test_the_search_finds_a_page(built, opened):
    page, asked, complaints = opened
    page.goto((built[0] / "search.html").as_uri() + "?q=LocalSGD")
    page.locator("ul.search li a").first.wait_for()
    found = page.locator("ul.search li a").all_inner_texts()
    assert any("LocalSGD" in text for text in found)
    assert (asked, complaints) == ([], [])
