"""What is not the chief's model is refused by name."""

import exchanging
import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp
from tfdp.asynchronous.description import Description
from tfdp.asynchronous.serving.served_model import ServedModel

NAMES = [
    *("SGD", "RMSprop", "Adam", "AdamW", "Adadelta", "Adagrad", "Adamax"),
    *("Adafactor", "Nadam", "Ftrl", "Lion", "Lamb", "Muon", "LARS"),
]


def sgd():
    return keras.optimizers.SGD(0.5)


def variable(shape=(2,), dtype="float32", name="kernel", **kwargs):
    made = keras.Variable(np.zeros(shape), dtype=dtype, name=name)
    for key, value in kwargs.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize(
    ("variables", "optimizer", "statistics", "words"),
    [
        (
            [variable((3,))],
            sgd(),
            [],
            r"shape of the variable kernel is",
        ),
        (
            [variable(dtype="float16")],
            sgd(),
            [],
            "dtype of the variable k",
        ),
        (
            [variable(name="bias")],
            sgd(),
            [],
            "name of the variable kern",
        ),
        ([variable()] * 2, sgd(), [], "number of trainable variables is 1 on"),
        (
            [variable()],
            sgd(),
            [variable()],
            "number of non-trainable",
        ),
        ([variable()], keras.optimizers.SGD(0.1), [], "the optimizer is .*0.5"),
        (
            [variable()],
            keras.optimizers.Adam(0.5),
            [],
            "optimizer is .*SGD",
        ),
        (
            [variable(constraint=keras.constraints.NonNeg())],
            sgd(),
            [],
            "constraint of the variable kernel is None on the chief",
        ),
    ],
)
def test_another_model_is_refused_by_name(
    serving, variables, optimizer, statistics, words
):
    served = serving(2, 1)
    served.joined(0, [variable()], sgd())
    with pytest.raises(ValueError, match=f"{words}.*worker 1") as caught:
        served.joined(1, variables, optimizer, statistics)
    assert "Start the same program on all workers." in str(caught.value)


def test_undecayed_variables_are_a_difference(serving):
    def adamw(*undecayed):
        made = keras.optimizers.AdamW(0.1)
        made.exclude_from_weight_decay(var_names=undecayed)
        return made

    served = serving(2, 1)
    served.joined(0, [variable()], adamw("kernel"))
    served.joined(1, [variable()], adamw("kern"))
    with pytest.raises(ValueError, match="decays of the variable kernel"):
        served.joined(1, [variable()], adamw())


def test_names_that_keras_has_numbered_are_no_difference(serving):
    served = serving(2, 1)
    for worker in range(2):
        model = exchanging.make_model()
        served.joined(worker, model.trainable_variables, sgd())


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(lambda: 0.1),
        lambda: keras.optimizers.SGD(Unsaid()),
    ],
)
def test_what_has_no_configuration_is_refused(optimizer):
    with pytest.raises(ValueError, match="SGD, which cannot be: .*_config`"):
        Description.of([variable()], optimizer())


class Unsaid(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.1


@keras.saving.register_keras_serializable("tests")
class Forgetful(keras.optimizers.SGD):
    def __init__(self, learning_rate=0.1, factor=1.0, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.factor = factor


def test_an_optimizer_that_its_configuration_would_change_is_refused():
    Description.of([variable()], Forgetful())
    with pytest.raises(ValueError, match="its configuration loses factor"):
        Description.of([variable()], Forgetful(factor=2.0))


@pytest.mark.parametrize(
    "name",
    NAMES,
)
@pytest.mark.parametrize("is_built", [False, True])
def test_every_optimizer_can_be_made_anew(name, is_built):
    made = tfdp.LARS(0.1) if name == "LARS" else kerass(name)
    made.exclude_from_weight_decay(var_names=["bias"])
    variables = [variable((2, 2)), variable(name="bias")]
    if is_built:
        made.build(variables)
    description = Description.of(variables, made)
    model = ServedModel(description, [v.numpy() for v in variables])
    model.apply([np.ones((2, 2), "float32"), np.ones(2, "float32")])
    assert type(model.optimizer) is type(made)
    assert [v.decays for v in description.variables] == [True, False]


def kerass(name):
    return getattr(keras.optimizers, name)()


@keras.saving.register_keras_serializable("tests")
class OnlyHere(keras.optimizers.SGD):
    pass


def test_a_class_that_the_server_cannot_find_is_refused(serving):
    served = serving(1, 1)
    made = OnlyHere(0.1)
    description = Description.of([variable()], made)
    elsewhere = {"module": "nowhere", "registered_name": "tests>Unknown"}
    description.optimizer.update(elsewhere)
    exchange = served.exchange(0)
    with pytest.raises(ValueError, match="OnlyHere, which it cannot make"):
        exchange.join(description, [np.zeros(2, "float32")])


def test_values_must_be_those_of_the_variables(serving):
    exchange = serving(1, 1).exchange(0)
    description = Description.of([variable()], sgd())
    with pytest.raises(ValueError, match=r"float32 \(1,\) for kernel"):
        exchange.join(description, [np.zeros(1, "float32")])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"variables": 3, "statistics": [], "optimizer": {}},
        {"variables": [{"path": "a"}], "statistics": [], "optimizer": {}},
        {
            "variables": [{"path": "a", "shape": [-1], "dtype": "float32"}],
            "statistics": [],
            "optimizer": {},
        },
        {
            "variables": [{"path": "a", "shape": [1], "dtype": "word"}],
            "statistics": [],
            "optimizer": {},
        },
    ],
)
def test_what_describes_no_model_is_refused(fields):
    with pytest.raises(ValueError, match="must describe the model"):
        Description.from_fields(fields)


def test_a_description_travels():
    described = Description.of(
        [variable(constraint=keras.constraints.NonNeg())],
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 9)),
        [variable((3,))],
    )
    assert Description.from_fields(described.fields) == described
    # Values, and the number of each row.
    assert described.bytes == 4 * (2 + 3) + 8 * (2 + 3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_a_served_model_trains_as_plain_keras_does(dtype):
    def variables():
        rng = np.random.default_rng(0)
        return [
            keras.Variable(rng.normal(size=(3, 4)), dtype=dtype, name="kernel"),
            keras.Variable(rng.normal(size=4), dtype=dtype, name="bias"),
        ]

    def optimizer():
        made = keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(0.1, 9),
            weight_decay=0.2,
            clipnorm=0.5,
            use_ema=True,
            ema_overwrite_frequency=2,
        )
        made.exclude_from_weight_decay(var_names=["bias"])
        return made

    plain, made = variables(), optimizer()
    plain[0].constraint = keras.constraints.NonNeg()
    description = Description.of(plain, made)
    values = [v.numpy() for v in plain]
    model = ServedModel(description, values)
    made.build(plain)
    apply = tf.function(lambda gradients: made.apply(gradients, plain))
    rng = np.random.default_rng(1)
    for _ in range(5):
        gradients = [
            rng.normal(size=v.shape).astype(v.numpy().dtype) for v in plain
        ]
        model.apply(gradients)
        apply(gradients)
        for ours, theirs in zip(model.values(), plain, strict=True):
            assert ours.tobytes() == theirs.numpy().tobytes()
    assert model.iterations == 5
    assert float(model.values()[0].min()) >= 0


def test_what_is_tfdps_own_is_known():
    made = tfdp.LARS(0.1, momentum=0.9)
    model = ServedModel(
        Description.of([variable()], made), [np.zeros(2, "float32")]
    )
    assert isinstance(model.optimizer, tfdp.LARS)


def test_keras_default_dtype_is_the_chiefs():
    before = keras.config.floatx()
    description = Description.of([variable()], sgd())
    try:
        keras.config.set_floatx("float64")
        ServedModel(description, [np.zeros(2, "float32")])
        assert keras.config.floatx() == "float32"
    finally:
        keras.config.set_floatx(before)
