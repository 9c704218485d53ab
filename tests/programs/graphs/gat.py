"""Graph attention on padded graphs, with the example's own steps."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from program import Program, stream


class GraphAttention(layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.kernel = layers.Dense(units, use_bias=False)
        self.score = layers.Dense(1, use_bias=False)

    def call(self, states, edges):
        states = self.kernel(states)
        count = ops.shape(states)[1]
        pairs = ops.concatenate(
            [
                ops.repeat(states[:, :, None], count, axis=2),
                ops.repeat(states[:, None], count, axis=1),
            ],
            axis=-1,
        )
        scores = ops.leaky_relu(self.score(pairs)[..., 0])
        scores = ops.softmax(scores + (edges - 1) * 1e9, axis=-1)
        return ops.matmul(scores * edges, states)


class GraphAttentionNetwork(keras.Model):
    def __init__(self, units, outputs):
        super().__init__()
        self.preprocess = layers.Dense(units, activation="gelu")
        self.attention_layers = [GraphAttention(units) for _ in range(2)]
        self.output_layer = layers.Dense(outputs)

    def call(self, inputs):
        states, edges, is_node = inputs
        x = self.preprocess(states)
        for layer in self.attention_layers:
            x = layer(x, edges) + x
        x = ops.sum(x * is_node[..., None], axis=1)
        return self.output_layer(x)

    def train_step(self, data):
        inputs, labels = data
        with tf.GradientTape() as tape:
            outputs = self(inputs, training=True)
            loss = self.compute_loss(y=labels, y_pred=outputs)
        grads = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply(grads, self.trainable_weights)
        self.compute_metrics(None, labels, outputs, None)
        return {m.name: m.result() for m in self.metrics}

    def test_step(self, data):
        inputs, labels = data
        outputs = self(inputs, training=False)
        self.compute_loss(y=labels, y_pred=outputs)
        self.compute_metrics(None, labels, outputs, None)
        return {m.name: m.result() for m in self.metrics}


def make(way):
    model = GraphAttentionNetwork(6, 3)
    model.compile(
        way.optimizer(keras.optimizers.SGD(0.05, momentum=0.9)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="acc")],
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    count = random.integers(2, 6, (53, 1))
    is_node = (np.arange(5) < count).astype("float32")
    edges = (random.uniform(size=(53, 5, 5)) < 0.5).astype("float32")
    edges = np.maximum(edges, np.eye(5, dtype="float32"))
    edges *= is_node[:, :, None] * is_node[:, None]
    states = random.normal(size=(53, 5, 4)).astype("float32")
    y = random.integers(0, 3, 53)
    x = (states * is_node[..., None], edges, is_node)
    held_out = stream(tuple(p[:16] for p in x), y[:16], batch=8)["x"]
    return stream(x, y, batch=batch) | {"validation_data": held_out}


PROGRAM = Program(make, data, is_long=True)
