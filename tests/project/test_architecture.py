"""What `import-linter` cannot say: names, the environment, what imports bring.

Which room may import which is in setup.cfg; `make lint` checks it.
"""

import ast
import pathlib
import statistics
import subprocess
import sys
import textwrap

import pytest
from places import ROOT

READERS_OF_THE_ENVIRONMENT = {
    "tfdp.calls.called",
    "tfdp.cluster.environment",
    "tfdp.cluster.tf_config",
    "tfdp.launching.forking",
    "tfdp.launching.worker_settings",
    "tfdp.settings",
}
OTHER_PACKAGES = {"keras", "lazy_loader", "numpy", "psutil", "rich"}
OTHER_PACKAGES |= {"scipy", "tensorflow"}
# Where others are needed, by the begin of a module's name.
MORE_PACKAGES = {
    "tfdp.calls": {"cloudpickle"},
    "tfdp.cli": {"click"},
    "tfdp.data.grain_shards": {"grain"},
    "tfdp.report": {"altair", "jinja2", "markupsafe", "vl_convert"},
    "tfdp.testing.plugin": {"pytest"},
}
MOST_FILES_OF_A_ROOM = 16
MOST_LINES, MOST_LINES_OF_HALF = 400, 130


def modules():
    found = {}
    for folder, package in [("tfdp", "tfdp"), ("callbacks", "tfdp.callbacks")]:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join([package, *parts]).removesuffix(".__init__")
            found[name] = path
    return found


MODULES = modules()
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}
ROOMS = [
    name
    for name, path in MODULES.items()
    if path.name == "__init__.py" and name != "tfdp"
]


def imports(name):
    """What a module imports, wherever in it: from where, and which name."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} has a relative import"
            yield from ((node.module, alias.name) for alias in node.names)


def room_of(name):
    return name if name in ROOMS else name.rpartition(".")[0]


def test_modules_are_found():
    assert {"tfdp", "tfdp.cluster.cluster", "tfdp.cli.launch"} <= set(MODULES)
    assert {"tfdp.optimizer", "tfdp.callbacks"} <= set(ROOMS)


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_says_what_it_is_for(name):
    assert ast.get_docstring(TREES[name])


@pytest.mark.parametrize("name", MODULES)
def test_a_name_on_the_surface_of_a_room_is_taken_from_there(name):
    surface = {
        (module, member): room
        for room in ROOMS
        if room not in (room_of(name), "tfdp.callbacks")
        # The facade names files, so that nothing else is loaded.
        and name != "tfdp"
        for module, member in imports(room)
    }
    assert [surface[i] for i in imports(name) if i in surface] == []


@pytest.mark.parametrize("name", ROOMS)
def test_the_surface_of_a_room_is_what_others_use(name):
    if name in ("tfdp.callbacks", "tfdp.testing", "tfdp.cli"):
        pytest.skip("its users are not in tfdp")
    used = {
        member
        for other in MODULES
        for module, member in imports(other)
        if module == name
    }
    assert {member for _, member in imports(name)} <= used


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"tfdp"}))
def test_the_facade_is_imported_by_users_only(name):
    found = {
        (module, member)
        for module, member in imports(name)
        if f"{module}.{member}" not in ROOMS
    }
    assert {module for module, _ in found} & {"tfdp", "tfdp.callbacks"} == set()


@pytest.mark.parametrize("name", MODULES)
def test_a_bare_callbacks_is_not_imported(name):
    assert "callbacks" not in {i.partition(".")[0] for i, _ in imports(name)}


@pytest.mark.parametrize("name", MODULES)
def test_other_packages_are_few(name):
    others = {i.partition(".")[0] for i, _ in imports(name)}
    more = (p for n, p in MORE_PACKAGES.items() if name.startswith(n))
    others -= {"tfdp", *sys.stdlib_module_names}
    assert others <= OTHER_PACKAGES.union(*more)


@pytest.mark.parametrize("name", MODULES)
def test_environment_is_read_in_one_place(name):
    names = {"environ", "environb", "getenv", "putenv", "unsetenv"}
    used = [
        ast.unparse(node)
        for node in ast.walk(TREES[name])
        if (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.alias) and node.name in names)
    ]
    assert bool(used) == (name in READERS_OF_THE_ENVIRONMENT), used


def test_rooms_and_files_are_small():
    rooms = [room_of(name) for name in MODULES if name not in ROOMS]
    assert max(map(rooms.count, ROOMS)) <= MOST_FILES_OF_A_ROOM
    lines = [len(path.read_text().splitlines()) for path in MODULES.values()]
    assert max(lines) <= MOST_LINES
    assert statistics.median(lines) <= MOST_LINES_OF_HALF


def run(code, *options):
    result = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_import_of_tfdp_brings_next_to_nothing():
    added = run(
        """
        import sys
        before = set(sys.modules)
        import tfdp
        print(*sorted(set(sys.modules) - before))
        """
    )
    own = {name for name in added if name.partition(".")[0] == "tfdp"}
    assert own == {"tfdp", "tfdp.upstream", "tfdp.upstream.registration"}
    others = {name.partition(".")[0] for name in set(added) - own}
    assert others - {"lazy_loader", *sys.stdlib_module_names} == set()


@pytest.mark.long
def test_the_optimizer_brings_nothing_of_commands_plots_or_tests():
    # Keras itself imports rich.
    added = run(
        """
        import sys
        import keras, tensorflow
        before = set(sys.modules)
        import tfdp
        tfdp.DistributedOptimizer, tfdp.callbacks
        print(*sorted(set(sys.modules) - before))
        """
    )
    unwanted = {"filelock", "matplotlib", "rich", "sklearn", "scipy"}
    unwanted |= {"tensorflow_datasets"}.union(*MORE_PACKAGES.values())
    assert {name.partition(".")[0] for name in added} & unwanted == set()
    unwanted = ("tfdp.bench", "tfdp.cli", "tfdp.launching", "tfdp.testing")
    assert [name for name in added if name.startswith(unwanted)] == []


@pytest.mark.parametrize(
    "command",
    [["-m", "tfdp.cli"], [str(pathlib.Path(sys.executable).with_name("tfdp"))]],
    ids=["module", "script"],
)
def test_command_line_imports_no_tensorflow(command):
    result = subprocess.run(
        [sys.executable, "-X", "importtime", *command, "launch", "--help"],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0
    assert "Usage: " in result.stdout
    imported = {
        line.rpartition("|")[2].strip() for line in result.stderr.splitlines()
    }
    assert {"tfdp.cli.launch", "tfdp.launching.worker_group"} <= imported
    assert imported & {"tensorflow", "keras", "numpy"} == set()
    assert imported & MORE_PACKAGES["tfdp.report"] == set()


def test_import_of_tfdp_has_no_side_effect_on_tensorflow():
    started, policy, seed = run(
        """
        import tfdp
        tfdp.DistributedOptimizer
        import keras, tensorflow as tf
        from tensorflow.python.eager import context
        print(context.context()._initialized)
        print(keras.config.dtype_policy().name)
        print(context.global_seed())
        """
    )
    assert (started, policy, seed) == ("False", "float32", "None")
