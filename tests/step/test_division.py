"""What was divided by the number of replicas, computed without."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdp.step import division

LOSS = 6.0
SPELLINGS = {
    "loss / n": lambda loss, n: loss / n,
    "loss * (1 / n)": lambda loss, n: loss * (1 / n),
    "(1 / n) * loss": lambda loss, n: (1 / n) * loss,
    "ops.divide": keras.ops.divide,
    "ops.multiply": lambda loss, n: keras.ops.multiply(loss, 1 / n),
    "n * (loss / n) / n": lambda loss, n: n * (loss / n) / n,
    "tf.divide": tf.divide,
    "tf.cast(n)": lambda loss, n: loss / tf.cast(n, loss.dtype),
}


def computed(make, count=4, *, is_keras=False):
    """Returns what `make` makes of a loss, and that without the division."""

    @tf.function
    def step(loss):
        with division.noting_divisions(None):
            made = make(loss, division.count_for(count, is_keras=is_keras))
            return made, division.undivided(made)

    return step(tf.constant(LOSS))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_loss_divided_by_hand_is_known_undivided(spelling):
    divided, whole = computed(SPELLINGS[spelling])
    assert float(divided) == LOSS / 4
    assert float(whole) == LOSS


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize(
    "spelling", ["loss / n", "ops.divide", "(1 / n) * loss"]
)
def test_the_type_of_a_loss_stays(dtype, spelling):
    divided, whole = computed(
        lambda loss, n: SPELLINGS[spelling](tf.cast(loss, dtype), n)
    )
    assert divided.dtype == whole.dtype == dtype


def test_a_division_of_keras_is_known():
    def scaled(loss, n):
        return keras.ops.multiply(loss, keras.ops.cast(1.0 / n, loss.dtype))

    divided, whole = computed(scaled, is_keras=True)
    assert (float(divided), float(whole)) == (LOSS / 4, LOSS)


def test_what_is_made_of_a_divided_loss_is_known_too():
    _, whole = computed(lambda loss, n: tf.exp(0.5 * (loss / n)) + 1.0)
    np.testing.assert_allclose(whole, np.exp(0.5 * LOSS) + 1, rtol=1e-6)


def test_a_value_without_the_number_is_itself():
    made, whole = computed(lambda loss, n: (loss / n, loss)[1] * 0.25)
    assert float(made) == float(whole) == LOSS / 4


def test_a_number_that_python_has_computed_with_is_lost():
    _, whole = computed(lambda loss, n: loss * (1.0 / float(n)))
    assert whole is None


def test_a_loss_that_takes_many_operations_is_not_computed_again():
    def long(loss, n):
        loss /= n
        for _ in range(300):
            loss += 1.0
        return loss

    assert computed(long)[1] is None


def test_a_random_part_is_not_drawn_again():
    def random(loss, n):
        return tf.random.gamma([], loss / n)

    assert computed(random)[1] is None


def test_a_function_inside_is_not_looked_into():
    inside = tf.function(lambda loss, n: loss / n)
    assert computed(lambda loss, n: inside(loss, n))[1] is None


def test_values_outside_of_a_graph_are_not_known():
    with division.noting_divisions(None):
        loss = tf.constant(LOSS) / division.count_for(4, is_keras=False)
        assert division.undivided(loss) is None


def test_the_number_counts_and_compares_as_ever():
    with division.noting_divisions(None):
        count = division.count_for(4, is_keras=False)
    assert isinstance(count, int)
    assert (
        count,
        count > 1,
        list(range(count))[-1],
        8 / count,
        9 // count,
    ) == (
        4,
        True,
        3,
        2.0,
        2,
    )


@pytest.mark.parametrize("count", [1, 4])
def test_the_number_is_a_plain_one_outside_of_a_step(count):
    assert type(division.count_for(count, is_keras=False)) is int
    assert type(division.count_for(count, is_keras=True)) is int
