"""Pages whose text is in the checkout, but not below `docs/`.

A page of the site that only names such a file shows what is in the file.
"""

import os
import pathlib
import re
from typing import Any

from sphinx.application import Sphinx

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Page of the site, and the file.
SHOWN = {
    "reference/changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "ideas/measurements": "benchmarks/README.md",
}
_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")


def setup(app: Sphinx) -> dict[str, Any]:
    """Reads such files in place of the pages that stand for them."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    file = DOCS / f"{page}.md"
    if page in SHOWN:
        file = ROOT / SHOWN[page]
        source[0] = file.read_text()
        app.env.note_dependency(str(file))
    here = (DOCS / page).parent

    def mended(link: re.Match[str]) -> str:
        target = (file.parent / link[1]).resolve()
        for shown, its_file in SHOWN.items():
            if target == ROOT / its_file:
                target = DOCS / f"{shown}.md"
        return f"]({os.path.relpath(target, here)}"

    source[0] = _LINK.sub(mended, source[0])
