"""What is not on the device where it is looked for is named."""

import keras
import pytest
from staged import GROUPS

import tfdp

LAYERS = keras.layers


@pytest.fixture
def groups():
    return tfdp.MirroredStrategy(groups=GROUPS)


def audit(strategy, layers, inputs=(8,)):
    with strategy.scope():
        model = keras.Sequential(
            [*([] if inputs is None else [keras.Input(inputs)]), *layers()]
        )
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1)), "mse"
        )
    return tfdp.audit(model)


def only(findings):
    (found,) = findings
    return found


def test_a_model_of_stages_is_sound(groups):
    def layers():
        nested = keras.Sequential([keras.Input((8,)), LAYERS.Dense(2)])
        attention = LAYERS.MultiHeadAttention(1, 2)
        inputs = keras.Input((3, 2))
        own = keras.Model(inputs, attention(inputs, inputs))
        return [
            tfdp.Pipeline(
                [
                    tfdp.Stage([nested, LAYERS.RepeatVector(3)], 0),
                    tfdp.Stage([own, LAYERS.Flatten(), LAYERS.Dense(1)], 1),
                ],
                2,
            )
        ]

    assert audit(groups, layers) == []
    assert audit(tfdp.MirroredStrategy(GROUPS[0]), layers) == []


def test_a_layer_outside_of_stages_is_named(groups):
    class Outside(keras.layers.Layer):
        """With a layer inside, which it stands for."""

        def __init__(self):
            super().__init__(name="outside")
            self.inner = LAYERS.Dense(3, name="inner")

        def build(self, shape):
            self.inner.build(shape)

        def call(self, inputs):
            return self.inner(inputs)

    def layers():
        return [
            Outside(),
            tfdp.Stage([LAYERS.Dense(3)], 1),
            LAYERS.Dense(1, name="head"),
        ]

    found = only(audit(groups, layers))
    assert found.severity == "note"
    assert found.where == (
        "`outside`, `head` in none, and so on the first of the 2 devices of "
        "each replica"
    )
    one_each = tfdp.MirroredStrategy(groups=[["CPU:0"], ["CPU:1"]])
    single = tfdp.Stage([LAYERS.Dense(1)], 0)
    assert audit(one_each, lambda: [LAYERS.Dense(3), single]) == []


def test_groups_without_any_stage_are_told_of(groups):
    found = only(audit(groups, lambda: [LAYERS.Dense(1, name="alone")]))
    assert found.severity == "note"
    assert "`alone` in none" in found.where


def test_a_stage_beyond_the_group_is_an_error(groups):
    def layers():
        return [tfdp.Stage([LAYERS.Dense(1)], 2, name="beyond")]

    found = only(audit(groups, layers, inputs=None))
    assert found.severity == "error"
    assert "`beyond` with index 2, and groups of 2" in found.where


def test_a_layer_in_stages_of_several_devices_is_named(groups):
    def layers():
        shared = LAYERS.Dense(8, name="shared")
        return [tfdp.Stage([shared], i) for i in (0, 1)]

    found = only(audit(groups, layers))
    assert found.severity == "note"
    assert "`shared` in stages of several devices" in found.where


def test_batch_normalization_of_micro_batches_is_a_note():
    strategy = tfdp.MirroredStrategy(["CPU:0"])

    def layers(micro_batches=2, **arguments):
        layer = LAYERS.BatchNormalization(name="normal", **arguments)
        return [tfdp.Pipeline([tfdp.Stage([layer], 0)], micro_batches)]

    found = only(audit(strategy, layers))
    assert (found.severity, found.where) == ("note", "`normal`")
    assert audit(strategy, lambda: layers(1)) == []
    assert audit(strategy, lambda: layers(trainable=False)) == []
