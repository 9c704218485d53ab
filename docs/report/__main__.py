"""Takes the pictures of `tfdp report` that the documentation shows.

python docs/report runs/one_gpu runs/four_gpus          # into docs/pictures
python docs/report runs/one_gpu --height 1200 --width 400  # only the top
"""

import pathlib
import shutil
import tempfile

import click
from playwright.sync_api import sync_playwright

from tfdp.report.comparison import read
from tfdp.report.page import write_report

PICTURES = pathlib.Path(__file__).parents[1] / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
OPTIONS += ["--disable-background-networking", "--disable-component-update"]
OPTIONS += ["--disable-sync"]


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--name", "names", multiple=True, help="What to call a run.")
@click.option(
    "--output", default=PICTURES, type=click.Path(path_type=pathlib.Path)
)
@click.option("--width", default=1180, help="Of the window, in pixels.")
@click.option("--height", default=None, type=int, help="Defaults to all.")
def main(runs, names, output, width, height):
    """Writes report_light.png and report_dark.png."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise click.ClickException(f"install one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        page_path, *_ = write_report(read(runs, names), folder)
        chromium = play.chromium.launch(executable_path=browser, args=OPTIONS)
        for scheme in ("light", "dark"):
            page = chromium.new_page(
                viewport={"width": width, "height": height or 900},
                device_scale_factor=1.5,
                color_scheme=scheme,
            )
            page.goto(page_path.as_uri())
            page.wait_for_selector("html[data-drawn]")
            path = output / f"report_{scheme}.png"
            page.screenshot(path=path, full_page=height is None)
            click.echo(path)
        chromium.close()


if __name__ == "__main__":
    main()
