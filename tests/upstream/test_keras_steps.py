"""Which private name of Keras moved, of those that `keras_steps` uses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contracts import contract

from tfdp.upstream.keras import keras_steps


def make(*layers, loss="mse", **compile):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((2,)), *layers, keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.1), loss, **compile)
    return model


@contract(
    "_jit_compile",
    serves="`jit_compile=True` has Keras compile collectives, which fails",
)
def test_a_model_answers_what_is_false_and_is_known_until_it_is_compiled():
    model = make(jit_compile=True)
    assert keras_steps.compiles(model)
    keras_steps.compile_inside(model)
    assert not model.jit_compile
    assert keras_steps.compiles(model)
    keras_steps.compile_inside(model)
    model.make_train_function()
    model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0)
    model.compile("sgd", "mse", jit_compile=False)
    assert not keras_steps.compiles(model)
    keras_steps.compile_inside(model)
    assert not keras_steps.compiles(model)


@contract(
    "_compile_config",
    serves="nobody is told which layers keep a model from being compiled",
)
def test_keras_remembers_that_it_was_asked_to_compile():
    layer = keras.layers.Dense(2)
    layer.supports_jit = False
    with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
        model = make(layer, jit_compile=True)
    assert model.jit_compile is False
    assert keras_steps.was_refused(model)
    assert not keras_steps.was_refused(make(jit_compile=False))
    assert not keras_steps.was_refused(make(jit_compile="auto"))
    assert not keras_steps.was_refused(make(jit_compile=True))
    with pytest.warns(UserWarning, match="If `run_eagerly` is True"):
        eager = make(jit_compile=True, run_eagerly=True)
    assert not keras_steps.was_refused(eager)


@contract(
    "_compute_loss",
    "_loss_tracker",
    "_call_has_training_arg",
    serves="compiled replicas train unlike Keras, or log another loss",
)
@pytest.mark.parametrize("takes_training", [True, False])
def test_the_parts_of_a_step_make_up_kerass(takes_training):
    class Plain(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    class Doubling(keras.layers.Layer):
        def call(self, x, training=False):
            return 2 * x if training else x

    kind = Doubling if takes_training else Plain
    regularized = keras.layers.Dense(2, activity_regularizer="l2")
    x, y = tf.constant([[1.0, 2.0], [3.0, 5.0]]), tf.constant([[1.0], [-1.0]])
    sample_weight = tf.constant([1.0, 3.0])
    whole = make(regularized, kind())
    logs = whole.train_step((x, y, sample_weight))
    model = make(keras.layers.Dense(2, activity_regularizer="l2"), kind())
    with tf.GradientTape() as tape:
        loss, outputs = keras_steps.loss_and_outputs(model, x, y, sample_weight)
    gradients = tape.gradient(loss, model.trainable_weights)
    keras_steps.log_loss(model, loss, {"first": None, "x": x})
    model.optimizer.apply_gradients(
        zip(gradients, model.trainable_weights, strict=True)
    )
    own = model.compute_metrics(x, y, outputs, sample_weight=sample_weight)
    assert own.keys() == logs.keys()
    np.testing.assert_allclose(own["loss"], logs["loss"], rtol=1e-6)
    for weight, same in zip(
        model.get_weights(), whole.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(weight, same)


@contract(
    "Trainer.train_step",
    serves="compiled replicas leave out what a newer step of Keras's does",
)
def test_a_step_of_kerass_does_what_its_parts_do_and_no_more():
    """In this order; what it calls besides would have to be called, too."""
    called = set(keras.Model.train_step.__code__.co_names)
    assert called <= {
        *("data_adapter_utils", "unpack_x_y_sample_weight", "shape", "next"),
        *("tf", "GradientTape", "_call_has_training_arg", "_compute_loss"),
        *("_loss_tracker", "update_state", "flatten", "tree", "loss_module"),
        *("unscale_loss_for_distribution", "optimizer", "scale_loss"),
        *("trainable_weights", "gradient", "apply_gradients", "zip"),
        *("warnings", "warn", "compute_metrics"),
    }


@contract(
    "Layer.__call__",
    "Loss.__call__",
    serves="what asks for other replicas in a compiled one is not named",
)
def test_the_layer_or_loss_that_is_called_is_found():
    found = []

    class Looking(keras.layers.Layer):
        def call(self, x):
            found.append(keras_steps.at_work())
            return x

    class Loss(keras.losses.Loss):
        def call(self, y_true, y_pred):
            found.append(keras_steps.at_work())
            return y_pred

    layer, loss = Looking(), Loss()
    layer(tf.ones([2, 1]))
    loss(tf.ones([2, 1]), tf.ones([2, 1]))
    assert found == [layer, loss]
    assert keras_steps.at_work() is None
