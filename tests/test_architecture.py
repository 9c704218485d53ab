"""Who may import whom, and who may look at the environment."""

import ast
import pathlib
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# A module imports from layers above its own line, never from its own.
LAYERS = [
    {
        "tfdp._keras",
        "tfdp._tensorflow",
        "tfdp.cores",
        "tfdp.ports",
        "tfdp.settings",
        "tfdp.slurm",
    },
    {
        "tfdp.agreement",
        "tfdp.all_reduce_curve",
        "tfdp.backup_folder",
        "tfdp.batch",
        "tfdp.cluster",
        "tfdp.cost_model",
        "tfdp.distributed_dataset",
        "tfdp.event_file",
        "tfdp.findings",
        "tfdp.gradients",
        "tfdp.inspection",
        "tfdp.momentum",
        "tfdp.noise_scale",
        "tfdp.randomness",
        "tfdp.run_log",
        "tfdp.samples",
        "tfdp.selftest_outcome",
        "tfdp.step_times",
        "tfdp.throughput",
    },
    {
        "tfdp.breakdown",
        "tfdp.compression",
        "tfdp.fused",
        "tfdp.gradient_statistics",
        "tfdp.packs",
        "tfdp.step_meter",
    },
    {
        "tfdp.accumulation",
        "tfdp.adascale",
        "tfdp.backup_sharing",
        "tfdp.ballot",
        "tfdp.batch_statistics",
        "tfdp.data_agreement",
        "tfdp.keras_steps",
        "tfdp.learning_rate",
        "tfdp.losses",
        "tfdp.precision",
        "tfdp.rendezvous",
        "tfdp.run_header",
        "tfdp.same_program",
        "tfdp.synchronization",
        "tfdp.window",
    },
    {
        "tfdp.data_parallel_strategy",
        "tfdp.data_position",
        "tfdp.lars",
        "tfdp.limit",
        "tfdp.loss_audit",
        "tfdp.loss_scale",
        "tfdp.lost_workers",
        "tfdp.schedules",
    },
    {
        "tfdp.scope",
        "tfdp.throughput_table",
    },
    {"tfdp.optimizer", "tfdp.scaling", "tfdp.strategy", "tfdp.warmup"},
    {"tfdp.audit", "tfdp.replay", "tfdp.training_state"},
    {"tfdp.callbacks.chief_only"},
    {"tfdp.callbacks.data_parallel"},
    {"tfdp.callbacks.*"},
    {"tfdp.callbacks", "tfdp.probe", "tfdp.scaling_trial"},
    {"tfdp.all_reduce_trials"},
    {"tfdp.selftest"},
    {"tfdp"},
]
# Beside the layers: what starts processes, and what looks whether they would
# start, knows nothing of training.
BESIDE = [
    {
        "tfdp.allocator",
        "tfdp.blame",
        "tfdp.cores",
        "tfdp.cost_model",
        "tfdp.findings",
        "tfdp.guardian",
        "tfdp.out_of_memory",
        "tfdp.ports",
        "tfdp.report",
        "tfdp.report.colors",
        "tfdp.report.curve",
        "tfdp.report.log_lines",
        "tfdp.report.words",
        "tfdp.section",
        "tfdp.settings",
        "tfdp.slurm",
        "tfdp.worker_failure",
        "tfdp.worker_function",
        "tfdp.worker_output",
    },
    {
        "tfdp.cluster",
        "tfdp.precision",
        "tfdp.report.chart",
        "tfdp.report.run",
        "tfdp.scaling_report",
        "tfdp.tf_config",
        "tfdp.worker_process",
    },
    {
        "tfdp.machine",
        "tfdp.nodes",
        "tfdp.report.comparison",
        "tfdp.report.facts",
        "tfdp.report.figure",
    },
    {
        "tfdp.diagnosis",
        "tfdp.report.breakdown_chart",
        "tfdp.report.learning_figures",
        "tfdp.report.line_chart",
        "tfdp.report.scaling_chart",
        "tfdp.report.speed_figures",
        "tfdp.workers",
    },
    {"tfdp.launcher", "tfdp.report.page"},
    {"tfdp.cli.probe"},
    {"tfdp.testing", "tfdp.cli.*"},
    {"tfdp.cli.bench"},
    {"tfdp.cli"},
    {"tfdp.cli.__main__"},
]
READERS_OF_THE_ENVIRONMENT = {"tfdp.cluster", "tfdp.settings", "tfdp.workers"}
OTHER_PACKAGES = {"keras", "numpy", "psutil", "rich", "tensorflow"}
COMMAND_LINE_PACKAGES = {"click"}
# Of the extra `report`; only its command imports these modules.
CHART_PACKAGES = {"altair", "jinja2", "markupsafe", "vl_convert"}
CHART_MODULES = {
    "tfdp.report.breakdown_chart",
    "tfdp.report.chart",
    "tfdp.report.line_chart",
    "tfdp.report.page",
    "tfdp.report.scaling_chart",
}


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


def imports(name):
    """Absolute names that a module imports, wherever in it."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} has a relative import"
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                yield member if member in MODULES else node.module


def own_imports(name):
    return {i for i in imports(name) if i.partition(".")[0] == "tfdp"}


def height(name, layers):
    """Place of a module's layer, from 0 for a leaf; `None` if it has none."""
    for place, layer in enumerate(layers):
        if name in layer:
            return place
    wildcard = name.rpartition(".")[0] + ".*"
    for place, layer in enumerate(layers):
        if wildcard in layer:
            return place
    return None


def allowed(importer, imported):
    for layers in (LAYERS, BESIDE):
        above, below = height(importer, layers), height(imported, layers)
        if above is not None and below is not None:
            return below < above
    # The facade shows some of what stands beside the layers.
    return importer == "tfdp" and imported == "tfdp.testing"


def test_modules_are_found():
    assert {"tfdp", "tfdp.cluster", "tfdp.cli.launch"} <= MODULES.keys()
    assert {"tfdp.callbacks", "tfdp.callbacks.data_parallel"} <= MODULES.keys()


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_a_layer(name):
    assert any(height(name, layers) is not None for layers in (LAYERS, BESIDE))


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name):
    wrong = {i for i in own_imports(name) if not allowed(name, i)}
    assert wrong == set(), f"{name} must not import {', '.join(sorted(wrong))}"


def test_the_rule_tells_up_from_down():
    assert allowed("tfdp.optimizer", "tfdp.data_parallel_strategy")
    assert allowed("tfdp.callbacks.data_parallel", "tfdp.optimizer")
    assert allowed("tfdp.callbacks.data_parallel", "tfdp.audit")
    assert allowed("tfdp.audit", "tfdp.loss_audit")
    assert allowed("tfdp.cli.launch", "tfdp.workers")
    for importer, imported in [
        ("tfdp.strategy", "tfdp.optimizer"),
        ("tfdp.optimizer", "tfdp.audit"),
        ("tfdp.losses", "tfdp.loss_audit"),
        ("tfdp.samples", "tfdp.batch"),
        ("tfdp.cluster", "tfdp.cluster"),
        ("tfdp.callbacks.data_parallel", "tfdp"),
        ("tfdp.callbacks.data_parallel", "tfdp.callbacks"),
        ("tfdp.callbacks.data_parallel", "tfdp.callbacks.throughput_monitor"),
        ("tfdp.cli.launch", "tfdp.strategy"),
        ("tfdp.testing", "tfdp"),
        ("tfdp.optimizer", "tfdp.callbacks"),
        ("tfdp", "tfdp.cli"),
    ]:
        assert not allowed(importer, imported), (importer, imported)


def test_there_is_no_cycle():
    # Also through what is imported inside of functions.
    done = set()

    def visit(name, path):
        assert name not in path, f"cycle: {' -> '.join([*path, name])}"
        if name not in done:
            for imported in own_imports(name) & MODULES.keys():
                visit(imported, [*path, name])
            done.add(name)

    for name in MODULES:
        visit(name, [])


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"tfdp"}))
def test_the_facade_is_imported_by_users_only(name):
    assert own_imports(name) & {"tfdp", "tfdp.callbacks"} == set()


@pytest.mark.parametrize("name", MODULES)
def test_a_bare_callbacks_is_not_imported(name):
    assert [
        i for i in imports(name) if i.partition(".")[0] == "callbacks"
    ] == []


@pytest.mark.parametrize("name", MODULES)
def test_other_packages_are_few(name):
    others = {i.partition(".")[0] for i in imports(name)}
    others -= {"tfdp", *sys.stdlib_module_names}
    if name.startswith("tfdp.cli"):
        assert others <= COMMAND_LINE_PACKAGES
    elif name in CHART_MODULES:
        assert others <= CHART_PACKAGES
    else:
        assert others <= OTHER_PACKAGES


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


def run(code, *options):
    result = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_import_of_tfdp_brings_nothing_of_commands_plots_or_tests():
    # Keras itself imports rich.
    added = run(
        """
        import sys
        import keras, tensorflow
        before = set(sys.modules)
        import tfdp
        print(*sorted(set(sys.modules) - before))
        """
    )
    assert "tfdp.optimizer" in added
    assert "tfdp.callbacks" in added
    unwanted = {
        "altair",
        "click",
        "filelock",
        "jinja2",
        "matplotlib",
        "rich",
        "sklearn",
        "tensorflow_datasets",
        "vl_convert",
    }
    assert {name.partition(".")[0] for name in added} & unwanted == set()
    assert [name for name in added if name.startswith("tfdp.cli")] == []
    assert "tfdp.testing" not in added


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
    assert {"tfdp.cli.launch", "tfdp.workers", "click"} <= imported
    assert imported & {"tensorflow", "keras", "numpy"} == set()
    assert imported & CHART_PACKAGES == set()


def test_import_of_tfdp_has_no_side_effect_on_tensorflow():
    started, policy, seed = run(
        """
        import tfdp
        import keras, tensorflow as tf
        from tensorflow.python.eager import context
        print(context.context()._initialized)
        print(keras.config.dtype_policy().name)
        print(context.global_seed())
        """
    )
    assert (started, policy, seed) == ("False", "float32", "None")
