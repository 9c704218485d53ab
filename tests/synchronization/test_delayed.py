"""Updates that are one late, against plain Keras that waits as long."""

import keras
import local_updates
import numpy as np
import pytest
import tensorflow as tf

import tfdp

KINDS = {
    "sgd": lambda: keras.optimizers.SGD(0.05),
    "clipped AdamW": lambda: keras.optimizers.AdamW(
        0.01, weight_decay=0.1, global_clipnorm=0.2
    ),
    "averaged": lambda: keras.optimizers.Adam(0.01, use_ema=True),
}


def trained(strategy, make_optimizer, num_samples, **options):
    with strategy.scope():
        model = local_updates.make_model()
        optimizer = tfdp.DistributedOptimizer(
            make_optimizer(), synchronization=tfdp.Delayed(), **options
        )
        model.compile(optimizer, "mse")
    data = tf.data.Dataset.from_tensor_slices(local_updates.arrays(num_samples))
    model.fit(
        data.batch(local_updates.GLOBAL_BATCH),
        epochs=local_updates.EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    return model


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_samples", [256, 241])
def test_each_update_is_one_late(strategy, kind, num_samples):
    model = trained(strategy, KINDS[kind], num_samples)
    expected, updates = local_updates.one_late(KINDS[kind], num_samples)
    assert model.optimizer.iterations.numpy() == updates
    for variable, value in zip(
        model.trainable_variables, expected, strict=True
    ):
        np.testing.assert_allclose(variable.numpy(), value, rtol=0, atol=1e-6)


def test_compression_rounds_what_waits(two_replicas):
    model = trained(two_replicas, KINDS["sgd"], 256, compression="bfloat16")
    expected, _ = local_updates.one_late(KINDS["sgd"], 256)
    for variable, value in zip(
        model.trainable_variables, expected, strict=True
    ):
        np.testing.assert_allclose(variable.numpy(), value, atol=5e-3)


def test_a_gradient_that_waits_is_not_saved_without(two_replicas, tmp_path):
    with two_replicas.scope():
        model = local_updates.make_model()
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.1), synchronization=tfdp.Delayed()
        )
        model.compile(optimizer, "mse")
    x, y = local_updates.arrays(64)
    model.train_on_batch(x, y)
    with pytest.raises(RuntimeError, match="all that its replicas have seen"):
        model.save(tmp_path / "model.keras")
    optimizer.flush()
    assert optimizer.iterations.numpy() == 1
    model.save(tmp_path / "model.keras")


def test_other_variables_are_refused_while_gradients_wait(two_replicas):
    with two_replicas.scope():
        variables = [keras.Variable([0.0]), keras.Variable([0.0])]
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(1.0), synchronization=tfdp.Delayed()
        )
        optimizer.build(variables)

    def step(of):
        two_replicas.run(
            lambda x: optimizer.apply([x for _ in of], of),
            args=(tf.constant([1.0]),),
        )

    step(variables)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="of the same variables"
    ):
        step(variables[:1])
