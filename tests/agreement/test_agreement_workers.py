"""What two workers agree on at the edges of a fit."""

import platform

import keras
import numpy as np
import pytest
import tensorflow as tf
from places import SHARED

import tfdp

SCRIPT = SHARED / "agreement.py"

pytestmark = pytest.mark.multi_worker


@pytest.fixture(scope="module")
def reports():
    return tfdp.testing.run_workers(SCRIPT, 2, timeout=300)


def test_objects_of_different_lengths_reach_all_workers(reports):
    for worker in reports:
        assert worker["gathered"] == [
            {"worker": 0, "text": "é"},
            {"worker": 1, "text": "é" * 10},
        ]


def test_all_workers_get_the_chiefs_arrays_bit_by_bit(reports):
    chiefs = reports[0]["given"]
    assert {"bfloat16", "bool", "scalar", "empty"} < chiefs.keys()
    special = np.frombuffer(bytes.fromhex(chiefs["float64"][2]))
    assert np.isnan(special[0])
    assert np.signbit(special[1])
    for worker in reports:
        assert worker["broadcast"] == chiefs


def test_items_that_differ_are_named_on_all_workers(reports):
    for worker in reports:
        assert (
            "Received epochs: 1 on worker 0, 2 on worker 1; "
            in (worker["checked"])
        )
        assert "same: " not in worker["checked"]


def test_an_item_of_one_worker_alone_differs(reports):
    for worker in reports:
        assert (
            "only here: None on worker 0, 1 on worker 1." in (worker["checked"])
        )


@pytest.mark.parametrize(
    ("case", "item", "on_chief", "on_other"),
    [
        ("epochs", "epochs: ", "1", "2"),
        ("momentum", "optimizer 0: ", '"momentum": 0.5', '"momentum": 0.9'),
        (
            "elements",
            "elements of the data: ",
            "'float32 (1,)']",
            "'int32 (1,)']",
        ),
        (
            "layers",
            "shapes of weights: ",
            "/head/kernel (8, 1) float32",
            "/other/kernel (8, 1) float32",
        ),
        ("batch", "samples of a step: ", "16", "8"),
    ],
)
def test_fit_refuses_to_train_different_programs(
    reports, case, item, on_chief, on_other
):
    for worker in reports:
        rule, _, received = worker[case]["end"].partition(" Received ")
        assert rule == (
            "RuntimeError: Every worker must train the same model in the same "
            "way."
        )
        assert received.startswith(item)
        chiefs, _, others = received.partition(" on worker 0, ")
        assert on_chief in chiefs
        assert on_other in others.partition(" on worker 1")[0]


def test_fit_refuses_to_train_on_other_versions(reports):
    own = {
        "Python": platform.python_version(),
        "TensorFlow": tf.__version__,
        "Keras": keras.__version__,
        "tfdp": tfdp.__version__,
    }
    fakes = "3.99.0", "2.99.0", "3.99.0", "0.99.0"
    received = "; ".join(
        f"version of {name}: {version!r} on worker 0, {fake!r} on worker 1"
        for (name, version), fake in zip(own.items(), fakes, strict=True)
    )
    for worker in reports:
        assert worker["versions"]["end"] == (
            "RuntimeError: Every worker must train the same model in the same "
            f"way. Received {received}. Run the same program with the same "
            "arguments and versions on every worker."
        )


def test_weights_that_differ_become_the_chiefs(reports):
    for worker in reports:
        assert worker["weights"]["end"] == ""
        assert worker["weights"]["after"] == reports[0]["weights"]["chiefs"]


def test_the_chief_warns_of_weights_that_differ(reports):
    warned, silent = (
        [w for w in worker["weights"]["warnings"] if "same weights" in w]
        for worker in reports
    )
    (warning,) = warned
    assert "Received: other values than the chief's of " in warning
    assert "/head/kernel" in warning
    assert silent == []


def test_shards_that_overlap_are_warned_of(reports):
    for here, worker in enumerate(reports):
        (warning,) = worker["not sharded"]
        assert "a shard of its own" in warning
        assert (
            f"64 of the first 64 samples of worker {here} among those of "
            f"worker {1 - here}."
        ) in warning


def test_shards_of_their_own_are_not_warned_of(reports):
    assert [worker["sharded"] for worker in reports] == [[], []]


def test_arrays_in_another_order_on_one_worker_are_refused(reports):
    for worker in reports:
        assert worker["permuted"]["end"].startswith(
            "ValueError: Every worker must be given the same samples in the "
            "same order. Received: other samples than the chief's, or in "
            "another order, on worker 1."
        )


# Asked for in the third micro-batch, of an update of one or two of them.
@pytest.mark.parametrize(
    ("case", "end"), [("stopped", ""), ("interrupted", "KeyboardInterrupt: ")]
)
@pytest.mark.parametrize(
    ("steps", "batches", "updates"), [(1, 4, 4), (2, 4, 2)]
)
def test_a_worker_ends_training_for_all_after_the_same_update(
    reports, case, end, steps, batches, updates
):
    for worker in reports:
        found = worker[case][steps - 1]
        assert found["end"] == end
        assert (found["batches"], found["updates"]) == (batches, updates)


def test_ctrl_c_belongs_to_whom_it_did_afterwards(reports):
    for worker in reports:
        assert all(each["is given back"] for each in worker["interrupted"])


def test_a_process_may_have_a_second_strategy(reports):
    assert [worker["second strategy"] for worker in reports] == [2, 2]


def make_another(key, values):
    """Makes variables that are others on worker 1."""
    strategy = tfdp.auto_strategy()
    given = {"units": 1, "dtype": "float32", "optimizer": "SGD"}
    given[key] = values[strategy.worker_index]
    optimizer = given.pop("optimizer")
    with strategy.scope():
        head = keras.layers.Dense(**given)
        head.build((None, 8))
        keras.optimizers.get(optimizer).build(head.trainable_variables)
        keras.metrics.Mean()


@pytest.mark.parametrize(
    ("key", "values", "received"),
    [
        (
            "units",
            [1, 2],
            [
                "'kernel' of shape (8, 1), float32,",
                "'kernel' of shape (8, 2), float32,",
            ],
        ),
        pytest.param(
            "dtype",
            ["float32", "float64"],
            [
                "'kernel' of shape (8, 1), float32,",
                "'kernel' of shape (8, 1), float64,",
            ],
            marks=pytest.mark.long,
        ),
        pytest.param(
            "optimizer",
            ["SGD", "Adam"],
            [
                "'total' of shape (), float32,",
                "'dense_kernel_momentum' of shape (8, 1), float32,",
            ],
            marks=pytest.mark.long,
        ),
    ],
)
def test_variables_that_differ_are_named(key, values, received):
    with pytest.raises(
        RuntimeError, match="Every worker must make the same variables in the"
    ) as caught:
        tfdp.testing.run_workers(make_another, 2, [key, values])
    # Of the worker that is told first.
    assert any(
        f"Received: {variable} on worker {worker}, at a place where another "
        "worker has made another, or none." in str(caught.value)
        for worker, variable in enumerate(received)
    )


def build_another(name):
    """Builds what is another optimizer, or model, on worker 1, or slots."""
    strategy = tfdp.auto_strategy()
    is_other = strategy.worker_index == 1
    with strategy.scope():
        # Of other values on each worker, were it not for the chief's.
        keras.utils.set_random_seed(strategy.worker_index)
        head = keras.layers.Dense(1)
        head.build((None, 2 if is_other and name == "weights" else 1))
        chosen = "SGD" if is_other and name == "optimizer" else "Adam"
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.get(chosen))
        optimizer.build(head.trainable_variables)
        late = keras.Variable("glorot_uniform", shape=(3,))
        others = [
            keras.Variable(strategy.worker_index, dtype=kind)
            for kind in ("bfloat16", "uint8", "int64")
        ]
    made = (*head.weights, *optimizer.variables, late, *others)
    return [keras.ops.convert_to_numpy(each).tolist() for each in made]


def test_workers_that_fill_slots_alone_have_the_same_variables():
    one, other = tfdp.testing.run_workers(build_another, 2, ["nothing"])
    assert one == other
    assert one[0] != [0]


def half(strategy=None):
    """A loss of a model all in bfloat16, after two epochs."""
    strategy = strategy or tfdp.auto_strategy()
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((4,), dtype="bfloat16"),
                keras.layers.Dense(8, dtype="bfloat16"),
                keras.layers.Dense(1, dtype="bfloat16"),
            ]
        )
        sgd = keras.optimizers.SGD(0.05)
        model.compile(tfdp.DistributedOptimizer(sgd), "mse")
    fitted = model.fit(
        x,
        x[:, :1],
        batch_size=16,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    return fitted.history["loss"]


def test_a_model_all_in_bfloat16_trains_on_workers():
    one, other = tfdp.testing.run_workers(half, 2)
    assert one == other
    expected = half(tfdp.MirroredStrategy(["CPU:0"]))
    np.testing.assert_allclose(one, expected, rtol=2e-2)
    assert one[1] < 0.9 * one[0]


def test_another_optimizer_is_told_before_its_slots_are_made():
    with pytest.raises(RuntimeError, match="Every worker must train") as caught:
        tfdp.testing.run_workers(build_another, 2, ["optimizer"])
    assert "optimizer: 'Adam' on worker 0, 'SGD' on worker 1" in str(
        caught.value
    )
