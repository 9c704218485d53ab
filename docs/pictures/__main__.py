"""Takes the pictures that the documentation shows.

python docs/pictures report runs/one_gpu runs/four_gpus  # of `tfdp report`
make docs && python docs/pictures site                   # of the site itself
"""

import contextlib
import io
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import click
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tfdp.report.comparison import read
from tfdp.report.page import write_report

PICTURES = pathlib.Path(__file__).parent
SITE = PICTURES.parent / "_build" / "html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
OPTIONS += ["--disable-background-networking", "--disable-component-update"]
OPTIONS += ["--disable-sync"]
SCHEMES = ("light", "dark")
# Pages of the site, and the height of their pictures.
SHOWN = {"index": 900, "reference/optimizer": 900, "how_to/input": 900}
WIDTHS = {"wide": 1280, "phone": 400}
TOP = 760


@click.group()
def main():
    """Takes the pictures that the documentation shows."""


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--name", "names", multiple=True, help="What to call a run.")
def report(runs, names):
    """Writes the page of some runs, whole and its top, light and dark."""
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        path, *_ = write_report(read(runs, names), folder)
        for scheme in SCHEMES:
            page = opened(chromium, path, scheme, 1180)
            page.wait_for_selector("html[data-drawn]")
            for name, height in (("report", None), ("report_top", TOP)):
                save(page, f"{name}_{scheme}", height)


@main.command()
def site():
    """Writes pages of the site, light, dark, and as on a phone."""
    with browser() as chromium:
        for name, height in SHOWN.items():
            for form, width in WIDTHS.items():
                for scheme in SCHEMES:
                    path = SITE / f"{name}.html"
                    page = opened(chromium, path, scheme, width)
                    place = name.replace("/", "_")
                    save(page, f"site_{place}_{form}_{scheme}", height)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a network of its own accord."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise click.ClickException(f"install one of {', '.join(BROWSERS)}")
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=path, args=OPTIONS)
        yield chromium
        chromium.close()


def opened(
    chromium: Browser, path: pathlib.Path, scheme: str, width: int
) -> Page:
    """A page, in a window of a width, in one of the colours."""
    page = chromium.new_page(
        viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    page.goto(path.resolve().as_uri())
    return page


def save(page: Page, name: str, height: int | None) -> None:
    """Writes a picture of the page, all of it or its top."""
    if height:
        page.set_viewport_size({**page.viewport_size, "height": height})
    png = page.screenshot(full_page=height is None)
    path = PICTURES / f"{name}.webp"
    Image.open(io.BytesIO(png)).save(path, quality=60, method=6)
    click.echo(f"{path} {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
