"""What users may name, how it is documented, and that it outlives a save."""

import ast
import builtins
import importlib
import inspect
import json
import pathlib
import re
import subprocess
import sys
import types

import keras
import numpy as np
import pytest

import tfdp
from tfdp.synchronization import Synchronization

EXPORTED = {
    "AdaScale",
    "AsynchronousStrategy",
    "BatchPlan",
    "Cluster",
    "Delayed",
    "DelayedNesterov",
    "DiLoCo",
    "DistributedLoss",
    "DistributedMetric",
    "DistributedOptimizer",
    "LARS",
    "LocalSGD",
    "ShardedState",
    "MirroredStrategy",
    "MomentumCorrectedSGD",
    "MultiWorkerMirroredStrategy",
    "Pipeline",
    "ScaledSchedule",
    "Stage",
    "StretchedSchedule",
    "Synchronous",
    "WarmupSchedule",
    "audit",
    "auto_strategy",
    "callbacks",
    "estimate",
    "find_batch",
    "gather",
    "launch",
    "linear_scaled_rate",
    "scale_learning_rate",
    "set_precision",
    "shard",
    "shard_options",
    "shuffled_range",
    "sqrt_scaled_rate",
    "testing",
}
EXPORTED_BY = {
    "tfdp.callbacks": {
        "AdaScaleMonitor",
        "BackupAndRestore",
        "ChiefOnly",
        "DataParallel",
        "LearningRateMonitor",
        "LossScaleMonitor",
        "NoiseScaleMonitor",
        "RunLogger",
        "ThroughputMonitor",
    },
    "tfdp.testing": {"logical_cpus", "report", "run_workers"},
}
SCHEDULE = {"warmup_updates": 5, "initial_rate": 0.01}
DECAY = {"initial_learning_rate": 0.1, "decay_steps": 100}
# NumPy 2 warns of TensorFlow's MirroredVariable as Keras reads it to save it,
# also under TensorFlow's own strategy (TensorFlow 2.21, Keras 3.15).
saves_mirrored_variables = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept:DeprecationWarning"
)


def named_as_themselves(module):
    """Names of `from ... import name as name`, which mark a re-export."""
    stub = pathlib.Path(module.__file__).with_suffix(".pyi")
    tree = ast.parse(stub.read_text())
    return {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname and alias.asname == alias.name
    }


def made_in_tfdp(module):
    """Names of the classes and functions of tfdp that a module holds."""
    return {
        name
        for name in dir(module)
        if not name.startswith("_")
        and (value := getattr(module, name)) is not None
        and inspect.isroutine(value) | inspect.isclass(value)
        and value.__module__.startswith("tfdp")
    }


def test_exported_names_are_the_documented_ones():
    assert named_as_themselves(tfdp) == EXPORTED
    assert made_in_tfdp(tfdp) == EXPORTED - {"callbacks", "testing"}
    assert isinstance(tfdp.callbacks, types.ModuleType)
    assert isinstance(tfdp.testing, types.ModuleType)
    with pytest.raises(AttributeError, match="No tfdp attribute tests"):
        tfdp.tests  # noqa: B018


@pytest.mark.parametrize(("name", "exported"), EXPORTED_BY.items())
def test_exported_names_of_modules_are_the_documented_ones(name, exported):
    module = importlib.import_module(name)
    own = {
        name
        for name in made_in_tfdp(module)
        if getattr(module, name).__module__.startswith(module.__name__)
    }
    assert own == exported
    assert set(getattr(module, "__all__", exported)) == exported


def test_version_is_that_of_the_package():
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", tfdp.__version__)
    assert set(dir(tfdp)) == {*EXPORTED, "__version__"}


@pytest.mark.long
@pytest.mark.parametrize(
    "names",
    [
        ["DistributedOptimizer", "auto_strategy"],
        ["callbacks", "DistributedOptimizer", "audit", "testing"],
    ],
    ids=" ".join,
)
def test_threads_may_ask_for_names_at_the_same_time(names):
    code = f"""if True:
        import concurrent.futures, threading
        import tfdp
        names = {names}
        all_there = threading.Barrier(len(names))
        def found(name):
            all_there.wait()
            return getattr(tfdp, name).__name__
        with concurrent.futures.ThreadPoolExecutor(len(names)) as threads:
            print(*threads.map(found, names))
    """
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    shown = [name.rpartition(".")[2] for name in result.stdout.split()]
    assert shown == names


@pytest.mark.long
def test_a_package_that_imports_tfdp_runs_as_a_module(tmp_path):
    package = tmp_path / "experiment"
    package.mkdir()
    (package / "__init__.py").write_text("import tfdp\n")
    (package / "train.py").write_text("import tfdp\ntfdp.auto_strategy\n")
    result = subprocess.run(
        [sys.executable, "-m", "experiment.train"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, result.stderr


def public_objects():
    """Every public class, function, method and property, by its name."""
    found = {}
    for package in (tfdp, *map(importlib.import_module, EXPORTED_BY)):
        for name in sorted(EXPORTED_BY.get(package.__name__, EXPORTED)):
            found[f"{package.__name__}.{name}"] = getattr(package, name)
    # What the ways to synchronise do in common is documented there.
    found["Synchronization"] = Synchronization
    for owner, cls in list(found.items()):
        if not inspect.isclass(cls):
            continue
        for base in cls.__mro__:
            if base.__module__.startswith("tfdp"):
                for name, member in vars(base).items():
                    is_common = cls is not Synchronization and (
                        issubclass(cls, Synchronization)
                        and hasattr(Synchronization, name)
                    )
                    if not name.startswith("_") and not is_common:
                        found.setdefault(f"{owner}.{name}", member)
    return {
        name: value
        for name, value in found.items()
        if callable(value)
        or isinstance(value, (property, classmethod, types.ModuleType))
    }


OBJECTS = public_objects()


def sections(value):
    """Entries of the sections of a docstring: `{"Args": {name: text}}`."""
    found, section = {}, None
    for line in (inspect.getdoc(value) or "").splitlines():
        if match := re.fullmatch(r"([A-Z]\w+):", line):
            section = found.setdefault(match[1], {})
        elif line and not line.startswith(" "):
            section = None
        elif section is not None:
            if match := re.match(r"    (\*{0,2}\w+): +(\S.*)", line):
                section[match[1]] = match[2]
            elif re.match(r"    \S", line):
                section[""] = line.strip()
    return found


def parameters(value):
    if isinstance(value, classmethod):
        value = value.__func__
    names = list(inspect.signature(value).parameters)
    return [name for name in names if name not in ("self", "cls")]


def overrides_upstream(name):
    owner, _, method = name.rpartition(".")
    cls = OBJECTS.get(owner)
    return inspect.isclass(cls) and any(
        method in vars(base)
        for base in cls.__mro__
        if not base.__module__.startswith("tfdp")
    )


def test_sections_of_docstrings_are_told_apart():
    found = sections(tfdp.linear_scaled_rate)
    assert list(found["Args"]) == ["base_rate", "global_batch", "base_batch"]
    assert list(found["Raises"]) == ["TypeError", "ValueError"]
    assert "Returns" in found
    assert len(OBJECTS) > 40


@pytest.mark.parametrize("name", OBJECTS)
def test_every_public_name_says_what_it_is(name):
    # `getdoc` also finds the docstring of a base class, which is not enough.
    text = OBJECTS[name].__doc__
    assert text, f"{name} has no docstring"
    summary = text.strip().partition("\n")[0]
    assert summary.endswith("."), f"{name}: {summary}"
    assert len(summary) <= 80


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in OBJECTS.items()
        if not isinstance(value, (property, types.ModuleType))
    ],
)
def test_every_parameter_is_documented_and_nothing_else(name):
    documented = list(sections(OBJECTS[name]).get("Args", {}))
    if documented or not overrides_upstream(name):
        assert documented == parameters(OBJECTS[name])


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in OBJECTS.items()
        if inspect.isfunction(value) or isinstance(value, classmethod)
    ],
)
def test_what_is_returned_is_documented(name):
    value = OBJECTS[name]
    function = getattr(value, "__func__", value)
    returned = inspect.signature(function).return_annotation
    assert returned is not inspect.Signature.empty, "no annotation"
    summary = value.__doc__.partition("\n")[0]
    says = "Returns" in sections(value) or summary.startswith("Returns ")
    assert says == (returned is not None)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in OBJECTS.items()
        if "Attributes" in sections(value)
    ],
)
def test_attributes_that_are_documented_exist(name):
    source = inspect.getsource(OBJECTS[name])
    for attribute in sections(OBJECTS[name])["Attributes"]:
        assert hasattr(OBJECTS[name], attribute) or (
            f"self.{attribute} =" in source
        ), f"{name} documents {attribute}, which it has not"


def test_errors_that_are_documented_are_errors():
    for name, value in OBJECTS.items():
        for error in sections(value).get("Raises", {}):
            known = getattr(builtins, error, None)
            assert inspect.isclass(known), f"{name}: {error}"
            assert issubclass(known, Exception), f"{name}: {error}"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A trained model, the file it was saved to, and some input."""
    strategy = tfdp.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        schedule = tfdp.WarmupSchedule(
            keras.optimizers.schedules.CosineDecay(**DECAY), **SCHEDULE
        )
        model.compile(
            tfdp.DistributedOptimizer(
                keras.optimizers.SGD(schedule, momentum=0.9, clipnorm=1.0),
                accumulation_steps=2,
                loss_scale=128.0,
            ),
            "mse",
        )
    x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    model.fit(
        x,
        x[:, :2],
        batch_size=4,
        epochs=3,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    return model, path, x


@saves_mirrored_variables
def test_saved_model_is_whole_in_a_process_that_imports_tfdp(saved, tmp_path):
    model, path, x = saved
    model.save(path)
    np.save(tmp_path / "x.npy", x)
    script = tmp_path / "load.py"
    script.write_text(
        "import json, sys\n"
        "import keras, numpy as np\n"
        "import tfdp\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "optimizer = model.optimizer\n"
        "prediction = model.predict(np.load(sys.argv[2]), verbose=0)\n"
        "print(json.dumps({\n"
        "    'class': type(optimizer).__module__,\n"
        "    'config': optimizer.get_config(),\n"
        "    'iterations': int(optimizer.iterations.numpy()),\n"
        "    'rate': float(optimizer.learning_rate.numpy()),\n"
        "    'momentum': optimizer.inner_optimizer.variables[2]"
        ".numpy().tolist(),\n"
        "    'prediction': prediction.tolist(),\n"
        "}))\n"
    )
    result = subprocess.run(
        [sys.executable, script, path, tmp_path / "x.npy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, result.stderr
    loaded = json.loads(result.stdout.splitlines()[-1])
    optimizer = model.optimizer
    assert loaded["class"] == "tfdp.optimizer.optimizer"
    assert loaded["config"] == json.loads(json.dumps(optimizer.get_config()))
    assert loaded["iterations"] == int(optimizer.iterations.numpy()) == 6
    assert loaded["rate"] == float(optimizer.learning_rate.numpy())
    np.testing.assert_allclose(
        loaded["prediction"], model.predict(x, verbose=0), atol=1e-6
    )
    momentum = optimizer.inner_optimizer.variables[2]
    np.testing.assert_array_equal(loaded["momentum"], momentum.numpy())
    assert np.any(momentum.numpy())


def test_configuration_of_the_optimizer_says_all_of_it(saved):
    config = saved[0].optimizer.get_config()
    assert config["accumulation_steps"] == 2
    assert config["loss_scale"] == 128.0
    inner = config["inner_optimizer"]
    assert inner["class_name"] == "SGD"
    assert inner["config"]["momentum"] == 0.9
    assert inner["config"]["clipnorm"] == 1.0
    assert inner["config"]["gradient_accumulation_steps"] is None
    rate = inner["config"]["learning_rate"]
    assert rate["registered_name"] == "tfdp>WarmupSchedule"
    assert SCHEDULE.items() <= rate["config"].items()
    decay = rate["config"]["learning_rate"]
    assert decay["class_name"] == "CosineDecay"
    assert DECAY.items() <= decay["config"].items()


@saves_mirrored_variables
def test_loaded_model_trains_on_in_the_scope_of_a_strategy(saved, tmp_path):
    model, _, x = saved
    path = tmp_path / "model.keras"
    model.save(path)
    strategy = tfdp.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        loaded = keras.saving.load_model(path)
    fit = {"batch_size": 4, "shuffle": False, "verbose": 0}
    for each in (model, loaded):
        callbacks = [tfdp.callbacks.DataParallel()]
        each.fit(x, x[:, :2], callbacks=callbacks, **fit)
        assert each.optimizer.iterations.numpy() == 8
    for actual, expected in zip(
        loaded.get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-6)
