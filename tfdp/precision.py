"""Which number format a model computes in, and where half of it is too few."""

import dataclasses
import pathlib
from collections.abc import Collection, Iterator
from typing import Any

import keras
import tensorflow as tf

_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
_HALF = ("bfloat16", "float16")
_PROBABILITIES = ("softmax", "sigmoid")
_CPU_INFO = pathlib.Path("/proc/cpuinfo")


@dataclasses.dataclass(frozen=True)
class Precision:
    """A dtype policy and why it was chosen.

    Args:
        policy: Name of a Keras dtype policy.
        reason: Why, in a few words.

    Example:

    >>> print(Precision("float32", "asked for by name"))
    dtype policy float32: asked for by name
    """

    policy: str
    reason: str

    def __str__(self) -> str:
        """Returns the policy and the reason as one line."""
        return f"dtype policy {self.policy}: {self.reason}"


def set_precision(name: str = "auto", *, verbose: bool = True) -> Precision:
    """Sets the dtype policy of the layers to come, and says which and why.

    In a mixed policy, layers compute in half precision and keep their weights
    in float32. That halves memory traffic and uses the matrix units of recent
    hardware. Call it before the model is built; layers keep the policy that
    was set when they were made. An output layer with a softmax or sigmoid
    should stay in float32, see `half_precision_findings`.

    `"auto"` asks the hardware of this process. Without a GPU these are the
    flags of the CPU, otherwise the lowest compute capability of its GPUs:

    | Hardware                              | Policy           |
    | ------------------------------------- | ---------------- |
    | GPUs of at least 8.0                  | `mixed_bfloat16` |
    | GPUs of at least 7.0                  | `mixed_float16`  |
    | CPU with `avx512_bf16` or `amx_bf16`  | `mixed_bfloat16` |
    | other, or unknown                     | `float32`        |

    Where workers differ in hardware, pass a name: all must agree.

    Args:
        name: `"auto"`, `"float32"`, `"mixed_bfloat16"` or `"mixed_float16"`.
            Defaults to `"auto"`.
        verbose: Whether to print the choice. Only the chief of a cluster
            prints. Defaults to `True`.

    Returns:
        The policy that was set, and the reason.

    Raises:
        ValueError: If `name` is none of these, or if `TF_CONFIG`, which tells
            the chief, is malformed.

    Example:

    >>> precision = set_precision("float32")
    tfdp: dtype policy float32: asked for by name
    >>> precision.policy
    'float32'

    Reference:
        Micikevicius et al., 2018. https://arxiv.org/abs/1710.03740
    """
    if name == "auto":
        precision = _precision_for_hardware()
    elif name in _POLICIES:
        precision = Precision(name, "asked for by name")
    else:
        raise ValueError(
            f"`name` must be one of auto, {', '.join(_POLICIES)}. "
            f"Received: name={name!r}. Other policies are set by "
            "`keras.config.set_dtype_policy`."
        )
    keras.config.set_dtype_policy(precision.policy)
    if verbose and _is_chief():
        print(f"tfdp: {precision}")
    return precision


def precision_for_gpus(
    capabilities: Collection[tuple[int, int] | None],
) -> Precision:
    """Returns the policy that suits every one of these GPUs.

    Args:
        capabilities: Compute capability of each GPU as (major, minor), `None`
            where it is unknown. At least one.

    Returns:
        The policy, and the reason.

    Example:

    >>> precision_for_gpus([(9, 0), (7, 5)]).policy
    'mixed_float16'
    """
    known = [capability for capability in capabilities if capability]
    if len(known) < len(capabilities):
        return Precision("float32", "a GPU's compute capability is unknown")
    lowest = min(known)
    policy, condition = "float32", "below 7.0"
    if lowest >= (8, 0):
        policy, condition = "mixed_bfloat16", "at least 8.0"
    elif lowest >= (7, 0):
        policy, condition = "mixed_float16", "at least 7.0, below 8.0"
    major, minor = lowest
    return Precision(
        policy, f"lowest GPU compute capability {major}.{minor} ({condition})"
    )


def precision_for_cpu(flags: Collection[str]) -> Precision:
    """Returns the policy that suits a CPU.

    Args:
        flags: Its instruction sets, as `/proc/cpuinfo` names them; empty where
            they are unknown.

    Returns:
        The policy, and the reason.

    Example:

    >>> precision_for_cpu({"avx2", "avx512_bf16"}).policy
    'mixed_bfloat16'
    """
    if not flags:
        return Precision("float32", "no GPU, and the CPU's flags are unknown")
    for flag in ("amx_bf16", "avx512_bf16"):
        if flag in flags:
            return Precision("mixed_bfloat16", f"no GPU, a CPU with {flag}")
    return Precision(
        "float32", "no GPU, and a CPU without avx512_bf16 or amx_bf16"
    )


def half_precision_findings(model: keras.Model) -> list[str]:
    """Names what a model computes in half precision but should not.

    A probability in half precision has two or three significant digits, and
    is 1 where its distance from 1 is still needed; and the cast to the loss's
    float32 hides the logits, from which Keras otherwise computes the loss. A
    loss in half precision adds up many terms in few digits.

    Looked at are the output layers of a `Sequential` or functional model, and
    the loss objects it was compiled with; a subclassed model does not tell
    its outputs.

    Args:
        model: Any Keras model, built or not, compiled or not.

    Returns:
        One message per finding; empty for a sound model.

    Example:

    >>> layer = keras.layers.Dense(
    ...     10, "softmax", dtype="mixed_bfloat16", name="scores"
    ... )
    >>> findings = half_precision_findings(keras.Sequential([layer]))
    >>> print(*findings)  # doctest: +NORMALIZE_WHITESPACE
    Output layer `scores` computes its softmax in bfloat16. Give the layer
    dtype="float32", or let it return logits to a loss with from_logits=True.
    """
    layers = [
        f"Output layer `{layer.name}` computes its {activation} in "
        f'{layer.compute_dtype}. Give the layer dtype="float32", or let it '
        "return logits to a loss with from_logits=True."
        for layer in _output_layers(model)
        if layer.compute_dtype in _HALF
        and (activation := _activation_name(layer)) in _PROBABILITIES
    ]
    losses = [
        f"Loss `{loss.name}` computes in {loss.dtype}. Give it "
        'dtype="float32", the default.'
        for loss in keras.tree.flatten(getattr(model, "loss", None))
        if isinstance(loss, keras.losses.Loss) and loss.dtype in _HALF
    ]
    # A layer may stand behind several outputs.
    return list(dict.fromkeys(layers + losses))


def _precision_for_hardware() -> Precision:
    gpus = tf.config.get_visible_devices("GPU")
    if not gpus:
        return precision_for_cpu(_cpu_flags())
    details = map(tf.config.experimental.get_device_details, gpus)
    return precision_for_gpus([d.get("compute_capability") for d in details])


def _cpu_flags() -> frozenset[str]:
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return frozenset()
    flags = (line for line in lines if line.startswith("flags"))
    return frozenset(next(flags, "").partition(":")[2].split())


def _is_chief() -> bool:
    from tfdp.cluster import Cluster

    cluster = Cluster.from_environment()
    return cluster is None or cluster.is_chief


def _output_layers(layer: Any) -> Iterator[Any]:
    if isinstance(layer, keras.Sequential):
        for last in layer.layers[-1:]:
            yield from _output_layers(last)
    elif isinstance(layer, keras.Model):
        inner = {each.name: each for each in layer.layers}
        for name in getattr(layer, "output_names", ()):
            # An output may also come from an operation without a layer.
            if name in inner:
                yield from _output_layers(inner[name])
    elif isinstance(layer, keras.layers.Wrapper):
        yield from _output_layers(layer.layer)
    elif isinstance(layer, keras.layers.Layer):
        yield layer


def _activation_name(layer: Any) -> str:
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", None)
    name = getattr(activation, "__name__", type(activation).__name__)
    # `tf.nn.softmax` calls itself softmax_v2.
    return name.lower().removesuffix("_v2")
