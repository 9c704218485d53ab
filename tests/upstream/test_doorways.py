"""Nothing private of Keras or TensorFlow outside of the doorways."""

import ast

import pytest
from places import ROOT, TESTS
from private_names import DECLARED, last_part

SOURCES = sorted([*ROOT.glob("tfdp/**/*.py"), *ROOT.glob("callbacks/*.py")])
UPSTREAM = ROOT / "tfdp" / "upstream"
DOORWAYS = sorted([*UPSTREAM.glob("*/keras_*.py"), *UPSTREAM.glob("*/tf_*.py")])
OTHERS = [path for path in SOURCES if path not in DOORWAYS]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def attributes(tree):
    """Names of attributes, and what they are looked up on, as source."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr, ast.unparse(node.value)


def contracts():
    """Names that the tests of the doorways are contracts of."""
    for path in TESTS.glob("upstream/test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == (
                "contract"
            ):
                yield from (argument.value for argument in node.args)


def test_doorways_are_there():
    assert len(DOORWAYS) == 22
    assert len(OTHERS) > 10


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_private_modules_are_imported_nowhere(path):
    """An import fails as a whole, where a name is missing."""
    tree = ast.parse(path.read_text())
    private = [
        name
        for name in imported(tree)
        if name.startswith(("keras.src", "tensorflow.python"))
        or name in ("keras.src", "tensorflow.python")
        or (
            name.startswith(("keras.", "tensorflow.", "tf."))
            and any(part.startswith("_") for part in name.split("."))
        )
    ]
    reached = [
        f"{owner}.{name}"
        for name, owner in attributes(tree)
        if f"{owner}.{name}".startswith(("keras.src", "tf.python"))
        or name == "__internal__"
    ]
    assert private + reached == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_private_attributes_are_used_by_their_declaration_only(path):
    private = [
        f"{owner}.{name}"
        for name, owner in attributes(ast.parse(path.read_text()))
        if is_private(name) and owner not in ("self", "cls", "os", "sys")
    ]
    assert private == []


@pytest.mark.parametrize("path", OTHERS, ids=name_of)
def test_no_private_name_is_inherited(path):
    tree = ast.parse(path.read_text())
    own = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    own |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    inherited = {
        name
        for name, owner in attributes(tree)
        if is_private(name) and owner in ("self", "cls") and name not in own
    }
    assert inherited == set()


@pytest.mark.parametrize("path", OTHERS, ids=name_of)
def test_frames_are_looked_at_in_the_doorways_only(path):
    frames = {"_getframe", "currentframe", "stack", "f_back", "f_locals"}
    innocent = {"np.stack", "tf.stack"}
    found = attributes(ast.parse(path.read_text()))
    names = [f"{owner}.{name}" for name, owner in found if name in frames]
    assert [name for name in names if name not in innocent] == []


@pytest.mark.parametrize("path", DOORWAYS, ids=name_of)
def test_every_private_name_of_a_doorway_has_a_contract(path):
    tree = ast.parse(path.read_text())
    names = {
        last_part(each)
        for label, each in DECLARED.items()
        if label.startswith(f"{path.stem}.")
    }
    # Those that are looked for in frames.
    names |= {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.isidentifier()
        and is_private(node.value)
    }
    assert names
    # A contract may name the owner too, as in `context.global_seed`.
    known = {part for name in contracts() for part in name.split(".")}
    assert names - known == set()
