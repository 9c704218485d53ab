"""Models that were saved when tfdp was one folder load, and train on.

`tests/saved_models` holds them, with what they predicted then, and their
weights after two more epochs under two replicas.
"""

import ast
import json
import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from places import ROOT, TESTS

import tfdp
from tfdp.upstream.registration import MODULES, StandIn

SAVED = TESTS / "saved_models"
NAMES = sorted(path.stem for path in SAVED.glob("*.keras"))
BARE = """
    import json, sys
    {imports}
    models = [keras.models.load_model(path) for path in sys.argv[1:]]
    print(json.dumps([type(model.optimizer).__name__ for model in models]))
"""


def data():
    random = np.random.default_rng(7)
    x = random.normal(size=(24, 4)).astype("float32")
    return x, (x.sum(axis=1, keepdims=True) > 0).astype("float32")


@pytest.mark.sampled
@pytest.mark.parametrize("name", NAMES)
def test_an_old_model_predicts_and_trains_as_it_did(name, two_replicas):
    x, y = data()
    expected = np.load(SAVED / f"{name}.npz")
    keras.utils.set_random_seed(5)
    with two_replicas.scope():
        model = keras.models.load_model(SAVED / f"{name}.keras")
    predicted = model.predict(x, verbose=0)
    np.testing.assert_allclose(predicted, expected["predicted"], atol=1e-6)
    model.fit(
        tf.data.Dataset.from_tensor_slices((x, y)).batch(8),
        epochs=2,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    weights = [v.numpy().ravel() for v in model.trainable_variables]
    np.testing.assert_allclose(
        np.concatenate(weights), expected["trained_on"], atol=1e-5
    )


def test_there_are_models_with_every_optimizer():
    assert NAMES == ["adascale", "lars", "momentum_corrected_sgd", "sgd"]


@pytest.mark.long
@pytest.mark.sampled
@pytest.mark.parametrize(
    "imports",
    [
        "import keras, tfdp",
        "import tfdp, keras",
        # TensorFlow looks for Keras, and does not import it.
        "import tfdp, tensorflow, keras",
        "import tfdp; tfdp.auto_strategy; import keras",
    ],
)
def test_a_model_loads_after_a_bare_import(imports):
    output = subprocess.check_output(
        [
            *(sys.executable, "-c"),
            textwrap.dedent(BARE.format(imports=imports)),
            *(SAVED / f"{name}.keras" for name in NAMES),
        ],
        text=True,
    )
    loaded = json.loads(output.splitlines()[-1])
    assert loaded == ["DistributedOptimizer"] * len(NAMES)


def test_every_registered_class_has_a_stand_in():
    found = {}
    for path in sorted((ROOT / "tfdp").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.parse(path.read_text()).body:
            decorators = getattr(node, "decorator_list", [])
            if any("register_keras" in ast.unparse(d) for d in decorators):
                found[node.name] = module
    assert found == MODULES


@pytest.mark.parametrize("name", MODULES)
def test_a_class_takes_the_place_of_its_stand_in(name):
    stand_in = StandIn(name)
    registered = keras.saving.get_custom_objects()[f"tfdp>{name}"]
    assert isinstance(registered, (StandIn, type))
    assert stand_in._class is keras.saving.get_custom_objects()[f"tfdp>{name}"]
    assert keras.saving.get_registered_name(stand_in._class) == f"tfdp>{name}"


def test_a_stand_in_makes_objects_of_the_class():
    made = StandIn("LARS")(0.5, momentum=0.8)
    assert type(made) is tfdp.LARS
    again = StandIn("LARS").from_config(made.get_config())
    assert (type(again), again.momentum) == (tfdp.LARS, 0.8)


@pytest.mark.long
def test_keras_is_registered_with_once_it_is_really_imported():
    code = """
        import importlib, sys, threading, time
        keras_import = importlib.import_module, ["keras"]
        thread = threading.Thread(target=keras_import[0], args=keras_import[1])
        thread.start()
        while "keras" not in sys.modules:
            time.sleep(0.01)
        import tfdp
        thread.join()
        import keras
        known = keras.saving.get_custom_objects()
        print(sum(name.startswith("tfdp>") for name in known))
    """
    output = subprocess.check_output(
        [sys.executable, "-c", textwrap.dedent(code)], text=True
    )
    assert output.split()[-1] == str(len(MODULES))


@pytest.mark.long
def test_looking_for_keras_is_not_importing_it():
    code = """
        import importlib.util, sys
        import tfdp
        for _ in range(2):
            assert importlib.util.find_spec("keras").name == "keras"
        assert "keras" not in sys.modules
        sys.modules["tensorflow"] = None
        for _ in range(2):
            try:
                import keras
            except ImportError:
                print("failed")
        del sys.modules["tensorflow"]
        for name in [n for n in sys.modules if n.startswith("keras")]:
            del sys.modules[name]
        import keras
        print("tfdp>LARS" in keras.saving.get_custom_objects())
    """
    output = subprocess.check_output(
        [sys.executable, "-c", textwrap.dedent(code)],
        text=True,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
    )
    assert output.split()[-3:] == ["failed", "failed", "True"]
