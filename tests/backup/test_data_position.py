"""Where in its data a training is, and how to get there again."""

import types

import keras
import problem
import pytest
import tensorflow as tf

import tfdp
from tfdp.backup.courses.data_position import DataPosition, Position, skip
from tfdp.upstream.keras import keras_data, keras_fit
from tfdp.upstream.tensorflow import tf_runtime


class Watch(keras.callbacks.Callback):
    """Follows a fit as `BackupAndRestore` does."""

    def __init__(self, go_to=None):
        super().__init__()
        self.go_to = go_to
        self.in_epoch = []
        self.between = []

    def on_train_begin(self, logs=None):
        self.position = DataPosition()
        # Keras has looked at a batch already.
        dataset = keras_data.distributed_dataset(keras_fit.fit_under_way())
        self.begun_before = dataset.times_begun
        if self.go_to is not None:
            self.was_there = self.position.go_to(self.go_to)

    def on_train_batch_begin(self, batch, logs=None):
        self.position.begin_step()

    def on_train_batch_end(self, batch, logs=None):
        self.position.end_step(1)
        self.in_epoch.append(self.counted(self.position.in_epoch))

    def on_epoch_end(self, epoch, logs=None):
        self.between.append(self.counted(self.position.of_next_epoch))

    def counted(self, position):
        begun, batches = position
        return (begun - self.begun_before, batches)


@pytest.fixture(scope="module")
def model():
    with tfdp.MirroredStrategy(["CPU:0"]).scope():
        model = problem.make_model()
        model.compile("sgd", "mse")
    return model


def watched(model, data, *, go_to=None, **arguments):
    watch = Watch(go_to)
    arguments = {"epochs": 2, "verbose": 0, **arguments}
    model.fit(data, callbacks=[watch], **arguments)
    return watch


def data(seed=3):
    """Three batches; without a seed where it is `None`."""
    samples = tf.data.Dataset.from_tensor_slices(problem.arrays(12))
    return problem.untuned(samples.shuffle(12, seed=seed).batch(4))


def test_each_epoch_begins_the_data_anew(model):
    watch = watched(model, data())
    # Keras may begin them at the end of an epoch, too.
    begun, _ = watch.between[0]
    assert begun > 1
    assert watch.in_epoch == [
        *((1, 1), (1, 2), (1, 3)),
        *((begun, 1), (begun, 2), (begun, 3)),
    ]
    assert watch.between[0] == (begun, 0)


def test_epochs_of_few_steps_share_an_iterator(model):
    watch = watched(model, data(), steps_per_epoch=1, epochs=3)
    assert watch.in_epoch == [(1, 1), (1, 2), (1, 3)]
    assert watch.between[:2] == [(1, 1), (1, 2)]


def test_an_endless_dataset_is_begun_once(model):
    watch = watched(model, data().repeat(), steps_per_epoch=4)
    assert watch.in_epoch == [(1, n) for n in range(1, 9)]
    assert watch.between == [(1, 4), (1, 8)]


@pytest.mark.parametrize("is_shuffled", [True, False])
def test_going_to_a_later_epoch_begins_the_data_as_often(model, is_shuffled):
    source = data() if is_shuffled else problem.dataset(12, 4)
    watch = watched(model, source, go_to=Position(4, 0), epochs=1)
    assert watch.was_there
    third = 4 - watch.begun_before
    assert watch.in_epoch == [(third, 1), (third, 2), (third, 3)]


def test_one_cannot_go_back(model):
    class Late(Watch):
        def on_epoch_end(self, epoch, logs=None):
            self.was_there = self.position.go_to(Position(1, 0))

    watch = Late()
    model.fit(data(), epochs=1, verbose=0, callbacks=[watch])
    assert watch.was_there is False


def nested(seed):
    def shuffled(_):
        return tf.data.Dataset.range(8).shuffle(8, seed=seed)

    return tf.data.Dataset.range(2).flat_map(shuffled)


@pytest.fixture
def position_in(monkeypatch):
    """The position in a dataset, of a fit that is made up."""

    def position_in(source):
        fit = types.SimpleNamespace(
            steps_per_epoch=None,
            data_adapter=None,
            dataset=types.SimpleNamespace(order=source, times_begun=0),
        )
        monkeypatch.setattr(keras_fit, "fit_under_way", lambda: fit)
        monkeypatch.setattr(
            keras_data, "distributed_dataset", lambda f: f.dataset
        )
        return DataPosition()

    seed = tf_runtime.global_seed()
    tf.random.set_seed(None)
    yield position_in
    tf.random.set_seed(seed)


@pytest.mark.parametrize("make", [data, nested])
def test_shuffling_without_a_seed_is_not_repeatable(position_in, make):
    assert not position_in(make(seed=None)).is_repeatable(None)
    assert position_in(make(seed=3)).is_repeatable(None)


def test_shuffling_by_the_programs_seed_is_repeatable(position_in):
    tf.random.set_seed(1)
    assert position_in(data(seed=None)).is_repeatable(None)


def test_a_seed_that_nobody_has_set_is_another_next_time(position_in):
    tf.random.set_seed(7)
    assert position_in(data(seed=None)).is_repeatable(8)
    assert not position_in(data(seed=None)).is_repeatable(7)
    assert position_in(problem.dataset(12, 4)).is_repeatable(7)


def test_data_that_are_not_shuffled_are_repeatable(position_in):
    assert position_in(problem.dataset(12, 4)).is_repeatable(None)


def test_the_order_differs_where_the_seed_does(position_in):
    orders = [position_in(data(seed)).order for seed in (3, 3, 4)]
    assert orders[0] == orders[1] != orders[2]


def test_skipped_batches_are_taken():
    iterator = iter(range(5))
    skip(iterator, 0)
    skip(iterator, 3)
    assert next(iterator) == 3
