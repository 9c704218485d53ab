"""Models with steps of their own, in the manner of Keras's examples.

Nothing here knows of tfdp. Noise comes with the data, so that one device and
several replicas see the same.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

SAMPLES = 41
BATCH = 8


def divided(loss):
    """As TensorFlow's guide has it, of a loss that is not Keras's."""
    return loss / tf.distribute.get_strategy().num_replicas_in_sync


def mean(values):
    return divided(ops.mean(values))


def arrays(*widths):
    random = np.random.default_rng(len(widths))
    return tuple(
        random.normal(size=(SAMPLES, width)).astype("float32")
        for width in widths
    )


def updated(model, tape, loss, part, optimizer):
    weights = part.trainable_weights
    optimizer.apply_gradients(
        zip(tape.gradient(loss, weights), weights, strict=True)
    )


class DCGAN(keras.Model):
    """Two optimizers, Keras's loss, trackers, no `call`, nothing built."""

    data = arrays(6, 3)

    def __init__(self):
        super().__init__()
        self.judge = keras.Sequential(
            [layers.Dense(8), layers.LeakyReLU(), layers.Dense(1)]
        )
        self.maker = keras.Sequential(
            [layers.Dense(8, "relu"), layers.Dense(6)]
        )

    def compile(self, make_optimizer):
        super().compile()
        self.judge_optimizer = make_optimizer()
        self.maker_optimizer = make_optimizer()
        self.loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)
        self.judge_metric = keras.metrics.Mean(name="d_loss")
        self.maker_metric = keras.metrics.Mean(name="g_loss")

    @property
    def metrics(self):
        return [self.judge_metric, self.maker_metric]

    def train_step(self, data):
        real, noise = data
        both = ops.concatenate([self.maker(noise), real])
        labels = ops.concatenate(
            [ops.ones_like(real[:, :1]), ops.zeros_like(real[:, :1])]
        )
        with tf.GradientTape() as tape:
            d_loss = self.loss_fn(labels, self.judge(both))
        updated(self, tape, d_loss, self.judge, self.judge_optimizer)
        with tf.GradientTape() as tape:
            made = self.judge(self.maker(noise))
            g_loss = self.loss_fn(ops.zeros_like(real[:, :1]), made)
        updated(self, tape, g_loss, self.maker, self.maker_optimizer)
        self.judge_metric.update_state(d_loss)
        self.maker_metric.update_state(g_loss)
        return {
            "d_loss": self.judge_metric.result(),
            "g_loss": self.maker_metric.result(),
        }


class VAE(keras.Model):
    """Losses by hand, divided by the replicas; a `test_step` of its own."""

    data = arrays(6, 2)

    def __init__(self):
        super().__init__()
        self.encoder = keras.Sequential(
            [layers.Dense(8, "tanh"), layers.Dense(4)]
        )
        self.decoder = keras.Sequential(
            [layers.Dense(8, "tanh"), layers.Dense(6)]
        )
        self.total = keras.metrics.Mean(name="loss")
        self.kl = keras.metrics.Mean(name="kl_loss")

    def compile(self, make_optimizer):
        super().compile(make_optimizer())

    @property
    def metrics(self):
        return [self.total, self.kl]

    def losses_of(self, x, noise):
        center, spread = ops.split(self.encoder(x), 2, axis=-1)
        latent = center + ops.exp(0.5 * spread) * noise
        error = ops.sum(ops.square(x - self.decoder(latent)), axis=-1)
        kl = -0.5 * (1 + spread - ops.square(center) - ops.exp(spread))
        return mean(error), mean(ops.sum(kl, axis=1))

    def told(self, loss, kl):
        self.total.update_state(loss)
        self.kl.update_state(kl)
        return {m.name: m.result() for m in self.metrics}

    def train_step(self, data):
        with tf.GradientTape() as tape:
            error, kl = self.losses_of(*data)
            loss = error + kl
        updated(self, tape, loss, self, self.optimizer)
        return self.told(loss, kl)

    def test_step(self, data):
        error, kl = self.losses_of(*data)
        return self.told(error + kl, kl)


class Diffusion(keras.Model):
    """An average of the network's weights; a `normalizer` before it."""

    data = arrays(6, 6)

    def __init__(self):
        super().__init__()
        self.normalizer = layers.Normalization()
        self.normalizer.adapt(self.data[0])
        self.network = keras.Sequential(
            [keras.Input((6,)), layers.Dense(8, "tanh"), layers.Dense(6)]
        )
        self.average = keras.models.clone_model(self.network)

    def compile(self, make_optimizer):
        super().compile(make_optimizer(), loss=keras.losses.MeanAbsoluteError())
        self.noise_loss = keras.metrics.Mean(name="n_loss")

    @property
    def metrics(self):
        return [self.noise_loss]

    def train_step(self, data):
        images, noise = data
        images = self.normalizer(images)
        with tf.GradientTape() as tape:
            guess = self.network(0.8 * images + 0.6 * noise, training=True)
            loss = self.loss(noise, guess)
        updated(self, tape, loss, self.network, self.optimizer)
        for weight, kept in zip(
            self.network.weights, self.average.weights, strict=True
        ):
            kept.assign(0.9 * kept + 0.1 * weight)
        self.noise_loss.update_state(loss)
        return {m.name: m.result() for m in self.metrics}

    def test_step(self, data):
        images, noise = data
        guess = self.average(0.8 * self.normalizer(images) + 0.6 * noise)
        self.noise_loss.update_state(self.loss(noise, guess))
        return {m.name: m.result() for m in self.metrics}


class CycleGAN(keras.Model):
    """Four networks with an optimizer each; losses are returned, not kept."""

    data = arrays(4, 5)

    def __init__(self):
        super().__init__()
        self.to_y = keras.Sequential([layers.Dense(6, "tanh"), layers.Dense(5)])
        self.to_x = keras.Sequential([layers.Dense(6, "tanh"), layers.Dense(4)])
        self.judge_x = keras.Sequential(
            [layers.Dense(6, "tanh"), layers.Dense(1)]
        )
        self.judge_y = keras.Sequential(
            [layers.Dense(6, "tanh"), layers.Dense(1)]
        )

    def call(self, inputs):
        x, y, _, _ = inputs
        return self.to_y(x), self.to_x(y)

    def compile(self, make_optimizer):
        super().compile()
        self.optimizers = [make_optimizer() for _ in range(4)]
        self.cycle = keras.losses.MeanAbsoluteError()
        self.mse = keras.losses.MeanSquaredError()

    def train_step(self, data):
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            made_y, made_x = self.to_y(x), self.to_x(y)
            judged = self.judge_x(made_x), self.judge_y(made_y)
            again = self.cycle(x, self.to_x(made_y)) * 10.0
            again += self.cycle(y, self.to_y(made_x)) * 10.0
            to_y = self.mse(ops.ones_like(judged[1]), judged[1]) + again
            to_x = self.mse(ops.ones_like(judged[0]), judged[0]) + again
            is_x, is_y = self.judge_x(x), self.judge_y(y)
            of_x = 0.5 * (
                self.mse(ops.ones_like(is_x), is_x)
                + self.mse(ops.zeros_like(is_x), judged[0])
            )
            of_y = 0.5 * (
                self.mse(ops.ones_like(is_y), is_y)
                + self.mse(ops.zeros_like(is_y), judged[1])
            )
        parts = [self.to_y, self.to_x, self.judge_x, self.judge_y]
        losses = [to_y, to_x, of_x, of_y]
        for part, loss, optimizer in zip(
            parts, losses, self.optimizers, strict=True
        ):
            updated(self, tape, loss, part, optimizer)
        return {"G": to_y, "F": to_x, "D_X": of_x, "D_Y": of_y}


class WGAN(keras.Model):
    """A penalty on gradients of gradients; losses are returned."""

    data = arrays(6, 3, 1)

    def __init__(self):
        super().__init__()
        self.critic = keras.Sequential(
            [layers.Dense(8, "tanh"), layers.Dense(1)]
        )
        self.maker = keras.Sequential(
            [layers.Dense(8, "tanh"), layers.Dense(6)]
        )

    def compile(self, make_optimizer):
        super().compile()
        self.critic_optimizer = make_optimizer()
        self.maker_optimizer = make_optimizer()

    def penalty(self, real, made, mix):
        between = real + mix * (made - real)
        with tf.GradientTape() as tape:
            tape.watch(between)
            judged = self.critic(between)
        slopes = tape.gradient(judged, between)
        norms = ops.sqrt(ops.sum(ops.square(slopes), axis=1) + 1e-6)
        return mean(ops.square(norms - 1.0))

    def train_step(self, data):
        real, noise, mix = data
        with tf.GradientTape() as tape:
            made = self.maker(noise)
            critic_loss = mean(self.critic(made)) - mean(self.critic(real))
            critic_loss += 10.0 * self.penalty(real, made, mix)
        updated(self, tape, critic_loss, self.critic, self.critic_optimizer)
        with tf.GradientTape() as tape:
            maker_loss = -mean(self.critic(self.maker(noise)))
        updated(self, tape, maker_loss, self.maker, self.maker_optimizer)
        return {"d_loss": critic_loss, "g_loss": maker_loss}


class Distiller(keras.Model):
    """Inputs, labels and something else; a compiled loss and metric."""

    data = arrays(6, 2, 2)

    def __init__(self):
        super().__init__()
        self.student = keras.Sequential(
            [layers.Dense(8, "tanh"), layers.Dense(2)]
        )

    def compile(self, make_optimizer):
        super().compile(make_optimizer(), loss="mse", metrics=["mae"])
        self.far = keras.losses.KLDivergence()

    def call(self, x):
        return self.student(x)

    def train_step(self, data):
        x, y, teacher = data
        with tf.GradientTape() as tape:
            guess = self.student(x, training=True)
            loss = 0.3 * self.compute_loss(y=y, y_pred=guess)
            loss += 0.7 * self.far(ops.softmax(teacher), ops.softmax(guess))
        updated(self, tape, loss, self.student, self.optimizer)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, guess)
        return {m.name: m.result() for m in self.metrics}


class Graph(keras.Model):
    """Samples are places in a graph that the model holds."""

    data = (np.arange(SAMPLES, dtype="int32"), arrays(3)[0])

    def __init__(self):
        super().__init__()
        self.states = ops.convert_to_tensor(arrays(5)[0])
        random = np.random.default_rng(0)
        self.links = ops.convert_to_tensor(
            random.uniform(size=(SAMPLES, SAMPLES)).astype("float32") / SAMPLES
        )
        self.first, self.last = layers.Dense(6, "tanh"), layers.Dense(3)

    def call(self, inputs):
        states, links = inputs
        return self.last(links @ self.first(links @ states))

    def compile(self, make_optimizer):
        super().compile(make_optimizer(), loss="mse", metrics=["mae"])

    def train_step(self, data):
        places, labels = data
        with tf.GradientTape() as tape:
            outputs = self((self.states, self.links))
            guess = ops.take(outputs, places, axis=0)
            loss = self.compute_loss(y=labels, y_pred=guess)
        updated(self, tape, loss, self, self.optimizer)
        return self.compute_metrics(None, labels, guess, None)


class Siamese(keras.Model):
    """Two views in a dictionary, similar sample by sample; weight decay."""

    data = dict(zip(("one", "other"), arrays(6, 6), strict=True))

    def __init__(self):
        super().__init__()
        self.encoder = keras.Sequential(
            [
                layers.Dense(8, "tanh", kernel_regularizer="l2"),
                layers.Dense(4),
            ]
        )
        self.similar = keras.losses.CosineSimilarity()
        self.tracker = keras.metrics.Mean(name="loss")

    def compile(self, make_optimizer):
        super().compile(make_optimizer())

    @property
    def metrics(self):
        return [self.tracker]

    def train_step(self, data):
        with tf.GradientTape() as tape:
            one, other = self.encoder(data["one"]), self.encoder(data["other"])
            loss = self.similar(ops.stop_gradient(other), one)
            loss += divided(ops.sum(self.encoder.losses))
        updated(self, tape, loss, self.encoder, self.optimizer)
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


class Counting(keras.metrics.Metric):
    """Returns its variable, as a metric in Keras's own guide does."""

    def __init__(self, how):
        super().__init__(name=f"count_{how}")
        self.how = how
        self.total = self.add_variable((), initializer="zeros", name="total")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(ops.sum(ops.ones_like(y_pred[:, 0])))

    def result(self):
        return {"variable": self.total, "value": self.total.value}[self.how]


class Variables(keras.Model):
    """Results that are variables: of metrics, and of a step."""

    data = arrays(6, 1)

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)
        self.steps = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="steps"
        )

    def call(self, x):
        return self.dense(x)

    def compile(self, make_optimizer):
        super().compile(
            make_optimizer(),
            "mse",
            metrics=[Counting("variable"), Counting("value")],
        )

    def test_step(self, data):
        return {**super().test_step(data), "steps": self.steps}


MODELS = {
    model.__name__: model
    for model in (
        DCGAN,
        VAE,
        Diffusion,
        CycleGAN,
        WGAN,
        Distiller,
        Graph,
        Siamese,
        Variables,
    )
}
HAVE_TEST_STEP = ("VAE", "Diffusion", "Variables")


def dataset(name, batch=BATCH):
    data = tf.data.Dataset.from_tensor_slices(MODELS[name].data).batch(batch)
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def made(name, make_optimizer):
    keras.utils.set_random_seed(3)
    model = MODELS[name]()
    model.compile(make_optimizer)
    return model


def train(name, model, **fit):
    """Returns the history, and what `evaluate` returns."""
    history = model.fit(
        dataset(name),
        validation_data=dataset(name) if name in HAVE_TEST_STEP else None,
        epochs=2,
        verbose=0,
        **fit,
    ).history
    if name not in HAVE_TEST_STEP:
        return history, None
    return history, model.evaluate(dataset(name), verbose=0)
