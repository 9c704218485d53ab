"""A sound model is never accused, and what is wrong with others is named."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp
from tfdp.audits import model_audit


def reals(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def classes(count, *shape):
    return np.random.default_rng(0).integers(count, size=shape)


def make(strategy, build, loss="mse", optimizer=None, **compile):
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = build()
        optimizer = optimizer or tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.1)
        )
        model.compile(optimizer, loss, **compile)
    return model


def stack(shape, *layers, dtype=None, model=keras.Sequential):
    """Returns a function that makes a stack of new layers."""

    def build():
        made = [layer() for layer in layers]
        return model([keras.Input(shape, dtype=dtype), *made])

    return build


def dense(units=1, activation=None, **arguments):
    return lambda: keras.layers.Dense(units, activation, **arguments)


def embedding(mask_zero=False):
    return lambda: keras.layers.Embedding(7, 4, mask_zero=mask_zero)


def attention():
    inputs = keras.Input((5, 4))
    attended = keras.layers.MultiHeadAttention(2, 2)(inputs, inputs)
    pooled = keras.layers.GlobalAveragePooling1D()(attended)
    return keras.Model(inputs, keras.layers.Dense(1)(pooled))


def two_inputs_and_outputs():
    inputs = [keras.Input((3,)), keras.Input((2,))]
    joined = keras.layers.Concatenate()(inputs)
    outputs = [
        keras.layers.Dense(1, name="first")(joined),
        keras.layers.Dense(2, name="second")(joined),
    ]
    return keras.Model(inputs, outputs)


def shared_layers():
    inputs = [keras.Input((3,)), keras.Input((3,))]
    shared = keras.layers.Dense(4, "tanh")
    joined = keras.layers.Add()([shared(each) for each in inputs])
    return keras.Model(inputs, keras.layers.Dense(1)(joined))


def nested():
    innermost = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, "relu"), innermost]
    )
    return keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(1)])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(4, "relu")
        self.out = keras.layers.Dense(1)

    def call(self, inputs):
        return self.out(self.hidden(inputs))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 4), "float32"))
    return model


class OwnTrainStep(keras.Sequential):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(
            zip(gradients, self.trainable_variables, strict=True)
        )
        return {"loss": loss}


class OwnLoss(keras.Sequential):
    def compute_loss(self, x=None, y=None, y_pred=None, *args, **kwargs):
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        penalty = tf.reduce_mean(tf.square(y_pred)) / replicas
        return super().compute_loss(x, y, y_pred, *args, **kwargs) + penalty


class Undivided(keras.Sequential):
    def compute_loss(self, x=None, y=None, y_pred=None, *args, **kwargs):
        return tf.reduce_mean(tf.square(y - y_pred))


class Sampling(keras.layers.Layer):
    """Random at inference too, as in a variational autoencoder."""

    def __init__(self):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(3)

    def call(self, inputs):
        noise = keras.random.normal(
            keras.ops.shape(inputs), seed=self.seed_generator
        )
        return inputs + noise


FOUR = reals(9, 4)
TARGET = reals(9, 1)
IMAGES = reals(8, 6, 6, 2)
TOKENS = classes(7, 8, 5)
PAIRS = ((reals(8, 3), reals(8, 2)), (reals(8, 1), reals(8, 2)))
LAYERS = keras.layers
SOUND = {
    "dense": (stack((4,), dense(8, "relu"), dense()), "mse", (FOUR, TARGET)),
    "convolution": (
        stack(
            (6, 6, 2),
            lambda: LAYERS.Conv2D(4, 3),
            lambda: LAYERS.BatchNormalization(synchronized=True),
            LAYERS.Flatten,
            dense(3, "softmax"),
        ),
        "sparse_categorical_crossentropy",
        (IMAGES, classes(3, 8)),
    ),
    "separable-convolution": (
        stack(
            (6, 6, 2),
            lambda: LAYERS.SeparableConv2D(4, 3),
            LAYERS.GlobalMaxPooling2D,
            dense(),
        ),
        "mae",
        (IMAGES, reals(8, 1)),
    ),
    "recurrent": (
        stack((5, 3), lambda: LAYERS.LSTM(4), dense()),
        "huber",
        (reals(8, 5, 3), reals(8, 1)),
    ),
    "sequence": (
        stack(
            (None, 3),
            lambda: LAYERS.GRU(4, return_sequences=True),
            dense(3, "softmax"),
        ),
        "sparse_categorical_crossentropy",
        (reals(8, 5, 3), classes(3, 8, 5)),
    ),
    "attention": (attention, "mse", (reals(8, 5, 4), reals(8, 1))),
    "embedding": (
        stack(
            (5,),
            embedding(),
            LAYERS.GlobalAveragePooling1D,
            dense(3, "softmax"),
        ),
        "categorical_crossentropy",
        (TOKENS, np.eye(3)[classes(3, 8)]),
    ),
    "mask-that-ends": (
        stack(
            (5,),
            embedding(mask_zero=True),
            lambda: LAYERS.LSTM(3),
            dense(1, "sigmoid"),
        ),
        "binary_crossentropy",
        (TOKENS, classes(2, 8, 1)),
    ),
    "several-outputs": (two_inputs_and_outputs, ["mse", "mae"], PAIRS),
    "several-outputs-by-name": (
        two_inputs_and_outputs,
        {"first": "mse", "second": "cosine_similarity"},
        PAIRS,
    ),
    "shared-layers": (
        shared_layers,
        "log_cosh",
        ((reals(8, 3), reals(8, 3)), reals(8, 1)),
    ),
    "subclassed": (subclassed, "mse", (FOUR, TARGET)),
    "nested": (nested, "mse", (FOUR, TARGET)),
    "dropout": (
        stack((4,), dense(8), lambda: LAYERS.Dropout(0.5), dense()),
        "mse",
        (FOUR, TARGET),
    ),
    "sample-weights": (
        stack((4,), dense()),
        "mse",
        (FOUR, TARGET, np.abs(reals(9))),
    ),
    "regularised": (
        stack(
            (4,),
            dense(3, kernel_regularizer=keras.regularizers.L2(0.5)),
            dense(activity_regularizer=keras.regularizers.L2(0.5)),
        ),
        "mse",
        (FOUR, TARGET),
    ),
    "train-step": (
        stack((4,), dense(), model=OwnTrainStep),
        "mse",
        (FOUR, TARGET),
    ),
    "compute-loss": (
        stack((4,), dense(), model=OwnLoss),
        "mse",
        (FOUR, TARGET),
    ),
    "function": (
        stack((4,), dense()),
        lambda y, y_pred: tf.reduce_mean(tf.abs(y - y_pred), axis=-1),
        (FOUR, TARGET),
    ),
    "random-at-inference": (
        stack((4,), Sampling, dense()),
        "mse",
        (FOUR, TARGET),
    ),
    "no-loss-left": (stack((4,), dense()), "mse", (FOUR, np.zeros((9, 1)))),
}
LINEAR = stack((4,), dense())
SCORES = stack((4,), dense(3, "softmax"))
# What makes the model, its loss, data, and what the finding must name.
TO_WRAP = {
    "scalar": (
        SCORES,
        keras.losses.Tversky(),
        (FOUR, np.eye(3)[classes(3, 9)]),
        "`tversky`, which returns one scalar",
    ),
    "scalar-function": (
        LINEAR,
        lambda y, y_pred: tf.reduce_mean(tf.abs(y - y_pred)),
        (FOUR, TARGET),
        "returns one scalar",
    ),
    "mask": (
        stack((5,), embedding(mask_zero=True), dense(3, "softmax")),
        "sparse_categorical_crossentropy",
        (TOKENS, classes(3, 8, 5)),
        "`sparse_categorical_crossentropy` of an output with a mask",
    ),
    "ignored-class": (
        SCORES,
        keras.losses.SparseCategoricalCrossentropy(ignore_class=0, name="ice"),
        (FOUR, classes(3, 9)),
        "`ice` with ignore_class=0",
    ),
    "sum": (
        LINEAR,
        keras.losses.MeanSquaredError(reduction="sum", name="error"),
        (FOUR, TARGET),
        "`error` with reduction='sum'",
    ),
}


def only(findings):
    (found,) = findings
    return found


@pytest.mark.parametrize(("build", "loss", "data"), SOUND.values(), ids=SOUND)
def test_a_sound_model_is_not_accused(two_replicas, build, loss, data):
    model = make(two_replicas, build, loss)
    assert tfdp.audit(model) == []
    assert tfdp.audit(model, data) == []


def test_nothing_found_is_said_in_words(two_replicas):
    assert str(tfdp.audit(make(two_replicas, LINEAR))) == "nothing found"


def test_a_model_of_one_replica_has_nobody_to_agree_with():
    one = tfdp.MirroredStrategy(["CPU:0"])
    build = stack((4,), LAYERS.BatchNormalization, dense())
    model = make(one, build, optimizer=keras.optimizers.SGD(0.1))
    assert tfdp.audit(model, (FOUR, TARGET)) == []


@pytest.mark.parametrize(
    ("build", "loss", "data", "culprit"), TO_WRAP.values(), ids=TO_WRAP
)
def test_a_loss_to_wrap_is_an_error_until_it_is_wrapped(
    two_replicas, build, loss, data, culprit
):
    found = only(tfdp.audit(make(two_replicas, build, loss)))
    assert found.severity == "error"
    assert culprit in found.where
    assert "tfdp.DistributedLoss(loss)" in found.way_out
    wrapped = make(two_replicas, build, tfdp.DistributedLoss(loss))
    assert tfdp.audit(wrapped) == []
    assert tfdp.audit(wrapped, data) == []


def test_a_loss_over_sample_weights_is_a_warning_until_it_is_wrapped(
    two_replicas,
):
    loss = keras.losses.MeanAbsoluteError(reduction="mean_with_sample_weight")
    found = only(tfdp.audit(make(two_replicas, LINEAR, loss)))
    assert found.severity == "warning"
    assert "`mean_absolute_error`, which divides by the sum" in found.where
    wrapped = make(two_replicas, LINEAR, tfdp.DistributedLoss(loss))
    assert tfdp.audit(wrapped, (FOUR, TARGET, np.abs(reals(9)))) == []


def test_a_loss_that_compares_samples_is_found_in_data(two_replicas):
    def build():
        return stack((4,), dense(3), LAYERS.UnitNormalization)()

    data = FOUR, classes(3, 9)
    model = make(two_replicas, build, keras.losses.Circle())
    assert tfdp.audit(model) == []
    found = only(tfdp.audit(model, data))
    assert found.severity == "error"
    assert "for 9 samples, whose parts make" in found.where
    assert "over='batch'" in found.way_out
    loss = tfdp.DistributedLoss(keras.losses.Circle(), over="batch")
    assert tfdp.audit(make(two_replicas, build, loss), data) == []


def test_a_penalty_summed_over_samples_is_found_in_data(two_replicas):
    class Penalty(LAYERS.Layer):
        def call(self, inputs):
            self.add_loss(tf.reduce_sum(tf.square(inputs)))
            return inputs

    model = make(two_replicas, stack((4,), Penalty, dense()))
    assert tfdp.audit(model) == []
    found = only(tfdp.audit(model, (FOUR, TARGET)))
    assert found.severity == "error"
    assert "whose parts make" in found.where


@pytest.mark.parametrize("loss", ["mse", None])
def test_a_loss_not_divided_by_the_replicas_is_found_in_data(
    two_replicas, loss
):
    model = make(two_replicas, stack((4,), dense(), model=Undivided), loss)
    assert tfdp.audit(model) == []
    found = only(tfdp.audit(model, (FOUR, TARGET)))
    assert found.severity == "error"
    assert "a loss of Undivided" in found.where
    assert "num_replicas_in_sync" in found.way_out


def accumulating(strategy):
    with strategy.scope():
        return tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1), 2)


def test_a_distributed_loss_beside_another_is_an_error_accumulating(
    two_replicas,
):
    losses = ["mse", tfdp.DistributedLoss("mae", name="wrapped")]
    for loss in (losses, losses[1]):
        model = make(two_replicas, two_inputs_and_outputs, loss)
        assert not tfdp.audit(model).of("error")
        optimizer = accumulating(two_replicas)
        model = make(two_replicas, two_inputs_and_outputs, loss, optimizer)
        found = only(tfdp.audit(model))
        assert found.severity == "error"
        assert "several losses, of which `wrapped`" in found.where


@pytest.mark.parametrize(
    ("reduction", "regularizer"),
    [("sum", "kernel"), ("sum_over_batch_size", "activity")],
)
def test_a_distributed_loss_beside_a_regularizer_is_an_error_accumulating(
    two_replicas, reduction, regularizer
):
    l2 = {f"{regularizer}_regularizer": keras.regularizers.L2(0.1)}
    build = stack((4,), dense(3, name="hidden", **l2), dense())
    loss = keras.losses.MeanSquaredError(reduction=reduction, name="error")
    loss = tfdp.DistributedLoss(loss)
    assert not tfdp.audit(make(two_replicas, build, loss)).of("error")
    optimizer = accumulating(two_replicas)
    found = only(tfdp.audit(make(two_replicas, build, loss, optimizer)))
    assert found.severity == "error"
    assert "`error` beside a regularizer of `" in found.where
    assert "hidden" in found.where


def test_a_model_outside_of_any_scope_is_an_error(two_replicas):
    model = LINEAR()
    with two_replicas.scope():
        model.compile(loss="mse")
    found = only(tfdp.audit(model))
    assert found.severity == "error"
    assert "outside of any scope" in found.where
    assert "with strategy.scope():" in found.way_out


def test_compiling_outside_of_the_scope_is_an_error(two_replicas):
    with two_replicas.scope():
        model = LINEAR()
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
    model.compile(optimizer, "mse")
    found = only(tfdp.audit(model))
    assert found.severity == "error"
    assert "2 variables made outside of it, such as loss/" in found.where


def test_a_weight_made_outside_of_the_scope_is_an_error(two_replicas):
    layer = LAYERS.Dense(1, name="stray")
    layer.build((None, 4))
    build = stack((4,), lambda: layer)
    found = only(tfdp.audit(make(two_replicas, build)))
    assert found.severity == "error"
    assert "2 variables made outside of it, such as stray/" in found.where


def test_compiling_by_xla_is_sound(two_replicas):
    assert tfdp.audit(make(two_replicas, LINEAR, jit_compile=True)) == []


def test_another_optimizer_is_a_warning(two_replicas):
    optimizer = keras.optimizers.Adam(0.1, name="plain")
    found = only(tfdp.audit(make(two_replicas, LINEAR, optimizer=optimizer)))
    assert found.severity == "warning"
    assert "the optimizer `plain`" in found.where
    assert "tfdp.DistributedOptimizer(optimizer)" in found.way_out


@pytest.mark.parametrize("hold", [list, lambda pair: dict([pair])])
def test_optimizers_that_a_model_holds_are_looked_at_too(two_replicas, hold):
    model = make(two_replicas, LINEAR)
    model.held = hold(("other", keras.optimizers.SGD(0.1, name="other")))
    found = only(tfdp.audit(model))
    assert "the optimizer `other`" in found.where


def test_a_softmax_or_loss_in_half_precision_is_a_warning(two_replicas):
    keras.config.set_dtype_policy("mixed_bfloat16")
    build = stack((4,), dense(3, "softmax", name="scores"))
    loss = keras.losses.MeanSquaredError(dtype="bfloat16", name="coarse")
    findings = tfdp.audit(make(two_replicas, build, loss))
    assert [each.severity for each in findings] == ["warning", "warning"]
    assert "`scores` computes its softmax in bfloat16" in findings[0].where
    assert "`coarse` computes in bfloat16" in findings[1].where
    sound = stack((4,), dense(3, "softmax", dtype="float32"))
    assert tfdp.audit(make(two_replicas, sound), (FOUR, reals(9, 3))) == []


def test_batch_normalization_for_each_replica_is_a_note(two_replicas):
    def inner():
        normalization = LAYERS.BatchNormalization(name="inside")
        return keras.Sequential([keras.Input((4,)), normalization])

    layers = [
        inner,
        lambda: LAYERS.BatchNormalization(name="own"),
        lambda: LAYERS.BatchNormalization(name="all", synchronized=True),
        lambda: LAYERS.BatchNormalization(name="frozen", trainable=False),
    ]
    model = make(two_replicas, stack((4,), *layers, dense()))
    found = only(tfdp.audit(model))
    assert (found.severity, found.where) == ("note", "`inside`, `own`")
    assert "synchronized=True" in found.way_out


def test_findings_come_worst_first(two_replicas):
    model = make(
        two_replicas,
        stack((4,), LAYERS.BatchNormalization, dense(), model=Undivided),
        optimizer=keras.optimizers.SGD(0.1),
    )
    findings = tfdp.audit(model, (FOUR, TARGET))
    severities = ["error", "warning", "note"]
    assert [each.severity for each in findings] == severities
    lines = str(findings).splitlines()
    assert [line.partition(":")[0] for line in lines] == severities


def test_the_audit_changes_nothing_of_the_model(two_replicas):
    build = stack(
        (4,),
        lambda: LAYERS.BatchNormalization(synchronized=True),
        Sampling,
        lambda: LAYERS.Dropout(0.5),
        dense(),
    )
    model = make(two_replicas, build, metrics=["mae"])
    model.fit(FOUR, TARGET, verbose=0)
    variables = {
        variable.path: variable
        for variable in (
            *model.variables,
            *model.metrics_variables,
            *model.optimizer.variables,
        )
    }
    before = {path: variable.numpy() for path, variable in variables.items()}
    assert tfdp.audit(model, (FOUR, TARGET)) == []
    for part in ("kernel", "moving_mean", "seed_generator", "loss/total"):
        assert any(part in path for path in variables)
    for path, variable in variables.items():
        np.testing.assert_array_equal(variable.numpy(), before[path], path)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return FOUR, TARGET


@pytest.mark.parametrize(
    "data",
    [
        (FOUR, TARGET),
        (tf.constant(FOUR), tf.constant(TARGET)),
        (FOUR, TARGET, np.ones(9)),
        tf.data.Dataset.from_tensor_slices((FOUR, TARGET)).batch(5),
        Batches(),
        (np.tile(FOUR, (100, 1)), np.tile(TARGET, (100, 1))),
    ],
    ids=["arrays", "tensors", "weights", "Dataset", "PyDataset", "large"],
)
def test_data_may_be_a_batch_or_a_dataset(two_replicas, data):
    assert tfdp.audit(make(two_replicas, LINEAR), data) == []
    unsound = make(two_replicas, stack((4,), dense(), model=Undivided))
    assert "Undivided" in only(tfdp.audit(unsound, data)).where


def test_data_is_not_looked_at_where_a_loss_of_its_own_is_missing(two_replicas):
    model = make(two_replicas, stack((4,), dense(), model=OwnTrainStep), None)
    note = only(tfdp.audit(model, (FOUR, TARGET)))
    assert note.severity == "note"
    assert "`OwnTrainStep.train_step`, which has a way of its own" in note.where


class NoCall(keras.Model):
    def __init__(self):
        super().__init__()
        self.net = keras.layers.Dense(1)

    def train_step(self, data):
        x, y, extra, more = data
        return {"loss": self.loss(y, self.net(x) + extra + more)}


@pytest.mark.parametrize(
    "data", [(FOUR, TARGET), (FOUR, TARGET, TARGET, TARGET), {"x": FOUR}]
)
def test_a_model_that_cannot_be_called_is_not_looked_at(two_replicas, data):
    model = make(two_replicas, NoCall)
    note = only(tfdp.audit(model, data))
    assert note.severity == "note"
    assert "`NoCall.train_step`" in note.where


@pytest.mark.parametrize(
    "data",
    [
        (FOUR[:1], TARGET[:1]),
        tf.data.Dataset.from_tensor_slices((FOUR, TARGET)).batch(1),
    ],
    ids=["arrays", "Dataset"],
)
def test_one_sample_cannot_be_split(two_replicas, data):
    model = make(two_replicas, LINEAR)
    with pytest.raises(
        ValueError, match="at least two samples.*Received: 1 in the batch"
    ):
        tfdp.audit(model, data)


def test_only_a_keras_model_is_audited():
    with pytest.raises(
        TypeError, match=r"must be a `keras.Model`. Received: model='a model'"
    ):
        tfdp.audit("a model")


def test_only_a_compiled_model_is_audited(two_replicas):
    with two_replicas.scope():
        model = LINEAR()
    with pytest.raises(
        ValueError, match="must be compiled. Received: a model that is not"
    ):
        tfdp.audit(model)


def outputs_of_two_ranks():
    inputs = keras.Input((4,))
    first = keras.layers.Dense(1, name="u")(inputs)
    second = keras.layers.Dense(1, name="v")(inputs)
    return keras.Model(inputs, [first, keras.layers.Reshape(())(second)])


def outputs_of_which_one_is_masked():
    inputs = keras.Input((3,), dtype="int32")
    hidden = keras.layers.Embedding(7, 4, mask_zero=True)(inputs)
    plain = keras.layers.Flatten()(keras.layers.LSTM(4)(hidden))
    return keras.Model(
        inputs,
        [
            keras.layers.Dense(1, name="u")(plain),
            keras.layers.Dense(1, name="v")(hidden),
        ],
    )


def distance(y_true, y_pred):
    return tf.abs(y_true - y_pred)


@pytest.mark.parametrize(
    ("build", "loss"),
    [
        (outputs_of_two_ranks, ["mse", distance]),
        (outputs_of_which_one_is_masked, ["mse", None]),
        (outputs_of_which_one_is_masked, {"u": "mse"}),
        (
            outputs_of_which_one_is_masked,
            {"u": tfdp.DistributedLoss("mse"), "v": None},
        ),
    ],
)
def test_a_loss_is_looked_at_with_its_own_output(two_replicas, build, loss):
    assert tfdp.audit(make(two_replicas, build, loss)) == []


def test_a_loss_around_zero_is_compared_by_the_size_of_its_terms(two_replicas):
    def product(y_true, y_pred):
        return tf.reduce_mean(y_true * y_pred, -1)

    model = make(two_replicas, stack((4,), dense()), product)
    x = np.repeat(reals(1, 4), 8, axis=0)
    y = np.tile([[1.0], [-1.0]], (4, 1)).astype("float32")
    assert tfdp.audit(model, (x, y)) == []


def test_a_term_that_is_not_divided_is_found_beside_one_that_is(two_replicas):
    class Penalised(keras.Sequential):
        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            loss = super().compute_loss(x, y, y_pred, sample_weight)
            return loss + tf.reduce_mean(y_pred**2)

    model = make(two_replicas, stack((4,), dense(), model=Penalised))
    finding = only(tfdp.audit(model, (reals(8, 4), reals(8, 1))))
    assert "Penalised that is not" in finding.where


@pytest.mark.parametrize("unbuilt", [True, False])
def test_data_builds_a_model_in_its_scope(two_replicas, unbuilt):
    def build():
        inputs = [] if unbuilt else [keras.Input((4,))]
        return keras.Sequential([*inputs, keras.layers.Dense(1)])

    model = make(two_replicas, build)
    data = (reals(8, 4), reals(8, 1))
    assert tfdp.audit(model, data) == []
    assert model.built
    assert tfdp.audit(model) == []
    model.fit(*data, verbose=0, callbacks=[tfdp.callbacks.DataParallel()])


def test_the_losses_of_several_outputs_are_built_in_the_scope(two_replicas):
    model = make(two_replicas, two_inputs_and_outputs, ["mse", "mse"])
    data = ([reals(8, 3), reals(8, 2)], [reals(8, 1), reals(8, 2)])
    assert tfdp.audit(model, data) == []
    assert tfdp.audit(model) == []


def test_an_audit_with_data_inside_of_the_scope_is_refused(two_replicas):
    model = make(two_replicas, stack((4,), dense()))
    data = (reals(8, 4), reals(8, 1))
    with (
        two_replicas.scope(),
        pytest.raises(RuntimeError, match="the scope of MirroredStrategy. C"),
    ):
        tfdp.audit(model, data)


def test_a_loss_that_is_not_reduced_is_an_error(two_replicas):
    loss = keras.losses.MeanSquaredError(reduction="none")
    model = make(two_replicas, stack((4,), dense()), loss)
    finding = only(tfdp.audit(model, (reals(8, 4), reals(8, 1))))
    assert "with reduction='none'" in finding.where


def test_sparse_data_is_looked_at(two_replicas):
    model = make(
        two_replicas,
        lambda: keras.Sequential(
            [keras.Input((4,), sparse=True), keras.layers.Dense(1)]
        ),
    )
    x = tf.sparse.from_dense(np.eye(8, 4, dtype="float32"))
    data = tf.data.Dataset.from_tensor_slices((x, reals(8, 1))).batch(8)
    assert tfdp.audit(model, data) == []


def test_no_data_cannot_be_split(two_replicas):
    model = make(two_replicas, stack((4,), dense()))
    empty = tf.data.Dataset.from_tensor_slices((reals(8, 4), reals(8, 1)))
    with pytest.raises(ValueError, match="Received: 0 in the batch"):
        tfdp.audit(model, empty.take(0).batch(4))


@pytest.mark.parametrize(("steps", "severity"), [(1, "note"), (2, "error")])
def test_a_loss_to_wrap_is_a_note_where_nothing_is_divided(steps, severity):
    strategy = tfdp.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1), steps)
    model = make(strategy, stack((4,), dense()), keras.losses.Dice(), optimizer)
    assert only(tfdp.audit(model)).severity == severity


def test_layers_in_a_tuple_are_no_optimizers(two_replicas):
    class Stacked(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = (keras.layers.Dense(2), keras.layers.Dense(1))

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    model = make(two_replicas, Stacked)
    data = (reals(8, 4), reals(8, 1))
    assert tfdp.audit(model, data) == []
    model.fit(*data, verbose=0, callbacks=[tfdp.callbacks.DataParallel()])


def test_a_scalar_loss_of_unknown_outputs_is_found_without_data(two_replicas):
    def scalar(y_true, y_pred):
        return tf.reduce_mean(tf.square(y_true - y_pred))

    model = make(two_replicas, subclassed, scalar)
    assert "`scalar`, which returns one scalar" in only(tfdp.audit(model)).where


def test_a_sum_that_a_layer_adds_is_found_in_data(two_replicas):
    class Adding(keras.layers.Layer):
        def call(self, x):
            self.add_loss(tf.reduce_sum(tf.square(x)))
            return x

    model = make(two_replicas, stack((4,), dense(), Adding), None)
    assert only(tfdp.audit(model, (reals(8, 4),))).severity == "error"


def test_losses_of_nested_outputs_are_told_apart(two_replicas):
    def build():
        inputs = keras.Input((4,))
        first, second = (keras.layers.Dense(1)(inputs) for _ in range(2))
        return keras.Model(inputs, {"a": {"b": first}, "c": second})

    model = make(two_replicas, build, {"a": {"b": "mse"}, "c": "mae"})
    assert tfdp.audit(model) == []


def test_the_audit_may_be_imported_in_a_scope(two_replicas):
    model = make(two_replicas, LINEAR)
    with two_replicas.scope():
        importlib.reload(model_audit)
    assert tfdp.audit(model) == []
