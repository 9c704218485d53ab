"""Random numbers that belong to samples, whichever replica has them.

Philox gives the numbers of any place in its sequence at once. A sample has a
stretch of it to itself, by its place among all that were trained on: what is
drawn for it depends neither on the number of replicas nor on accumulation.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfdp.step.places import SCOPE, checked, places_for

_PHILOX = 1
_BYTES = 16  # Of what Philox gives at a time.


@keras.saving.register_keras_serializable(package="tfdp")
class SampleSeedGenerator(keras.random.SeedGenerator):
    """A `keras.random.SeedGenerator` that draws for each sample.

    Of its state, which is the same on all replicas and workers, the second
    number counts the samples that were drawn for. In a step, a layer's rows
    are given what belongs to the samples from there on.
    """

    def next(self, ordered: bool = True) -> Any:
        """Returns what to draw with next.

        Args:
            ordered: As in Keras. Defaults to `True`.

        Returns:
            A `SampleSeed` inside of a step of a strategy; elsewhere what Keras
            does.

        Raises:
            ValueError: If it is used in a loop, a condition or a function
                inside of the step.
        """
        here = places_for(self.name)
        if here is None:
            return super().next(ordered)
        drawn = here.drawn.get(id(self))
        if drawn is None:
            state = tf.cast(self.state.value, tf.int64)
            drawn = state[0], state[1], 0
            counted = tf.stack([tf.zeros([], tf.int64), here.total])
            self.state.assign(
                self.state.value + tf.cast(counted, self.state.value.dtype)
            )
        seed, samples, times = drawn
        here.drawn[id(self)] = seed, samples, times + 1
        return SampleSeed(
            generator=self.name,
            times=times,
            seed=seed,
            first=samples + here.first,
            stride=here.stride,
            rows=here.rows,
        )


class SampleSeed(tf.experimental.ExtensionType):
    """What a random operation is given for a seed, to draw for each sample.

    Attributes:
        generator: Name of the generator.
        times: How often the generator was asked in this step before.
        seed: Scalar int64; seed of the generator.
        first: Scalar int64; place of the first row among all samples.
        stride: Scalar int64; how far from each other the rows are.
        rows: Scalar int64; how many there are.
    """

    generator: str
    times: int
    seed: tf.Tensor
    first: tf.Tensor
    stride: tf.Tensor
    rows: tf.Tensor

    @property
    def dtype(self) -> tf.DType:
        """The type of seeds that Keras hands on as they are."""
        return tf.int32

    def draw(
        self,
        operation: Callable[..., tf.Tensor],
        shape: Any,
        size: int,
        **options: Any,
    ) -> tf.Tensor:
        """Draws numbers, whose first axis is that of the samples.

        Args:
            operation: One of TensorFlow's that fills a shape from `key`,
                `counter` and `alg`, with as many bits for each number as it
                has.
            shape: What to fill.
            size: Bytes of a number.
            options: Further arguments of the operation.

        Raises:
            ValueError: If the first axis is known to be another.
        """
        with tf.name_scope(SCOPE):
            shape = tf.cast(tf.convert_to_tensor(shape), tf.int64)
            shape = checked(shape, self.rows, self.generator)
            # A number of less than 32 bits is made of as many.
            at_a_time = _BYTES // max(size, 4)
            numbers = tf.reduce_prod(shape[1:])
            blocks = (numbers + at_a_time - 1) // at_a_time
            counter = tf.cast(self.first * blocks, tf.uint64)
            span = tf.maximum((shape[0] - 1) * self.stride + 1, 0)
            drawn = operation(
                shape=tf.stack([span, blocks * at_a_time]),
                key=self._key(blocks),
                counter=tf.stack([counter, tf.zeros([], tf.uint64)]),
                alg=_PHILOX,
                **options,
            )
            return tf.reshape(drawn[:: self.stride, :numbers], shape)

    def _key(self, blocks: tf.Tensor) -> tf.Tensor:
        # Rows of another length begin elsewhere, and must not meet these.
        seed = tf.stack([self.seed, tf.zeros([], tf.int64)])
        for number in (tf.constant(self.times, tf.int64), blocks):
            seed = tf.random.experimental.stateless_fold_in(seed, number)
        return tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)[0]

    def __tf_tensor__(self, *_: Any) -> Any:
        """Refuses to be a seed of anything else."""
        raise self._refused()

    def __add__(self, other: Any) -> Any:
        """Refuses to become another seed."""
        raise self._refused()

    def _refused(self) -> TypeError:
        return TypeError(
            'With `random_by="sample"` a layer draws by `keras.random`\'s '
            "`uniform`, `normal`, `truncated_normal`, `randint` or `dropout`. "
            f"Received: another use of the seed of '{self.generator}'. Draw "
            "by one of these, or leave the strategy at "
            '`random_by="replica"`.'
        )


@tf.experimental.dispatch_for_api(
    tf.random.stateless_uniform, {"seed": SampleSeed}
)
def _uniform(
    shape: Any,
    seed: SampleSeed,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = tf.float32,
    name: Any = None,
    alg: Any = "auto_select",
) -> tf.Tensor:
    dtype = tf.as_dtype(dtype)
    if dtype.is_integer:
        minval, maxval = tf.cast(minval, dtype), tf.cast(maxval, dtype)
        return seed.draw(
            tf.raw_ops.StatelessRandomUniformIntV2,
            shape,
            dtype.size,
            minval=minval,
            maxval=maxval,
        )
    minval = tf.cast(minval, dtype)
    maxval = tf.cast(1 if maxval is None else maxval, dtype)
    drawn = seed.draw(
        tf.raw_ops.StatelessRandomUniformV2, shape, dtype.size, dtype=dtype
    )
    return drawn * (maxval - minval) + minval


@tf.experimental.dispatch_for_api(
    tf.random.stateless_normal, {"seed": SampleSeed}
)
def _normal(
    shape: Any,
    seed: SampleSeed,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = tf.float32,
    name: Any = None,
    alg: Any = "auto_select",
) -> tf.Tensor:
    dtype = tf.as_dtype(dtype)
    drawn = seed.draw(
        tf.raw_ops.StatelessRandomNormalV2, shape, dtype.size, dtype=dtype
    )
    return drawn * tf.cast(stddev, dtype) + tf.cast(mean, dtype)


@tf.experimental.dispatch_for_api(
    tf.random.stateless_truncated_normal, {"seed": SampleSeed}
)
def _truncated_normal(
    shape: Any,
    seed: SampleSeed,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = tf.float32,
    name: Any = None,
    alg: Any = "auto_select",
) -> tf.Tensor:
    # Of a normal distribution, the part within two standard deviations.
    part = tf.math.erf(tf.sqrt(2.0))
    drawn = seed.draw(
        tf.raw_ops.StatelessRandomUniformV2,
        shape,
        tf.float32.size,
        dtype=tf.float32,
    )
    normal = tf.sqrt(2.0) * tf.math.erfinv((2 * drawn - 1) * part)
    dtype = tf.as_dtype(dtype)
    return tf.cast(normal, dtype) * tf.cast(stddev, dtype) + tf.cast(
        mean, dtype
    )
