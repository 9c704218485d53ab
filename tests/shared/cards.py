"""Which two devices a check on GPUs is made on, and what it calls them."""

import dataclasses

import tensorflow as tf

# Of one card, in MiB; the cases are small.
MEMORY = 4096


@dataclasses.dataclass(frozen=True)
class Devices:
    """Two devices, one per replica.

    Attributes:
        kind: `"GPU"` or `"CPU"`.
        words: What they are, for the table.
        has_nccl: Whether each is a card of its own.
    """

    kind: str
    words: str
    has_nccl: bool = False

    @property
    def names(self):
        return [f"{self.kind}:{place}" for place in range(2)]

    @property
    def cross_device_ops(self):
        """TensorFlow's own choice needs a card per replica."""
        return None if self.has_nccl else tf.distribute.ReductionToOneDevice()


def planned(cards, *, on_cpus=False):
    """Returns what to check on, if there is anything.

    Args:
        cards: Names of the GPUs that TensorFlow sees.
        on_cpus: Whether to take logical CPUs.
    """
    if on_cpus:
        return Devices("CPU", "2 logical CPUs, no GPU")
    if not cards:
        return None
    if len(cards) == 1:
        return Devices("GPU", f"2 logical GPUs on one {cards[0]}, without NCCL")
    first, second = cards[:2]
    return Devices("GPU", f"{first} and {second}, with NCCL", has_nccl=True)


def set_up(*, on_cpus=False):
    """Makes the devices of this process, and returns them."""
    gpus = tf.config.list_physical_devices("GPU")
    names = [
        tf.config.experimental.get_device_details(each).get(
            "device_name", "GPU"
        )
        for each in gpus
    ]
    devices = planned(names, on_cpus=on_cpus)
    if devices is None:
        return None
    if on_cpus:
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_visible_devices([], "GPU")
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
    elif devices.has_nccl:
        for each in gpus:
            tf.config.experimental.set_memory_growth(each, True)
    else:
        half = tf.config.LogicalDeviceConfiguration(memory_limit=MEMORY)
        tf.config.set_logical_device_configuration(gpus[0], [half] * 2)
    # With 10 bits of a product's digits nothing is to be compared.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    return devices
