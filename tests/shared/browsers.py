"""A real browser without a network, and what one sees in its pages."""

import contextlib
import os
import re
import shutil

import pytest
from playwright import sync_api

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
]
ENOUGH_CONTRAST = 4.5  # WCAG 2, level AA

# Colours of everything that shows text, with the ground behind it.
COLORS = """() => {
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const shown = [...element.childNodes].some(
      (node) => node.nodeType === Node.TEXT_NODE && node.data.trim(),
    );
    if (!shown || !element.getClientRects().length) continue;
    const drawn = element.ownerSVGElement !== null
      && element.ownerSVGElement !== undefined;
    let ground = element;
    const groundOf = (e) => getComputedStyle(e).backgroundColor;
    while (groundOf(ground) === "rgba(0, 0, 0, 0)") {
      ground = ground.parentElement;
    }
    const style = getComputedStyle(element);
    found.push([
      element.textContent.trim().slice(0, 40),
      drawn ? style.fill : style.color,
      groundOf(ground),
    ]);
  }
  return found;
}"""


@contextlib.contextmanager
def browser():
    """Chromium; who has none skips, but for CI."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        reason = f"no browser: install one of {', '.join(BROWSERS)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


def watch(page, allowed):
    """What a page asks for besides, which it is refused, and its complaints."""
    asked, complaints = [], []

    def refuse(route):
        asked.append(route.request.url)
        route.abort()

    page.route(lambda address: not allowed(address), refuse)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return asked, complaints


def luminance(color):
    channels = [int(x) / 255 for x in re.findall(r"\d+", color)[:3]]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in channels
    ]
    return sum(
        w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )


def contrast(*colors):
    dark, light = sorted(map(luminance, colors))
    return (light + 0.05) / (dark + 0.05)


def too_faint(page):
    return [
        (text, color, ground)
        for text, color, ground in page.evaluate(COLORS)
        if contrast(color, ground) < ENOUGH_CONTRAST
    ]
