"""What Adam keeps of gradients.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_adam.py`.
"""

import keras

from tfdp.upstream.private import Member

_FEWER = "Adam cannot be updated by fewer kernels"
_momentums = Member("_momentums", serves=_FEWER)
_velocities = Member("_velocities", serves=_FEWER)


def moments_at(
    optimizer: keras.optimizers.Adam, place: int
) -> tuple[keras.Variable, keras.Variable]:
    """Returns the averages of a variable's gradient, and of its square.

    Args:
        optimizer: A built `Adam`, or `AdamW`.
        place: The place of the variable among those it was built for.
    """
    return _momentums.of(optimizer)[place], _velocities.of(optimizer)[place]
