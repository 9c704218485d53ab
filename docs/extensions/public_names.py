"""Names of tfdp that stand in code, anywhere, lead to what they are."""

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

import tfdp
from tfdp.cli import main

NAMES = {
    f"{module.__name__}.{name}"
    for module in (tfdp, tfdp.callbacks, tfdp.testing)
    for name in module.__all__
} - {"tfdp.callbacks", "tfdp.testing"}
COMMANDS = {f"tfdp {name}" for name in main.commands}
# Classes, and callbacks without the name of the package.
SHORT = {
    short: name
    for name in NAMES
    for short in (name.removeprefix("tfdp."), name.rpartition(".")[2])
    if "callbacks." in short or short[0].isupper()
}
_CALL = re.compile(r"\(.*\)$", flags=re.DOTALL)


class Links(SphinxTransform):
    """Makes links of the names."""

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        """Wraps each name that is no heading, and in no link yet."""
        for literal in list(self.document.findall(nodes.literal)):
            text = literal.astext()
            name = _CALL.sub("", text)
            name = SHORT.get(name, name)
            if isinstance(literal.parent, (nodes.reference, nodes.title)):
                continue
            if name in NAMES:
                domain, kind = "py", "obj"
            elif text in COMMANDS:
                domain, kind, name = "std", "ref", text.replace(" ", "-")
            else:
                continue
            link = addnodes.pending_xref(
                refdomain=domain,
                reftype=kind,
                reftarget=name,
                refexplicit=True,
                refdoc=self.env.docname,
                refwarn=True,
            )
            literal.replace_self(link)
            link += literal


def setup(app: Sphinx) -> dict[str, Any]:
    """Adds the links to every page that is read."""
    app.add_transform(Links)
    return {"parallel_read_safe": True}
