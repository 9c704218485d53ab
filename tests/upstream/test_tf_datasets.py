"""Which private name of TensorFlow moved, of those that `tf_datasets` uses."""

import pytest
import tensorflow as tf
from contracts import contract

from tfdp.upstream.tensorflow import tf_datasets


@contract(
    "_enable_get_next_as_optional",
    serves="workers ask each other before each step whether there are data",
)
def test_a_distributed_dataset_says_whether_all_are_asked_before_a_batch():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    data = tf.data.Dataset.range(6).batch(4)
    made = strategy.distribute_datasets_from_function(lambda _: data)
    assert made._enable_get_next_as_optional
    tf_datasets.end_together(made)
    iterator = iter(made)
    assert not iterator._enable_get_next_as_optional
    sizes = [len(batch) for batch in iterator]
    assert sizes == [4, 2]


@contract(
    "_seed",
    "_seed2",
    serves="workers that shuffle in different orders are not noticed",
)
def test_shuffled_dataset_holds_its_seeds():
    dataset = tf.data.Dataset.range(8).shuffle(8, seed=3)
    assert int(dataset._seed2) == 3
    assert int(dataset._seed) >= 0
    assert tf_datasets.shuffle_seeds(dataset) == [
        int(dataset._seed),
        int(dataset._seed2),
    ]


@contract(
    "_inputs",
    serves="workers that shuffle in different orders are not noticed",
)
def test_dataset_knows_what_it_was_made_from():
    source = tf.data.Dataset.range(8)
    shuffled = source.shuffle(8, seed=3)
    batched = shuffled.batch(2)
    assert batched._inputs() == [shuffled]
    zipped = tf.data.Dataset.zip(batched, source)
    assert list(zipped._inputs()) == [batched, source]
    seeds = tf_datasets.shuffle_seeds(shuffled)
    assert tf_datasets.shuffle_seeds(zipped) == seeds


@contract(
    "the names of the classes of datasets",
    serves="a prefetch is advised where there is one",
)
def test_a_pipeline_tells_its_steps():
    numbers = tf.constant([0, 1], tf.int64)
    files = tf.data.Dataset.from_tensor_slices(numbers).map(abs).cache()
    dataset = (
        files.interleave(tf.data.Dataset.from_tensors)
        .interleave(tf.data.Dataset.from_tensors, num_parallel_calls=2)
        .map(abs, num_parallel_calls=2)
        .flat_map(tf.data.Dataset.range)
        .skip(0)
        .take(2)
        .batch(2)
        .prefetch(2)
        .apply(tf.data.experimental.assert_cardinality(1))
        .repeat(2)
        .with_options(tf.data.Options())
    )
    assert tf_datasets.pipeline_steps(dataset) == [
        *("Options", "Repeat", "AssertCardinality", "Prefetch", "Batch"),
        *("Take", "Skip", "FlatMap", "ParallelMap", "ParallelInterleave"),
        *("Interleave", "Cache", "Map", "TensorSlice"),
    ]


@contract(
    "_functions",
    serves="workers that shuffle inside of `Dataset.map` or `interleave` in "
    "different orders are not noticed",
)
def test_dataset_knows_its_functions():
    def dataset(seed):
        return tf.data.Dataset.range(2).map(
            lambda _: tf.random.shuffle(tf.range(8), seed=seed)
        )

    (wrapper,) = dataset(3)._functions()
    operations = [n.op for n in wrapper.function.graph.as_graph_def().node]
    assert "RandomShuffle" in operations
    assert 3 in tf_datasets.shuffle_seeds(dataset(3))
    assert 3 not in tf_datasets.shuffle_seeds(dataset(4))


@contract(
    "_functions",
    serves="workers that shuffle inside of `Dataset.interleave` in different "
    "orders are not noticed",
)
@pytest.mark.parametrize("method", ["interleave", "flat_map"])
def test_seeds_of_nested_datasets_are_found(method):
    def seeds(seed):
        def nested(_):
            return tf.data.Dataset.range(8).shuffle(8, seed=seed)

        outer = tf.data.Dataset.range(2)
        return tf_datasets.shuffle_seeds(getattr(outer, method)(nested))

    assert seeds(3) == seeds(3)
    assert seeds(3) != seeds(4)


@contract(
    "input_lib.DistributedDataset",
    serves="Keras, or a `for` in a `tf.function`, does not take the dataset "
    "that counts its epochs for a distributed one",
)
def test_a_strategy_makes_distributed_datasets(two_replicas):
    plain = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
    )
    made = plain.experimental_distribute_dataset(
        tf.data.Dataset.range(4).batch(2)
    )
    assert isinstance(made, tf_datasets.DistributedDataset)


@contract(
    "_functions",
    "PyFunc",
    serves="arrays of a generator are written into",
)
def test_pipelines_that_call_python_are_told_from_others():
    plain = tf.data.Dataset.range(4).map(lambda x: x + 1)

    def generate(_=None):
        return tf.data.Dataset.from_generator(
            lambda: iter([1]), output_signature=tf.TensorSpec((), tf.int64)
        )

    called = plain.map(lambda x: tf.numpy_function(abs, [x], tf.int64))
    assert not tf_datasets.calls_python(plain.shuffle(2).batch(2))
    for dataset in (generate(), called, plain.flat_map(generate)):
        assert tf_datasets.calls_python(dataset.batch(2))


@contract(
    "_inputs",
    serves="workers that are given other samples are not noticed",
)
def test_the_sources_of_a_pipeline_are_found():
    one, other = tf.data.Dataset.range(8), tf.data.Dataset.range(9)
    zipped = tf.data.Dataset.zip(one.shuffle(8).batch(2), other.map(abs))
    assert tf_datasets.source_datasets(zipped.prefetch(1)) == [one, other]
    assert tf_datasets.source_datasets(one) == [one]


@contract(
    "_batch_size",
    "_drop_remainder",
    serves="tfdp.shard does not find the micro-batch, or what `batch` drops",
)
def test_a_dataset_tells_how_it_is_batched():
    samples = tf.data.Dataset.range(8)
    assert tf_datasets.batching(samples) is None
    for batched in (
        samples.batch(3, drop_remainder=True),
        samples.batch(3, drop_remainder=True, num_parallel_calls=2),
        samples.padded_batch(3, drop_remainder=True),
    ):
        assert tf_datasets.batching(batched) == (3, True)
    assert tf_datasets.batching(samples.batch(2)) == (2, False)
    for dropping in (
        samples.padded_batch(3, drop_remainder=True),
        samples.window(3, drop_remainder=True),
        samples.batch(2).rebatch(3, drop_remainder=True),
    ):
        assert tf_datasets.drops_remainder(dropping)
    for whole in (samples, samples.batch(3), samples.window(3)):
        assert not tf_datasets.drops_remainder(whole)


@contract(
    "class names of datasets",
    serves="tfdp.shard refuses what it would know",
)
def test_a_dataset_tells_what_was_done_last():
    samples = tf.data.Dataset.range(8)
    done = {
        "Map": samples.map(abs),
        "ParallelMap": samples.map(abs, num_parallel_calls=2),
        "Prefetch": samples.prefetch(1),
        "Options": samples.with_options(tf.data.Options()),
        "Cache": samples.cache(),
        "AssertCardinality": samples.apply(
            tf.data.experimental.assert_cardinality(8)
        ),
        "Repeat": samples.repeat(2),
        "Take": samples.take(2),
        "Skip": samples.skip(2),
        "Shard": samples.shard(2, 0),
        "TakeWhile": samples.take_while(lambda x: x < 3),
        "Scan": samples.scan(0, lambda state, x: (state, x)),
        "Unique": samples.unique(),
        "Random": tf.data.Dataset.random(1, rerandomize_each_iteration=True),
    }
    assert [tf_datasets.kind(each) for each in done.values()] == list(done)


def test_what_a_function_draws_is_seen():
    def draws(function):
        return tf_datasets.draws_numbers(tf.data.Dataset.range(8).map(function))

    assert draws(lambda x: tf.random.uniform(()))
    assert draws(lambda x: tf.py_function(abs, [x], tf.int64))
    assert not draws(lambda x: tf.random.stateless_uniform((), [x, 1]))
    assert not draws(abs)


def test_random_numbers_are_no_source_to_look_at():
    drawn = tf.data.Dataset.random(1, rerandomize_each_iteration=True)
    samples = tf.data.Dataset.range(8)
    assert tf_datasets.source_datasets(drawn.map(abs)) == []
    both = tf.data.Dataset.zip(samples.map(abs), drawn)
    assert tf_datasets.source_datasets(both) == [samples]


@contract(
    "_filename",
    serves="workers that cache in one file are not noticed",
)
def test_a_cache_tells_its_file():
    samples = tf.data.Dataset.range(8)
    assert tf_datasets.cache_file(samples.cache("a file")) == "a file"
    assert tf_datasets.cache_file(samples.cache()) == ""
    assert tf_datasets.cache_file(samples) == ""


@contract(
    "_deterministic",
    "_functions",
    "DatasetToGraphV2",
    serves="workers that read in different orders are not noticed",
)
def test_an_operation_tells_whether_it_leaves_the_order():
    samples = tf.data.Dataset.range(8)
    one = tf.data.Dataset.from_tensors
    free = {"num_parallel_calls": 2, "deterministic": False}
    kept = {"num_parallel_calls": 2, "deterministic": True}

    def nested(**options):
        return lambda x: one(x).map(abs, **options)

    generated = tf.data.Dataset.from_generator(
        lambda: iter([1]), output_signature=tf.TensorSpec((), tf.int64)
    )
    for leaving in (
        samples.map(abs, **free),
        samples.batch(2, **free),
        samples.interleave(one, **free),
        generated.interleave(one, **free),
        samples.interleave(nested(**free)),
        samples.flat_map(nested(**free)),
        samples.apply(
            tf.data.experimental.parallel_interleave(one, 2, sloppy=True)
        ),
    ):
        assert tf_datasets.leaves_order(leaving)
        # Only of the last one.
        assert not tf_datasets.leaves_order(leaving.prefetch(2))
    for keeping in (
        samples,
        generated,
        samples.map(abs),
        samples.map(abs, num_parallel_calls=2),
        samples.interleave(one, **kept),
        samples.interleave(nested(**kept), num_parallel_calls=2),
        samples.shuffle(8).batch(2, **kept),
    ):
        assert not tf_datasets.leaves_order(keeping)


def test_operations_are_named_as_users_call_them():
    samples = tf.data.Dataset.range(8)
    one = tf.data.Dataset.from_tensors
    assert [
        tf_datasets.called(node)
        for node in (
            samples.map(abs, num_parallel_calls=2),
            samples.interleave(one, num_parallel_calls=2),
            samples.interleave(one).flat_map(one),
            samples.ignore_errors(),
        )
    ] == ["map", "interleave", "flat_map", "ignore_errors"]


@contract(
    "_tensors",
    serves="workers that are given other samples are not noticed",
)
def test_a_source_tells_what_it_holds():
    held = {"a": tf.range(3), "b": tf.constant(["x", "y", "z"])}
    for source in (
        tf.data.Dataset.from_tensor_slices(held),
        tf.data.Dataset.from_tensors(held),
    ):
        a, b = tf_datasets.tensors(source)
        assert a is held["a"]
        assert b is held["b"]
    assert tf_datasets.tensors(tf.data.Dataset.range(3)) == []


@contract(
    "_functions",
    serves="workers that look up other samples are not noticed",
)
def test_tables_of_a_function_are_found():
    # A few numbers from outside are copied to the inside.
    outside, inside = tf.range(200), list(range(200))

    def both(i):
        return tf.gather(outside, i) + tf.gather(inside, i)

    samples = tf.data.Dataset.range(3)
    (found, octets) = tf_datasets.tables(samples.map(both), 200)
    assert found is outside
    assert isinstance(octets, bytes)
    assert tf_datasets.tables(samples.map(both), 201) == []
    assert tf_datasets.tables(samples, 0) == []
    nested = samples.flat_map(lambda i: tf.data.Dataset.range(i).map(both))
    assert len(tf_datasets.tables(nested, 200)) == 2


@contract(
    "_reshuffle_each_iteration",
    serves="what a lost worker leaves is read again in another order",
)
def test_what_draws_another_order_each_time_is_known():
    numbers = tf.data.Dataset.range(4)
    random = tf.data.Dataset.random(rerandomize_each_iteration=True)
    assert tf_datasets.draws_order(numbers.shuffle(4))
    assert tf_datasets.draws_order(random)
    kept = numbers.shuffle(4, reshuffle_each_iteration=False)
    assert not tf_datasets.draws_order(kept)
    assert not tf_datasets.draws_order(numbers.batch(2))


@contract("_functions", serves="datasets inside of functions are not noticed")
def test_a_dataset_that_a_function_uses_is_known():
    inside = tf.data.Dataset.range(4).shuffle(4)
    dataset = tf.data.Dataset.range(2).flat_map(lambda _: inside)
    assert tf_datasets.captures_dataset(dataset)
    assert not tf_datasets.captures_dataset(inside.map(abs))
