"""Gradients that a step changes, or logs, before replicas have met."""

import keras
import pytest
import tensorflow as tf
from parts import dense, difference, trained

CHANGED = "What a step makes of gradients, before an optimizer"
LOGGED = "What a step logs of gradients"


class Changing(keras.Model):
    """Changes its gradients before they are applied."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x, y, y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        gradients = self.changed(gradients)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self.compute_metrics(x, y, y_pred)


def changing(change):
    kind = type("Changing", (Changing,), {"changed": change})
    return dense(kind)


def finite(self, gradients):
    return [
        tf.where(tf.math.is_finite(each), each, tf.zeros_like(each))
        for each in gradients
    ]


PARTIAL = {
    "clip_by_global_norm": lambda self, g: tf.clip_by_global_norm(g, 0.1)[0],
    "clip_by_norm": lambda self, g: [tf.clip_by_norm(v, 0.1) for v in g],
    "clip_by_value": lambda self, g: [tf.clip_by_value(v, -1, 1) for v in g],
    "l2_normalize": lambda self, g: [tf.math.l2_normalize(v) for v in g],
    "sign": lambda self, g: [tf.sign(v) for v in g],
}
LINEAR = {
    "centralized": lambda self, g: [v - tf.reduce_mean(v, 0) for v in g],
    "decayed": lambda self, g: [
        v + 0.01 * w / tf.distribute.get_strategy().num_replicas_in_sync
        for v, w in zip(g, self.trainable_variables, strict=True)
    ],
    "scaled": lambda self, g: [v * 0.5 / 2.0 for v in g],
    "scaled by weights": lambda self, g: [
        v / (1.0 + tf.norm(w))
        for v, w in zip(g, self.trainable_variables, strict=True)
    ],
    "finite": finite,
    "sliced": lambda self, g: [tf.concat([v[:1], 0.5 * v[1:]], 0) for v in g],
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", PARTIAL)
def test_a_gradient_changed_on_each_replica_is_told_once(name):
    (message,) = trained(changing(PARTIAL[name]))[1]
    assert message.startswith(CHANGED)
    assert "`global_clipnorm`" in message


@pytest.mark.sampled
@pytest.mark.parametrize("name", LINEAR)
def test_a_gradient_changed_in_a_way_that_adds_up_is_exact(name):
    assert difference(changing(LINEAR[name])) <= 1e-5


def decayed(self, gradients):
    pairs = zip(gradients, self.trainable_variables, strict=True)
    return [gradient + 0.01 * weight for gradient, weight in pairs]


def test_what_is_added_without_being_divided_is_told_once():
    assert not trained(changing(decayed), replicas=1)[1]
    (message,) = trained(changing(decayed))[1]
    assert message.startswith("What a step adds to a gradient must be divided")


def test_a_gradient_changed_in_each_micro_batch_is_told_on_one_replica():
    make = changing(PARTIAL["sign"])
    assert not trained(make, replicas=1)[1]
    (message,) = trained(make, replicas=1, steps=2)[1]
    assert message.startswith(CHANGED)


class Signed(keras.optimizers.SGD):
    """What the message says of an `apply` of one's own."""

    def apply(self, grads, trainable_variables=None):
        super().apply([tf.sign(each) for each in grads], trainable_variables)


@pytest.mark.sampled
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(
    ("change", "inner"),
    [
        (
            "clip_by_global_norm",
            lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.1),
        ),
        ("clip_by_norm", lambda: keras.optimizers.SGD(0.1, clipnorm=0.1)),
        ("clip_by_value", lambda: keras.optimizers.SGD(0.1, clipvalue=1.0)),
        ("sign", lambda: Signed(0.1)),
    ],
)
def test_what_the_inner_optimizer_changes_is_as_on_one_device(
    change, inner, steps
):
    by_hand = trained(changing(PARTIAL[change]), replicas=1)[0].get_weights()
    model, told, _ = trained(dense(keras.Model), 2, steps, inner())
    assert not told
    found = max(
        abs(a - b).max()
        for a, b in zip(by_hand, model.get_weights(), strict=True)
    )
    assert found <= 1e-5


class Penalized(keras.Model):
    """Its loss holds the norms of gradients, of one for each sample."""

    def train_step(self, data):
        x, y = data
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        with tf.GradientTape() as tape:
            with tf.GradientTape() as inner:
                inner.watch(x)
                y_pred = self(x, training=True)
            norms = tf.norm(inner.gradient(y_pred, x), axis=1)
            penalty = tf.reduce_mean((norms - 1.0) ** 2) / replicas
            loss = self.compute_loss(x, y, y_pred) + penalty
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss, "penalty": penalty}


class OfSamples(keras.Model):
    """Clips the gradients of single samples, as for privacy."""

    def train_step(self, data):
        x, y = data
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        with tf.GradientTape() as tape:
            errors = tf.reduce_mean((self(x, training=True) - y) ** 2, -1)
        gradients = []
        for each in tape.jacobian(errors, self.trainable_variables):
            axes = list(range(1, each.shape.rank))
            clipped = tf.clip_by_norm(each, 0.1, axes=axes)
            gradients.append(tf.reduce_mean(clipped, 0) / replicas)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": tf.reduce_mean(errors)}


class InFunction(keras.Model):
    """Takes its gradient in a function, and parts of the loss one by one."""

    def train_step(self, data):
        x, y = data
        gradients = self.gradients(x, y)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self.compute_metrics(x, y, self(x))

    @tf.function
    def gradients(self, x, y):
        with tf.GradientTape(persistent=True) as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
            half = loss / 2
        first = tape.gradient(half, self.trainable_variables)
        second = tape.gradient(half, self.trainable_variables)
        return [a + b for a, b in zip(first, second, strict=True)]


@pytest.mark.sampled
@pytest.mark.parametrize("kind", [Penalized, OfSamples])
def test_steps_with_gradients_in_other_places_are_exact_and_not_told(kind):
    assert difference(dense(kind)) <= 1e-5


def test_gradients_out_of_a_function_are_not_told():
    told = trained(dense(InFunction))[1]
    assert not [each for each in told if each.startswith((CHANGED, LOGGED))]


class Logging(keras.Model):
    """Logs the norm of its gradient."""

    of_all = False
    by_metric = False

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        if self.of_all:
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce("SUM", gradients)
        norm = tf.linalg.global_norm(gradients)
        if not self.by_metric:
            return {"loss": loss, "norm": norm}
        self.norm.update_state(norm)
        return {"norm": self.norm.result()}

    @property
    def metrics(self):
        return [self.norm] if self.by_metric else []


def logging(**settings):
    def make():
        model = dense(type("Logging", (Logging,), settings))()
        model.norm = keras.metrics.Mean(name="norm")
        return model

    return make


@pytest.mark.sampled
@pytest.mark.parametrize("by_metric", [False, True])
def test_a_logged_norm_of_a_part_of_the_gradient_is_told_once(by_metric):
    (message,) = trained(logging(by_metric=by_metric))[1]
    assert message.startswith(LOGGED)
    assert "`norm` of Logging" in message


@pytest.mark.sampled
@pytest.mark.parametrize("by_metric", [False, True])
def test_a_logged_norm_of_the_gradient_of_all_is_that_of_one_device(by_metric):
    make = logging(of_all=True, by_metric=by_metric)
    *_, expected = trained(make, replicas=1)
    _, told, history = trained(make, replicas=2)
    assert not told
    assert history["norm"] == pytest.approx(expected["norm"], rel=1e-5)


def test_what_replicas_have_added_up_is_not_divided_again():
    class Summed(Changing):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            context = tf.distribute.get_replica_context()
            return {"loss": loss, "sum": context.all_reduce("SUM", loss)}

    history = trained(dense(Summed))[2]
    assert history["sum"] == pytest.approx(history["loss"], rel=1e-6)
