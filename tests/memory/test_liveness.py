"""Peaks of graphs that are small enough to be told by hand."""

import pytest
import tensorflow as tf

from tfdp.memory.liveness import Liveness

ROW = 1000 * 4


def peak(function, *shapes, **options):
    traced = tf.function(function, autograph=False)
    graph = traced.get_concrete_function(*map(tf.TensorSpec, shapes)).graph
    return Liveness(graph, **options).peak().bytes


def test_a_chain_holds_two_at_a_time():
    def chain(x):
        for _ in range(5):
            x = tf.reverse(x, [0])
        return x

    assert peak(chain, (1000,)) == pytest.approx(2 * ROW, abs=64)


def test_what_is_written_over_its_input_counts_once():
    def over(x):
        return tf.tanh(tf.tanh(tf.tanh(x + 1.0)))

    # The input, which is the caller's, and one more.
    assert peak(over, (1000,)) == pytest.approx(ROW, abs=64)


def test_what_the_backward_pass_needs_is_held():
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x
            for _ in range(8):
                y = tf.tanh(y)
            loss = tf.reduce_sum(y)
        return tape.gradient(loss, x)

    assert peak(gradient, (1000,)) >= 8 * ROW


def test_a_gradient_of_the_loss_is_written_over_what_it_is_of():
    def loss(x):
        labels = tf.zeros(10, tf.int32)
        with tf.GradientTape() as tape:
            logits = x + 1.0
            tape.watch(logits)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels, logits
            )
        return tape.gradient(loss, logits)

    assert peak(loss, (10, 100)) == pytest.approx(ROW, abs=256)


@pytest.mark.parametrize("columns", [16, 15])
def test_rows_are_where_they_are_cut_out_if_aligned(columns):
    def rows(x):
        y = tf.reverse(x, [0])
        return tf.concat([each[5:6] * 2.0 for each in (y[8:], y[16:])], 0)

    whole = 64 * columns * 4
    found = peak(rows, (64, columns))
    if columns == 16:
        assert found == pytest.approx(whole, abs=512)
    else:
        assert found > 1.8 * whole


def test_dead_branches_do_not_count():
    def dead(x):
        tf.linalg.matmul(x[:, tf.newaxis], x[tf.newaxis])
        return x + 1.0

    assert peak(dead, (1000,)) == pytest.approx(ROW, abs=64)


def test_calls_are_looked_into():
    @tf.function(autograph=False)
    def inner(x):
        return tf.concat([x, x], 0)

    assert peak(lambda x: inner(inner(x)), (1000,)) == pytest.approx(
        6 * ROW, abs=64
    )


def test_of_branches_the_larger_counts():
    def branches(x):
        return tf.cond(
            x[0] > 0, lambda: tf.concat([x, x, x], 0)[:1000], lambda: x + 1.0
        )

    assert peak(branches, (1000,)) >= 3 * ROW


@pytest.mark.parametrize("turns", [10, 40])
def test_what_a_loop_keeps_counts_with_its_turns(turns):
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            _, y = tf.while_loop(
                lambda i, y: i < turns,
                lambda i, y: (i + 1, tf.tanh(y)),
                (0, x),
                maximum_iterations=turns,
            )
            loss = tf.reduce_sum(y)
        return tape.gradient(loss, x)

    found = peak(gradient, (1000,))
    assert turns * ROW <= found < (turns + 8) * ROW
