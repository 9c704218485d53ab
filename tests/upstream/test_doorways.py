"""Nothing private of Keras or TensorFlow outside of the doorways."""

import ast

import pytest
from places import ROOT, TESTS

SOURCES = sorted([*ROOT.glob("tfdp/**/*.py"), *ROOT.glob("callbacks/*.py")])
UPSTREAM = ROOT / "tfdp" / "upstream"
DOORWAYS = sorted([*UPSTREAM.glob("keras_*.py"), *UPSTREAM.glob("tf_*.py")])
OTHERS = [path for path in SOURCES if path not in DOORWAYS]
INHERITED = {
    "tfdp/large_batch/lars.py": {"_get_variable_index", "_use_weight_decay"},
    "tfdp/large_batch/momentum.py": {"_get_variable_index"},
    "tfdp/optimizer/optimizer.py": {
        "_filter_empty_gradients",
        "_get_variable_index",
        "_trainable_variables",
    },
}


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
    assert len(DOORWAYS) == 8
    assert len(OTHERS) > 10


@pytest.mark.parametrize("path", OTHERS, ids=name_of)
def test_private_modules_are_imported_in_the_doorways_only(path):
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


@pytest.mark.parametrize("path", OTHERS, ids=name_of)
def test_private_attributes_are_used_in_the_doorways_only(path):
    private = [
        f"{owner}.{name}"
        for name, owner in attributes(ast.parse(path.read_text()))
        if is_private(name) and owner not in ("self", "cls", "os")
    ]
    assert private == []


@pytest.mark.parametrize("path", OTHERS, ids=name_of)
def test_private_names_that_are_inherited_are_known(path):
    tree = ast.parse(path.read_text())
    own = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
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
    assert inherited == INHERITED.get(name_of(path), set())


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
    names = {name for name, _ in attributes(tree) if name.startswith("_")}
    names |= {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.isidentifier()
        and node.value.startswith("_")
    }
    # Python's own, with nothing upstream to move.
    names -= {"__self__", "__name__", "__qualname__", "__code__", "_getframe"}
    names -= {"__new__", "__init__"}
    private = [
        name
        for name in imported(tree)
        if name.startswith(("keras.src.", "tensorflow.python."))
    ]
    names |= {name.rpartition(".")[2] for name in private}
    # What is looked up on a private module, imported under a private name.
    modules = {f"_{name.rpartition('.')[2]}" for name in private}
    names |= {name for name, owner in attributes(tree) if owner in modules}
    assert names
    # A contract may name the owner too, as in `context.global_seed`.
    known = {part for name in contracts() for part in name.split(".")}
    assert names - known == set()
    assert set.union(*INHERITED.values()) <= known
