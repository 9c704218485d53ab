"""Where gradients of the replicas of one process are added up."""

import keras
import pytest
import tensorflow as tf

import tfdp


@pytest.mark.parametrize(
    ("cross_device_ops", "divisions"),
    [(None, 1), (tf.distribute.ReductionToOneDevice(), 0)],
)
def test_cpus_share_each_mean_unless_told_how_to_reduce(
    cross_device_ops, divisions
):
    strategy = tfdp.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops)
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        sgd = keras.optimizers.SGD(0.1)
        model.compile(tfdp.DistributedOptimizer(sgd), "mse")
        model.optimizer.build(model.trainable_variables)

    @tf.function
    def step(x, y):
        return strategy.run(model.train_step, ((x, y),))

    graph = step.get_concrete_function(tf.ones((8, 4)), tf.ones((8, 1))).graph
    shared = [
        each
        for each in graph.get_operations()
        if each.type == "DivNoNan" and "tfdp_sum" in each.name
    ]
    # Both gradients are of one pack.
    assert len(shared) == divisions
