"""Which devices make up a replica."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfdp.checks import checked_count

_WAY_OUT = 'Pass, for example, groups=[["GPU:0", "GPU:1"], ["GPU:2", "GPU:3"]].'


def checked_groups(groups: Any) -> list[list[str]]:
    """Returns the names of the devices of each group, such as `"GPU:0"`.

    Args:
        groups: For each replica the names of its devices, in the order of the
            stages.

    Raises:
        TypeError: If `groups` are not lists of names.
        ValueError: If there are none, they differ in size or in kind, or a
            device is in two of them or does not exist.
    """
    if isinstance(groups, str) or not isinstance(groups, Sequence):
        raise TypeError(
            "`groups` must be a list with a list of devices for each replica. "
            f"Received: groups={groups!r}. {_WAY_OUT}"
        )
    checked = [_names(group, groups) for group in groups]
    sizes = [len(group) for group in checked]
    if not checked or 0 in sizes:
        raise ValueError(
            "There must be a group for each replica, with a device at least. "
            f"Received: groups={groups!r}. {_WAY_OUT}"
        )
    if len(set(sizes)) > 1:
        raise ValueError(
            "All groups must have as many devices, as each has every stage of "
            f"a model. Received: groups of {_listed(sizes)} devices. {_WAY_OUT}"
        )
    flat = [name for group in checked for name in group]
    twice = sorted({name for name in flat if flat.count(name) > 1})
    if twice:
        raise ValueError(
            "A device belongs to one replica, and has one place in its group. "
            f"Received: {_listed(twice)} more than once in groups={groups!r}. "
            "Name each device once."
        )
    there = _logical_devices()
    missing = [name for name in flat if name not in there]
    if missing:
        raise ValueError(
            "The devices of `groups` must exist. Received: "
            f"{_listed(missing)}, where there are {_listed(there)}. Name "
            "others; `tfdp.testing.logical_cpus(4)`, called before anything "
            "else of TensorFlow, makes four out of one processor."
        )
    for stage in zip(*checked, strict=True):
        kinds = sorted({name.partition(":")[0] for name in stage})
        if len(kinds) > 1:
            raise ValueError(
                "What has the same place in each group must be of one kind. "
                f"Received: {_listed(stage)}, of kinds {_listed(kinds)}. Name "
                "the devices of each group in the order of the stages."
            )
    return checked


def in_groups(devices: Sequence[str], devices_per_replica: Any) -> Any:
    """Divides devices into groups of neighbours.

    Args:
        devices: Their names.
        devices_per_replica: How many make up a replica.

    Raises:
        TypeError: If that is not an integer.
        ValueError: If it is below 1, or does not divide the devices.
    """
    size = checked_count("devices_per_replica", devices_per_replica)
    if not devices or len(devices) % size:
        raise _not_divided(size, len(devices), "devices")
    return [list(devices[i : i + size]) for i in range(0, len(devices), size)]


def of_workers(devices_per_replica: Any) -> tuple[int, list[list[str]]]:
    """Divides the devices of a worker, before TensorFlow has started.

    TensorFlow has a worker's replicas on its first devices. So the stages
    after the first are on those that follow: of 4 GPUs, 0 and 2 are a replica,
    and 1 and 3.

    Args:
        devices_per_replica: How many make up a replica.

    Returns:
        How many GPUs TensorFlow is to take for replicas; and the names of the
        devices of each replica. Without GPUs it is one replica, on CPUs.

    Raises:
        TypeError: If `devices_per_replica` is not an integer.
        ValueError: If it is below 1, or does not divide the GPUs, or there
            are fewer CPUs.
    """
    size = checked_count("devices_per_replica", devices_per_replica)
    gpus = count_of("GPU")
    if gpus:
        if gpus % size:
            raise _not_divided(size, gpus, "GPUs of this worker")
        replicas = gpus // size
        return replicas, [
            [f"GPU:{replica + stage * replicas}" for stage in range(size)]
            for replica in range(replicas)
        ]
    cpus = count_of("CPU")
    if cpus < size:
        raise ValueError(
            "A worker must have the devices of a replica. Received: "
            f"devices_per_replica={size}, and {cpus} logical CPUs, without a "
            f"GPU. Call `tfdp.testing.logical_cpus({size})` before anything "
            "else of TensorFlow, or pass fewer devices_per_replica."
        )
    return 0, [[f"CPU:{stage}" for stage in range(size)]]


def beside(
    devices: Sequence[str], groups: Sequence[Sequence[str]]
) -> tuple[tuple[str, ...], ...]:
    """Returns groups by the full names of their devices.

    Args:
        devices: Full name of the first device of each group.
        groups: Names such as `"GPU:0"`, of devices of the same process.
    """
    return tuple(
        tuple(
            f"{device.rpartition('/device:')[0]}/device:{name}"
            for name in group
        )
        for device, group in zip(devices, groups, strict=True)
    )


def _names(group: Any, groups: Any) -> list[str]:
    if isinstance(group, str) or not isinstance(group, Sequence):
        raise TypeError(
            "Each group must be a list of names of devices. Received: "
            f"{group!r} in groups={groups!r}. {_WAY_OUT}"
        )
    return [_name(device, groups) for device in group]


def _name(device: Any, groups: Any) -> str:
    """Returns `"GPU:0"` for `"gpu:0"`, `"/device:GPU:0"` and the like."""
    try:
        # Of a logical device, too.
        spec = tf.DeviceSpec.from_string(getattr(device, "name", device))
        if spec.device_type is None:
            raise ValueError
    except (AttributeError, TypeError, ValueError):
        raise ValueError(
            "A device has a name such as 'GPU:0'. Received: "
            f"{device!r} in groups={groups!r}. {_WAY_OUT}"
        ) from None
    return f"{spec.device_type}:{spec.device_index or 0}"


def _logical_devices() -> list[str]:
    logical = tf.config.list_logical_devices()
    return [name.rpartition("device:")[2] for name, *_ in logical]


def count_of(kind: str) -> int:
    """Counts logical devices of this process; TensorFlow need not run.

    Args:
        kind: `"GPU"` or `"CPU"`.
    """
    return sum(
        len(tf.config.get_logical_device_configuration(each) or [each])
        for each in tf.config.get_visible_devices(kind)
    )


def _not_divided(size: int, count: int, what: str) -> ValueError:
    return ValueError(
        "`devices_per_replica` must divide the devices. Received: "
        f"devices_per_replica={size} for {count} {what}. Pass a number that "
        "divides them, or hide some by `tf.config.set_visible_devices`."
    )


def _listed(values: Any) -> str:
    return ", ".join(map(str, values))
