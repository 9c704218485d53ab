import dataclasses
import functools
import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfdp import precision
from tfdp.precision import (
    Precision,
    half_precision_findings,
    precision_for_cpu,
    precision_for_gpus,
    set_precision,
)

POLICIES = ["float32", "mixed_bfloat16", "mixed_float16"]
HALF_POLICIES = ["mixed_bfloat16", "mixed_float16", "bfloat16", "float16"]


@pytest.fixture(autouse=True)
def _restored_policy():
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)


@pytest.fixture
def gpus(monkeypatch):
    """Returns a function that gives this machine GPUs of some capabilities."""

    def install(*details):
        devices = dict(enumerate(details))
        monkeypatch.setattr(
            tf.config,
            "get_visible_devices",
            lambda kind: list(devices) if kind == "GPU" else [],
        )
        monkeypatch.setattr(
            tf.config.experimental, "get_device_details", devices.get
        )

    return install


@pytest.fixture
def cpu_flags(monkeypatch, tmp_path, gpus):
    """Returns a function that gives this machine a CPU, and no GPU."""
    gpus()

    def install(text):
        path = tmp_path / "cpuinfo"
        if text is not None:
            path.write_text(text)
        monkeypatch.setattr(precision, "_CPU_INFO", path)

    return install


@pytest.mark.parametrize(
    ("capabilities", "policy", "reason"),
    [
        ([(10, 0)], "mixed_bfloat16", "10.0 (at least 8.0)"),
        ([(9, 0)], "mixed_bfloat16", "9.0 (at least 8.0)"),
        ([(8, 0)], "mixed_bfloat16", "8.0 (at least 8.0)"),
        ([(7, 5)], "mixed_float16", "7.5 (at least 7.0, below 8.0)"),
        ([(7, 0)], "mixed_float16", "7.0 (at least 7.0, below 8.0)"),
        ([(6, 1)], "float32", "6.1 (below 7.0)"),
        ([(8, 6), (9, 0)], "mixed_bfloat16", "8.6 (at least 8.0)"),
        ([(9, 0), (7, 5)], "mixed_float16", "7.5 (at least 7.0, below 8.0)"),
        ([(9, 0), (6, 0)], "float32", "6.0 (below 7.0)"),
        ([None], "float32", "a GPU's compute capability is unknown"),
        ([(9, 0), None], "float32", "a GPU's compute capability is unknown"),
    ],
)
def test_the_least_capable_gpu_decides(capabilities, policy, reason):
    chosen = precision_for_gpus(capabilities)
    assert chosen.policy == policy
    assert chosen.reason.endswith(reason)


@pytest.mark.parametrize(
    ("flags", "policy", "reason"),
    [
        ({"avx2", "avx512_bf16"}, "mixed_bfloat16", "a CPU with avx512_bf16"),
        ({"amx_bf16", "amx_tile"}, "mixed_bfloat16", "a CPU with amx_bf16"),
        ({"avx2", "avx512f"}, "float32", "without avx512_bf16 or amx_bf16"),
        ({"xavx512_bf16"}, "float32", "without avx512_bf16 or amx_bf16"),
        (set(), "float32", "the CPU's flags are unknown"),
    ],
)
def test_the_flags_of_the_cpu_decide_without_a_gpu(flags, policy, reason):
    chosen = precision_for_cpu(flags)
    assert chosen.policy == policy
    assert chosen.reason.startswith("no GPU, ")
    assert chosen.reason.endswith(reason)


@pytest.mark.parametrize(
    ("details", "policy"),
    [
        ([{"compute_capability": (9, 0)}] * 2, "mixed_bfloat16"),
        (
            [{"compute_capability": (9, 0)}, {"compute_capability": (7, 0)}],
            "mixed_float16",
        ),
        ([{"device_name": "another make"}], "float32"),
    ],
)
def test_auto_reads_the_gpus(gpus, details, policy):
    gpus(*details)
    assert set_precision().policy == policy
    assert keras.config.dtype_policy().name == policy


@pytest.mark.parametrize(
    ("text", "policy", "reason"),
    [
        (
            "processor\t: 0\nflags\t\t: fpu sse amx_bf16\n",
            "mixed_bfloat16",
            "amx_bf16",
        ),
        (
            "processor\t: 0\nflags\t\t: fpu sse\nbugs\t\t: amx_bf16\n",
            "float32",
            "without",
        ),
        ("processor\t: 0\nFeatures\t: fp asimd\n", "float32", "unknown"),
        (None, "float32", "unknown"),
    ],
    ids=["half", "no-half", "other-architecture", "no-cpuinfo"],
)
def test_auto_reads_the_cpu(cpu_flags, text, policy, reason):
    cpu_flags(text)
    chosen = set_precision()
    assert chosen.policy == policy
    assert reason in chosen.reason
    assert keras.config.dtype_policy().name == policy


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_set_by_name(name):
    assert set_precision(name) == Precision(name, "asked for by name")
    assert keras.config.dtype_policy().name == name


@pytest.mark.parametrize("name", ["float16", "Auto", "", None, 16, ["auto"]])
def test_an_unknown_name_is_refused(name):
    before = keras.config.dtype_policy()
    message = (
        "`name` must be one of auto, float32, mixed_bfloat16, mixed_float16. "
        f"Received: name={name!r}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        set_precision(name)
    assert keras.config.dtype_policy() == before


def test_the_choice_is_printed_in_one_line(capsys, gpus):
    gpus({"compute_capability": (9, 0)})
    set_precision()
    assert capsys.readouterr().out == (
        "tfdp: dtype policy mixed_bfloat16: lowest GPU compute capability 9.0 "
        "(at least 8.0)\n"
    )


@pytest.mark.parametrize(
    ("task", "lines"),
    [
        ({"type": "worker", "index": 0}, 1),
        ({"type": "worker", "index": 1}, 0),
        ({"type": "evaluator", "index": 0}, 0),
    ],
    ids=["chief", "worker", "evaluator"],
)
def test_only_the_chief_prints(capsys, monkeypatch, task, lines):
    cluster = {"worker": ["a:1", "b:1"], "evaluator": ["c:1"]}
    config = json.dumps({"cluster": cluster, "task": task})
    monkeypatch.setenv("TF_CONFIG", config)
    set_precision("float32")
    assert len(capsys.readouterr().out.splitlines()) == lines


def test_verbose_false_prints_nothing(capsys):
    set_precision("float32", verbose=False)
    assert capsys.readouterr().out == ""


def test_a_precision_is_an_immutable_value():
    chosen = set_precision("float32")
    with pytest.raises(dataclasses.FrozenInstanceError):
        chosen.policy = "mixed_float16"


@pytest.mark.long
def test_the_runtime_of_tensorflow_is_left_alone():
    """Strategies configure their devices after this call."""
    program = """
import tensorflow as tf
from tfdp.precision import set_precision
set_precision("auto")
cpu, *_ = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
print(len(tf.config.list_logical_devices("CPU")))
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "2"


def sequential(*stack):
    return keras.Sequential([keras.Input((4,)), *stack])


def functional(*stack):
    inputs = outputs = keras.Input((4,))
    for layer in stack:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


@pytest.fixture(params=[sequential, functional])
def build(request):
    return request.param


def dense(activation, dtype, name="scores"):
    return layers.Dense(3, activation=activation, dtype=dtype, name=name)


@pytest.mark.parametrize("dtype", HALF_POLICIES)
@pytest.mark.parametrize(
    ("make_layer", "activation"),
    [
        (functools.partial(dense, "softmax"), "softmax"),
        (functools.partial(dense, "sigmoid"), "sigmoid"),
        (functools.partial(dense, keras.ops.sigmoid), "sigmoid"),
        (functools.partial(dense, tf.nn.softmax), "softmax"),
        (
            lambda dtype: layers.Softmax(dtype=dtype, name="scores"),
            "softmax",
        ),
        (
            lambda dtype: layers.Activation(
                "sigmoid", dtype=dtype, name="scores"
            ),
            "sigmoid",
        ),
    ],
    ids=["dense", "sigmoid", "ops", "tf-nn", "softmax-layer", "activation"],
)
def test_an_output_in_half_precision_is_found(
    build, make_layer, activation, dtype
):
    half = dtype.removeprefix("mixed_")
    assert half_precision_findings(build(make_layer(dtype=dtype))) == [
        f"Output layer `scores` computes its {activation} in {half}. Give the "
        'layer dtype="float32", or let it return logits to a loss with '
        "from_logits=True."
    ]


def test_the_policy_set_for_all_layers_counts(build):
    set_precision("mixed_bfloat16")
    (finding,) = half_precision_findings(build(dense("softmax", None)))
    assert "`scores`" in finding


@pytest.mark.parametrize(
    "stack",
    [
        lambda: [dense("softmax", "float32")],
        lambda: [dense(None, "mixed_bfloat16")],
        lambda: [dense("relu", "mixed_bfloat16")],
        lambda: [
            dense("sigmoid", "mixed_bfloat16", name="gate"),
            dense(None, "mixed_bfloat16"),
        ],
        lambda: [
            dense(None, "mixed_bfloat16"),
            layers.Softmax(dtype="float32"),
        ],
    ],
    ids=["float32", "logits", "relu", "hidden-gate", "float32-softmax"],
)
def test_a_sound_model_has_no_findings(build, stack):
    model = build(*stack())
    model.compile(
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        optimizer="sgd",
    )
    assert half_precision_findings(model) == []


def test_every_output_is_looked_at():
    inputs = keras.Input((4,))
    hidden = dense("sigmoid", "mixed_bfloat16", name="hidden")(inputs)
    outputs = {
        "kind": dense("softmax", "mixed_bfloat16", name="kind")(hidden),
        "size": dense(None, "mixed_bfloat16", name="size")(hidden),
        "flag": dense("sigmoid", "mixed_float16", name="flag")(hidden),
    }
    findings = half_precision_findings(keras.Model(inputs, outputs))
    named = {re.search("`(.*?)`", finding)[1] for finding in findings}
    assert named == {"kind", "flag"}


def test_a_layer_behind_two_outputs_is_named_once():
    one, other = keras.Input((4,)), keras.Input((4,))
    shared = dense("softmax", "mixed_bfloat16")
    model = keras.Model([one, other], [shared(one), shared(other)])
    assert len(half_precision_findings(model)) == 1


def test_outputs_are_found_in_nested_models_and_wrappers(build):
    inner = sequential(
        dense(None, "mixed_bfloat16", name="inner"),
        layers.Reshape((1, 3)),
        layers.TimeDistributed(dense("softmax", "mixed_bfloat16")),
    )
    (finding,) = half_precision_findings(build(inner))
    assert "`scores`" in finding


@pytest.mark.parametrize("dtype", HALF_POLICIES)
@pytest.mark.parametrize(
    "arrange",
    [
        lambda loss: loss,
        lambda loss: [loss],
        lambda loss: {"scores": loss},
        lambda loss: {"scores": [loss, "mse"]},
    ],
    ids=["one", "list", "dict", "nested"],
)
def test_a_loss_in_half_precision_is_found(dtype, arrange):
    model = functional(dense(None, "float32"))
    loss = keras.losses.MeanSquaredError(dtype=dtype, name="distance")
    model.compile(loss=arrange(loss), optimizer="sgd")
    half = dtype.removeprefix("mixed_")
    assert half_precision_findings(model) == [
        f"Loss `distance` computes in {half}. Give it "
        'dtype="float32", the default.'
    ]


@pytest.mark.parametrize("loss", ["mse", keras.losses.mean_squared_error, None])
def test_a_loss_without_a_dtype_of_its_own_is_no_finding(loss):
    model = functional(dense(None, "float32"))
    model.compile(loss=loss, optimizer="sgd")
    assert half_precision_findings(model) == []


@pytest.mark.parametrize(
    ("activation", "logits", "loss"),
    [
        ("sigmoid", [7.0], "binary_crossentropy"),
        ("sigmoid", [-20.0], "binary_crossentropy"),
        ("softmax", [-20.0, 0.0], "categorical_crossentropy"),
    ],
    ids=["sure-and-right", "sure-and-wrong", "softmax-sure-and-wrong"],
)
def test_a_finding_is_worth_a_warning(activation, logits, loss):
    """Half precision changes the loss by a tenth, float32 does not."""

    def evaluated(dtype):
        model = keras.Sequential([layers.Activation(activation, dtype=dtype)])
        model.compile(loss=loss, jit_compile=False)
        inputs = np.array([logits], "float32")
        labels = np.eye(1, len(logits), dtype="float32")
        return model.evaluate(inputs, labels, verbose=0)

    exact = np.log1p(np.exp(-logits[0]))
    assert evaluated("float32") == pytest.approx(exact, rel=1e-5)
    assert evaluated("mixed_bfloat16") < 0.9 * exact


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.scores = dense("softmax", "mixed_bfloat16")

    def call(self, inputs):
        return self.scores(inputs)


def operation_output():
    inputs = keras.Input((4,), dtype="bfloat16")
    return keras.Model(inputs, keras.ops.softmax(inputs))


@pytest.mark.parametrize(
    "make",
    [
        keras.Sequential,
        Subclassed,
        operation_output,
        lambda: functional(layers.Identity()),
        keras.Model,
        lambda: None,
    ],
    ids=["empty", "subclassed", "operation", "identity", "bare", "none"],
)
def test_a_model_that_tells_nothing_has_no_findings(make):
    assert half_precision_findings(make()) == []


def test_an_unbuilt_sequential_model_is_looked_at():
    model = keras.Sequential([dense("softmax", "mixed_bfloat16")])
    assert not model.built
    assert len(half_precision_findings(model)) == 1


def test_the_loss_of_a_subclassed_model_is_looked_at():
    model = Subclassed()
    model.compile(loss=keras.losses.MeanSquaredError(dtype="float16"))
    (finding,) = half_precision_findings(model)
    assert "computes in float16" in finding
