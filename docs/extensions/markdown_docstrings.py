"""Docstrings in Markdown, and members that are tfdp's own, for autodoc."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

_FENCE = re.compile(r"( *)```(\w*)$")
_ROW = re.compile(r"( *)\|(.*)\|$")
_ITEM = re.compile(r" *- ")
_CODE = re.compile(r"(?<![`:\w])`([^`]+)`(?!`)")
_PAGE = re.compile(r"`?docs/([\w/]+)\.md`?")


class Dashes(SphinxTransform):
    """Between an argument and what is said of it; others are of options."""

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        """Replaces what Sphinx has put there."""
        for text in list(self.document.findall(nodes.Text)):
            if text == " -- ":
                text.parent.replace(text, nodes.Text(" – "))


def setup(app: Sphinx) -> dict[str, Any]:
    """Listens before napoleon does, which takes sections apart."""
    app.connect("autodoc-process-docstring", _as_rest, priority=400)
    app.connect("autodoc-skip-member", _is_of_another_package)
    app.add_transform(Dashes)
    return {"parallel_read_safe": True}


def rest(lines: list[str]) -> list[str]:
    """Returns the lines of a docstring with reST in place of Markdown."""
    text = _PAGE.sub(r":doc:`/\1`", "\n".join(lines))
    text = _CODE.sub(r"``\1``", text)
    return list(_lists(_tables(_fences(iter(text.split("\n"))))))


def _as_rest(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    lines[:] = rest(lines)


def _fences(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        opening = _FENCE.match(line)
        if opening is None:
            yield line
            continue
        yield from (f"{opening[1]}.. code-block:: {opening[2] or 'text'}", "")
        for inner in lines:
            if _FENCE.match(inner):
                break
            yield f"   {inner}" if inner else ""
        yield ""


def _tables(lines: Iterator[str]) -> Iterator[str]:
    inside = False
    for line in lines:
        row = _ROW.match(line)
        if row and not inside:
            yield from (
                f"{row[1]}.. list-table::",
                f"{row[1]}   :header-rows: 1",
            )
            yield ""
        inside = row is not None
        if row is None:
            yield line
        elif not set(row[2]) <= set("-| "):
            for first, cell in enumerate(row[2].split("|")):
                yield f"{row[1]}   {'* -' if not first else '  -'}{cell}"


def _lists(lines: Iterator[str]) -> Iterator[str]:
    """A list may begin without an empty line before it."""
    before = ""
    for line in lines:
        begins = _ITEM.match(line) and before and not before.startswith(" ")
        if begins and not _ITEM.match(before):
            yield ""
        yield line
        before = line


def _is_of_another_package(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leaves out what classes have of Keras and TensorFlow."""
    if isinstance(obj, property):
        obj = obj.fget
    module = (
        getattr(inspect.unwrap(obj), "__module__", None)
        if callable(obj)
        else None
    )
    is_own = module is None or module.startswith("tfdp")
    return skip if is_own else True
