"""What TensorFlow calls operations, of what `graphs` looks for."""

import keras
import pytest
import tensorflow as tf
from contracts import contract

from tfdp.step import graphs
from tfdp.step.graphs.linearity import is_of_tape

CHANGES = {
    "assign": lambda v, x: v.assign(x),
    "assign_add": lambda v, x: v.assign_add(x),
    "assign_sub": lambda v, x: v.assign_sub(x),
    "scatter": lambda v, x: v.scatter_update(tf.IndexedSlices(x[:1], [0])),
    "scatter_nd": lambda v, x: v.scatter_nd_add([[0]], x[:1]),
    "place": lambda v, x: v[0].assign(x[0]),
}


def traced(fn, *arguments):
    return tf.function(fn).get_concrete_function(*arguments).graph


@contract("Assign", "ResourceScatter", serves="state that moves is not told")
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_variable_is_found_with_what_it_is_changed_by(name):
    variable = tf.Variable([1.0, 2.0])

    def step(x):
        CHANGES[name](variable, 2.0 * x)

    graph = traced(step, tf.constant([1.0, 2.0]))
    (found,) = graphs.assignments(graph.get_operations())
    assert found.variable is variable.handle
    (given,) = graph.inputs[:1]
    assert graphs.leads(lambda t: t.ref() == given.ref(), found.values)


@contract("captures", serves="variables inside of loops are not known")
def test_a_variable_is_known_inside_of_a_function_inside():
    variable = tf.Variable(1.0)
    found = []

    @tf.function
    def inside():
        variable.assign_add(1.0)
        graph = tf.compat.v1.get_default_graph()
        found.extend(graphs.assignments(graph.get_operations()))
        return 0.0

    traced(lambda: inside())
    assert [each.variable is variable.handle for each in found] == [True]


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (lambda v, w: v.assign_add(1.0), True),
        (lambda v, w: v.assign(v + 1.0), True),
        (lambda v, w: v.assign(0.0), True),
        (lambda v, w: v.assign(0.5 * v), False),
        (lambda v, w: v.assign_add(w), False),
        (
            lambda v, w: v.assign(tf.cond(w > 0, lambda: w + 0, lambda: v + 0)),
            False,
        ),
    ],
)
def test_a_counter_is_known(change, counts):
    v, w = tf.Variable(1.0), tf.Variable(1.0)
    (found,) = graphs.assignments(traced(lambda: change(v, w)).get_operations())
    assert graphs.counts(found) is counts


def by_a_function(change):
    def call(v, w, x, known):
        tf.function(lambda *given: change(v, w, *given))(x, known)

    return call


def in_a_branch(of):
    def change(v, w, x, known):
        tf.cond(of(w, x, known) > 0, lambda: v.assign_add(1.0), lambda: v + 0)

    return change


def in_a_loop(of, by):
    def change(v, w, x, known):
        tf.while_loop(
            lambda i, total: i < of(w, x, known),
            lambda i, total: (i + 1, total + v.assign_add(by(w, x, known))),
            (0.0, 0.0),
        )

    return change


def carried_in_a_loop(v, w, x, known):
    *_, last = tf.while_loop(
        lambda i, a, b: i < 3.0, lambda i, a, b: (i + 1, x[0], a), (0.0, w, w)
    )
    v.assign(last)


def w_of(w, x, known):
    return w + 0


def x_of(w, x, known):
    return x[0]


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        (lambda v, w, x, known: v.assign_add(1.0), ""),
        (lambda v, w, x, known: v.assign(0.5 * v + w), ""),
        (lambda v, w, x, known: v.assign_add(known), ""),
        (lambda v, w, x, known: v.assign_add(tf.reduce_sum(x)), "v"),
        # By what has not been changed by it until the next step.
        (lambda v, w, x, known: (v.assign_add(w), w.assign(x[0])), "vw"),
        (by_a_function(lambda v, w, x, known: v.assign_add(1.0)), ""),
        (by_a_function(lambda v, w, x, known: v.assign_add(known)), ""),
        (by_a_function(lambda v, w, x, known: v.assign_add(x[0])), "v"),
        (by_a_function(in_a_branch(x_of)), "v"),
        (in_a_branch(w_of), ""),
        (in_a_branch(x_of), "v"),
        (in_a_loop(w_of, w_of), ""),
        (in_a_loop(w_of, x_of), "v"),
        (in_a_loop(x_of, w_of), "v"),
        (carried_in_a_loop, "v"),
    ],
)
def test_what_samples_move_is_known_from_what_moves_anyway(change, moved):
    v, w = tf.Variable(1.0), tf.Variable(1.0)
    given = []

    def step(x):
        known = tf.reduce_sum(x)
        given.extend([x.ref(), known.ref()])
        change(v, w, x, known)
        v.assign_add(1.0)

    operations = traced(step, tf.constant([1.0])).get_operations()
    source, known = given
    found = graphs.moved_by([source], {known}, operations)
    names = {id(v.handle): "v", id(w.handle): "w"}
    assert "".join(sorted(map(names.get, found))) == moved


def test_a_place_of_a_variable_that_samples_move_is_known():
    variable = tf.Variable([1.0, 2.0])
    graph = traced(lambda x: variable[1].assign(x), tf.constant(1.0))
    (given,) = graph.inputs[:1]
    found = graphs.moved_by([given.ref()], (), graph.get_operations())
    assert found == {id(variable.handle)}


@contract("gradient_tape", serves="gradients are not told from losses")
def test_what_a_tape_makes_has_its_name():
    weight = tf.Variable(2.0)
    dense = keras.layers.Dense(1)
    dense.build((None, 2))

    def step(x):
        with tf.GradientTape() as tape:
            loss = weight * tf.reduce_sum(dense(x))
            loss += tf.custom_gradient(lambda y: (y, lambda u: u))(loss)
        found.append(loss)
        found.extend(tape.gradient(loss, [weight, *dense.trainable_weights]))

    found = []
    traced(step, tf.ones((3, 2)))
    loss, *gradients = found
    assert not is_of_tape(loss)
    assert all(map(is_of_tape, gradients))


@contract("IdentityN", serves="rows of all replicas seem those of one")
def test_a_result_with_a_gradient_of_its_own_is_not_its_arguments():
    @tf.custom_gradient
    def constant(x):
        return tf.ones(()), lambda upstream: upstream

    seen = []

    def step(x):
        seen.append(graphs.leads(lambda t: t.ref() == x.ref(), [constant(x)]))

    traced(step, tf.constant(1.0))
    assert seen == [False]


@contract("traceback", serves="gradients of other names are told of")
def test_what_is_made_inside_of_a_tape_is_known_by_its_traceback():
    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder(tf.float32, ())
        (gradient,) = tf.gradients(tf.sign(x) * x * x, [x])
    taken = graphs.Gradients([gradient], ())
    assert not is_of_tape(gradient)
    assert taken.not_linear(gradient) is None
    assert not taken.lead(gradient)
