"""Ways to train a small model, and the oracle for each.

The oracle is plain Keras on one device with one large batch. Nothing here
knows of tfdp, nor of strategies, but for the losses that are handed in.
"""

import dataclasses
import functools

import keras
import numpy as np
import problem
import tensorflow as tf

GLOBAL_BATCH = 48
EPOCHS = 3
CLASSES, LENGTH = 4, 6
OPTIMIZERS = {
    "Adadelta": {"learning_rate": 1.0},
    "Adafactor": {"learning_rate": 0.01},
    "Adagrad": {"learning_rate": 0.05},
    "Adam": {"learning_rate": 0.01, "amsgrad": True},
    "AdamW": {"learning_rate": 0.01},
    "Adamax": {"learning_rate": 0.01},
    "Ftrl": {"learning_rate": 0.05},
    "Lamb": {"learning_rate": 0.01},
    "Lion": {"learning_rate": 0.001},
    "Muon": {"learning_rate": 0.01},
    "Nadam": {"learning_rate": 0.01},
    "RMSprop": {"learning_rate": 0.005, "momentum": 0.9, "centered": True},
    "SGD": {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    "ScheduleFreeAdamW": {"learning_rate": 0.01},
}
DOMAINS = {
    "optimizer": tuple(OPTIMIZERS),
    "option": (
        "plain",
        "clipnorm",
        "global_clipnorm+callable",
        "clipvalue+schedule",
        "weight_decay",
        "ema",
        "ema_overwrite",
    ),
    "model": ("dense", "constrained", "conv", "embedding", "batchnorm"),
    "loss": ("mean", "sample_weight", "class_weight", "weighted", "masked"),
    "replicas": (1, 2, 4),
    "steps": (1, 2, 3, 8),
    "num_samples": (240, 247, 193, 1),
    "precision": ("float32", "mixed_bfloat16", "mixed_float16"),
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """One way to train; printed as the argument that `read` takes."""

    optimizer: str = "SGD"
    option: str = "plain"
    model: str = "dense"
    loss: str = "mean"
    replicas: int = 2
    steps: int = 1
    num_samples: int = 193
    precision: str = "float32"

    def __str__(self):
        return ",".join(map(str, dataclasses.astuple(self)))

    @property
    def is_possible(self):
        """Whether one device with one large batch is the right oracle."""
        last = self.num_samples % (GLOBAL_BATCH // self.steps)
        if self.model == "batchnorm":
            # Statistics are a micro-batch's; of no rows there are none, and
            # those of a few are mostly rounding in half precision.
            is_exact = self.steps == 1 and self.precision == "float32"
            return is_exact and not 0 < last < self.replicas
        return hasattr(keras.optimizers, self.optimizer)

    @property
    def tolerance(self):
        if self.precision != "float32":
            return 5e-3
        return 1e-6 if self.optimizer == "SGD" else 1e-5

    @property
    def is_sensitive(self):
        """Whether rounding alone may move weights by more than that.

        An update of about the sign of the gradient makes much of a little.
        """
        is_half = self.precision != "float32"
        by_sign = self.optimizer in ("Lion", "Muon")
        return by_sign or (is_half and self.optimizer != "SGD")


def read(text):
    """Returns the setting that prints as `text`."""
    values = text.split(",")
    fields = dataclasses.fields(Setting)
    return Setting(*(f.type(v) for f, v in zip(fields, values, strict=True)))


def possible(values):
    """Whether the first fields of a setting can be part of one."""
    if len(values) < len(DOMAINS):
        return True
    return Setting(*values).is_possible


def arrays(setting):
    """Returns x, y and the weights of samples or places, or `None`."""
    random = np.random.default_rng(setting.num_samples)
    n = setting.num_samples
    tokens = random.integers(0, 5, (n, LENGTH))
    x = random.normal(size=(n, LENGTH, 3)).astype("float32")
    y = random.integers(0, CLASSES, n)
    if setting.model == "embedding":
        x = tokens
    if setting.loss == "masked":
        y = np.where(tokens == 0, -1, tokens % CLASSES)
        # Of a sample that is all ignored there is nothing to learn.
        y[0] = -1
        y[0, : setting.num_samples == 1] = 1
    weights = None
    if setting.loss in ("sample_weight", "weighted"):
        weights = random.uniform(0, 2, n).astype("float32")
    return x, y, weights


def dataset(setting, batch, order=None):
    data = [part for part in arrays(setting) if part is not None]
    if order is not None:
        data = [part[order] for part in data]
    data = tf.data.Dataset.from_tensor_slices(tuple(data)).batch(batch)
    return problem.untuned(data)


def fit_arguments(setting):
    if setting.loss == "class_weight":
        return {"class_weight": {0: 0.5, 1: 2.0, 2: 1.0, 3: 3.0}}
    return {}


def make_model(setting, model_class=keras.Model):
    """Returns a model with logits per sample, or per place if masked."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    constraint = l2 = None
    if setting.model == "constrained":
        constraint = keras.constraints.MaxNorm(0.5)
    if setting.model == "dense":
        l2 = keras.regularizers.L2(0.01)
    if setting.model == "embedding":
        inputs = keras.Input((LENGTH,), dtype="int32")
        hidden = layers.Embedding(5, 8)(inputs)
    else:
        inputs = keras.Input((LENGTH, 3))
        hidden = layers.Dense(3, trainable=False)(inputs)
    if setting.model in ("conv", "batchnorm"):
        hidden = layers.Conv1D(8, 3, padding="same", use_bias=False)(hidden)
    if setting.model == "batchnorm":
        hidden = layers.BatchNormalization(synchronized=True)(hidden)
    hidden = layers.Dense(
        8, "tanh", kernel_constraint=constraint, kernel_regularizer=l2
    )(hidden)
    if setting.loss != "masked":
        hidden = layers.Flatten()(hidden)
    outputs = layers.Dense(CLASSES, dtype="float32")(hidden)
    return model_class(inputs, outputs)


def make_optimizer(setting):
    arguments = dict(OPTIMIZERS[setting.optimizer])
    rate = arguments["learning_rate"]
    for part in setting.option.split("+"):
        arguments |= {
            "plain": {},
            "clipnorm": {"clipnorm": 0.05},
            "global_clipnorm": {"global_clipnorm": 0.05},
            "clipvalue": {"clipvalue": 0.01},
            "callable": {"learning_rate": lambda: rate},
            "schedule": {
                "learning_rate": keras.optimizers.schedules.ExponentialDecay(
                    rate, 2, 0.7
                )
            },
            "weight_decay": {"weight_decay": 0.05},
            "ema": {"use_ema": True, "ema_momentum": 0.9},
            "ema_overwrite": {
                "use_ema": True,
                "ema_momentum": 0.9,
                "ema_overwrite_frequency": 2,
            },
        }[part]
    return getattr(keras.optimizers, setting.optimizer)(**arguments)


def make_loss(setting):
    """Returns a plain Keras loss, and whether it is no mean over samples."""
    arguments = {"from_logits": True}
    if setting.loss == "masked":
        arguments["ignore_class"] = -1
    if setting.loss == "weighted":
        arguments["reduction"] = "mean_with_sample_weight"
    loss = keras.losses.SparseCategoricalCrossentropy(**arguments)
    return loss, setting.loss in ("masked", "weighted")


class Summed(keras.Model):
    """Adds up gradients of the same row, as Keras 2 did."""

    def train_step(self, data):
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            outputs = self(x, training=True)
            loss = self.compute_loss(x, y, outputs, weights)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.trainable_weights)
        self.optimizer.apply_gradients(
            (tf.convert_to_tensor(gradient), weight)
            for gradient, weight in zip(
                gradients, self.trainable_weights, strict=True
            )
        )
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(y)[0])
        return {"loss": self._loss_tracker.result()}


@functools.cache
def oracle(setting, order=None):
    """Trains on one device with one large batch.

    Args:
        setting: How, whatever its replicas and steps.
        order: `"permuted"` to permute the rows inside of each batch.

    Returns:
        The weights, the history, and the number of updates.
    """
    if order:
        random = np.random.default_rng(0)
        starts = range(0, setting.num_samples, GLOBAL_BATCH)
        order = np.concatenate(
            [
                random.permutation(
                    range(s, min(s + GLOBAL_BATCH, setting.num_samples))
                )
                for s in starts
            ]
        )
    keras.config.set_dtype_policy(setting.precision)
    model = make_model(setting, Summed)
    optimizer = make_optimizer(setting)
    # Built in the first step it would begin with other values.
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, make_loss(setting)[0], auto_scale_loss=False)
    history = model.fit(
        dataset(setting, GLOBAL_BATCH, order),
        validation_data=dataset(setting, GLOBAL_BATCH),
        epochs=EPOCHS,
        verbose=0,
        **fit_arguments(setting),
    ).history
    return model.get_weights(), history, int(optimizer.iterations.numpy())


def oracle_of(setting):
    """Returns `oracle` in float32, once for all replicas and steps."""
    return oracle(_on_one_device(setting, "float32"))


def deviation_of_rounding(setting):
    """Returns how far one device is from the oracle by rounding alone.

    With the rows of each batch in another order, and in the same precision.
    """
    one = _on_one_device(setting, setting.precision)
    return deviation(oracle(one, "permuted")[0], oracle_of(setting)[0])


def deviation(actual, expected):
    """Largest difference of weights, relative where they exceed 1."""
    return max(
        float(np.max(np.abs(a - e) / np.maximum(1, np.abs(e))))
        for a, e in zip(actual, expected, strict=True)
    )


def _on_one_device(setting, precision):
    return dataclasses.replace(
        setting, replicas=1, steps=1, precision=precision
    )
