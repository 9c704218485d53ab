"""What a fit trains, and on what."""

import math
import platform
from importlib import metadata
from typing import Any

import keras
import tensorflow as tf

from tfdp.machine import usable_cores
from tfdp.upstream.keras import inspection
from tfdp.upstream.tensorflow import tf_runtime

_KERNELS = {True: "oneDNN", False: "Eigen", None: None}


def run_header(model: keras.Model, *, unit: str = "samples") -> dict[str, Any]:
    """Describes a fit, for the first row of its log.

    Args:
        model: The model that is fitted; built and compiled.
        unit: What it is that throughput counts. Defaults to `"samples"`.

    Returns:
        What `tfdp.run_log.RunLog` tells of a run, but for its time and its
        place in the training. Devices are those of this worker, replicas
        those of all that update together; communication is what large
        gradients travel by between workers, `None` for one worker; parameters
        are all numbers in the model's weights, trained or not.
        `"asynchronous"` is there where workers are, and has their bound and
        how many they are.
    """
    strategy = model.distribute_strategy
    header = {
        "versions": {
            "tfdp": metadata.version("tfdp"),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "python": platform.python_version(),
        },
        "machine": f"{platform.machine()}, {usable_cores()} cores",
        "kernels": _KERNELS[tf_runtime.uses_onednn()],
        "strategy": type(strategy).__name__,
        "workers": getattr(strategy, "num_workers", 1),
        "replicas": strategy.num_replicas_in_sync,
        "devices": _devices(strategy),
        "accumulation_steps": getattr(model.optimizer, "accumulation_steps", 1),
        "optimizer": ", ".join(
            type(inspection.innermost(each)).__name__
            for each in inspection.optimizers(model)
        ),
        "communication": _communication(strategy),
        "unit": unit,
        "parameters": sum(math.prod(each.shape) for each in model.weights),
    }
    if (bound := getattr(strategy, "max_staleness", None)) is not None:
        header["asynchronous"] = {
            "max_staleness": bound,
            "workers": strategy.size,
        }
    return header


def _communication(strategy: tf.distribute.Strategy) -> str | None:
    """Returns what gradients travel by between workers, where they do."""
    if getattr(strategy, "num_workers", 1) == 1:
        return None
    return "TensorFlow" if strategy.carrier is None else "gloo"


def _devices(strategy: tf.distribute.Strategy) -> list[str]:
    try:
        names = strategy.extended.worker_devices
    except RuntimeError:
        # Outside of any strategy, TensorFlow takes the first device.
        first = tf.config.list_logical_devices("GPU") or ["CPU:0"]
        names = [getattr(first[0], "name", first[0])]
    return [_model_name(tf.DeviceSpec.from_string(name)) for name in names]


def _model_name(device: tf.DeviceSpec) -> str:
    gpus = tf.config.get_visible_devices("GPU")
    if device.device_type != "GPU" or device.device_index >= len(gpus):
        return device.device_type
    details = tf.config.experimental.get_device_details(
        gpus[device.device_index]
    )
    return details.get("device_name", "GPU")
