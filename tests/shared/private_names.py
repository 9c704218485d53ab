"""The private names that the doorways declare, and how they go missing."""

import importlib

from places import ROOT

from tfdp.upstream.private import Member, Name

MODULES = {
    path.stem: f"tfdp.upstream.{path.parent.name}.{path.stem}"
    for prefix in ("keras", "tf")
    for path in sorted((ROOT / "tfdp" / "upstream").glob(f"*/{prefix}_*.py"))
}
DECLARED = {
    f"{module}.{label}": value
    for module, path in MODULES.items()
    for label, value in vars(importlib.import_module(path)).items()
    if isinstance(value, Name | Member)
}


def last_part(declared):
    """The name itself, without where it is."""
    if isinstance(declared, Member):
        return declared.name
    return declared.places[0].rpartition(".")[2]


def hide(declared, monkeypatch):
    """Has a doorway look for what is not there."""
    if isinstance(declared, Member):
        monkeypatch.setattr(declared, "name", f"{declared.name}_that_moved")
    else:
        places = tuple(f"{place}_that_moved" for place in declared.places)
        monkeypatch.setattr(declared, "places", places)
