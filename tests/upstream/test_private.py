"""A private name that is missing takes down only what needs it."""

import contextlib
import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import types

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf
from keras.src.backend.tensorflow import trainer
from keras.src.trainers.data_adapters import (
    array_data_adapter,
    py_dataset_adapter,
)
from places import SHARED
from private_names import DECLARED, MODULES, hide, last_part
from tensorflow.python.eager import context

import tfdp
from tfdp.agreement import program
from tfdp.upstream import private
from tfdp.upstream.keras import (
    keras_adam,
    keras_data,
    keras_epochs,
    keras_fit,
    keras_losses,
    keras_masks,
    keras_models,
    keras_optimizers,
    keras_steps,
    keras_variables,
)
from tfdp.upstream.private import Member, MissingNameError, Name
from tfdp.upstream.tensorflow import (
    tf_compilation,
    tf_datasets,
    tf_functions,
    tf_generators,
    tf_iterator_states,
    tf_iterators,
    tf_loops,
    tf_placement,
    tf_replicas,
    tf_runtime,
    tf_start,
)

# What every training of a `DistributedOptimizer` with `DataParallel` uses.
OF_EVERY_FIT = {
    "keras_epochs._adapter",
    "keras_epochs._distributed_dataset",
    "keras_epochs._catch_stop_iteration",
    "keras_epochs._enumerate_iterator",
    "keras_epochs._epoch_iterator",
    "keras_epochs._get_iterator",
    "tf_datasets._functions",
    "tf_datasets._inputs",
    "keras_models._compile_metrics",
    "keras_models._user_metrics",
    "keras_models._user_weighted_metrics",
    "keras_models._flatten_layers",
    "keras_models._non_trainable_variables",
    "keras_models._seed_generators",
    "keras_optimizers._learning_rate",
    "keras_optimizers._sum_over_replicas",
    "keras_optimizers._get_variable_index",
    "keras_optimizers._trainable_variables",
    "keras_optimizers._filter_empty_gradients",
    "tf_functions._control_status",
    "tf_functions._tf_convert",
    "tf_replicas._merge_call",
}


class Feeding:
    """Calls as Keras's `EpochIterator` does, with arrays to shuffle."""

    def __init__(self, shuffle=True, x=None):
        x = np.zeros((4, 2), "float32") if x is None else x
        self.data_adapter = array_data_adapter.ArrayDataAdapter(
            x, x, batch_size=2, shuffle=shuffle
        )

    def arrays(self):
        return keras_data.arrays(self)


def model(*metrics):
    made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    made.compile("sgd", "mse", metrics=list(metrics))
    return made


def model_to_compile():
    made = model()
    made.compile("sgd", "mse", jit_compile=True)
    return made


def losing():
    x, y = tf.ones((2, 2)), tf.ones((2, 1))
    return keras_steps.loss_and_outputs(model(), x, y, None)


def sgd(**options):
    return keras.optimizers.SGD(0.1, **options)


def weighted_sum():
    ones = tf.ones((2, 3))
    return keras_losses.weighted_sum(ones, ones, ones > 0)


def called_function():
    inner = tf.function(lambda x: x + 1)
    outer = tf.function(lambda x: inner(x)).get_concrete_function(1)
    (call,) = (
        op
        for op in outer.graph.get_operations()
        if "PartitionedCall" in op.type
    )
    return tf_functions.called(call)


def wrapped_function():
    return tf_functions.wrapped_inside(tf.function(abs), lambda inside: inside)


def heartbeat():
    tf_runtime.configure_heartbeat({"worker": 2}, seconds=3)


def adam_moments():
    optimizer = keras.optimizers.Adam()
    optimizer.build([keras.Variable(1.0)])
    return keras_adam.moments_at(optimizer, 0)


def copy_of_several():
    several = type("MultiOptimizer", (), {})()
    return keras_optimizers.copy_that_takes_reduced_gradients(several)


class Items(keras.utils.PyDataset):
    def __len__(self):
        return 1

    def __getitem__(self, place):
        return np.zeros((1, 2))


class Epochs:
    """As much of Keras's `EpochIterator` as is replaced, or asked for."""

    steps_per_epoch = None

    def __init__(self):
        items = Items(workers=2)
        self.data_adapter = py_dataset_adapter.PyDatasetAdapter(items)
        self._distributed_dataset = None

    def _get_iterator(self):
        return None

    def reset(self):
        return None

    def _enumerate_iterator(self):
        return iter(())

    def catch_stop_iteration(self):
        return contextlib.nullcontext()


def begun_late():
    epochs = Epochs()
    keras_epochs.begin_late(epochs, ValueError)
    return epochs._get_iterator()


def with_copies(made):
    enter(keras_models.with_copies(made, made.weights))


def take_length():
    epochs = trainer.TFEpochIterator(
        tf.distribute.get_strategy(), x=tf.data.Dataset.range(8).batch(4)
    )
    keras_epochs.take_length(epochs, tf.data.Dataset.range(3))
    return epochs.num_batches


def in_order():
    return keras_epochs.py_dataset_in_order(Epochs())


def heard_generator(spec):
    tf_generators.hear(
        tf.data.Dataset.from_generator(lambda: iter([]), output_signature=spec),
        object,
    )


def optional_batch():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    data = tf.data.Dataset.range(2).batch(1)
    iterator = iter(strategy.experimental_distribute_dataset(data))
    return tf_iterators.asking_nobody(iterator).get_next_as_optional()


def begun_iterator():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    data = tf.data.Dataset.range(2).batch(1)
    iterator = iter(strategy.experimental_distribute_dataset(data))
    tf_iterators.announcing(iterator, lambda: tf.constant(0))


def enter(context_manager):
    with context_manager:
        pass


def start_of_workers():
    begun = types.SimpleNamespace(
        ensure_initialized=print, _collective_ops_server_def=None
    )
    tf_start._enable(begun, None, None, None)


def endable_start():
    enter(tf_start.endable_start(print))


def on_other_devices():
    strategy = tfdp.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope(), tf_placement.variables_on(["CPU:2", "CPU:3"]):
        tf.Variable(1.0)


BATCH = (tf.ones((2, 2)), tf.ones((2, 1)), None)
STRATEGY = types.SimpleNamespace(extended=types.SimpleNamespace())
USES = {
    "keras_epochs._epoch_iterator": lambda: (
        keras_epochs.iterator_under_construction(within=1)
    ),
    "keras_epochs._distributed_dataset": begun_late,
    "keras_epochs._catch_stop_iteration": begun_late,
    "keras_epochs._enumerate_iterator": begun_late,
    "keras_epochs._get_iterator": begun_late,
    "keras_epochs._dataset_adapter": take_length,
    "keras_epochs._dataset": take_length,
    "keras_epochs._num_batches": take_length,
    "tf_datasets._drop_remainder": lambda: tf_datasets.batching(
        tf.data.Dataset.range(2).batch(2)
    ),
    "keras_epochs._interrupted_warning": lambda: keras_epochs.until_end(
        Epochs(), None
    ),
    "keras_epochs._adapter": in_order,
    "keras_epochs._enqueuer": in_order,
    "keras_epochs._output_signature": in_order,
    "keras_epochs._standardize_batch": in_order,
    "keras_models._global_attribute": keras_models.global_seed_generator,
    "keras_models._global_seed_generator": lambda: (
        keras_models.global_seed_generator(make=True)
    ),
    "keras_models._seed_generators": lambda: keras_models.seed_generators(
        model()
    ),
    "keras_steps._jit_compile": lambda: keras_steps.compile_inside(
        model_to_compile()
    ),
    "keras_steps._compile_config": lambda: keras_steps.was_refused(model()),
    "keras_steps._compute_loss": losing,
    "keras_steps._call_has_training_arg": losing,
    "keras_steps._loss_tracker": lambda: keras_steps.log_loss(
        model(), tf.ones([]), tf.ones((2, 2))
    ),
    "tf_compilation._registered_kernels": (
        tf_compilation.compilable_types.__wrapped__
    ),
    "keras_losses._scale_loss": keras_losses.divider,
    "keras_losses._unscale_loss": keras_losses.divider,
    "keras_models._user_loss": lambda: enter(
        keras_models.loss_of_its_own(model())
    ),
    "keras_models._user_loss_weights": lambda: enter(
        keras_models.loss_of_its_own(model())
    ),
    "tf_functions._func_graph": lambda: enter(tf_functions.never_executed()),
    "tf_functions._get_function": called_function,
    "tf_replicas._merge_call": lambda: enter(
        tf_replicas.around_turns(contextlib.nullcontext())
    ),
    "tf_start._handle": start_of_workers,
    "keras_data._array_adapter": lambda: Feeding().arrays(),
    "keras_data._convert_to_sliceable": lambda: Feeding().arrays(),
    "keras_data._shuffle": lambda: Feeding().arrays(),
    "keras_data._inputs": lambda: Feeding().arrays(),
    "keras_data._num_samples": lambda: Feeding().arrays(),
    "keras_data._slice_sparse": lambda: keras_data.batches_of_arrays(
        Feeding(x=tf.sparse.eye(4))
    ).gather(np.arange(2)),
    "keras_data._generator_adapter": lambda: keras_data.shuffles_in_python(
        Feeding()
    ),
    "keras_data._py_dataset_adapter": lambda: keras_data.shuffles_in_python(
        Feeding()
    ),
    "keras_data._data_adapter": lambda: keras_data.shuffles_in_python(
        Feeding()
    ),
    "keras_data._distributed_dataset": lambda: keras_data.distributed_dataset(
        Feeding()
    ),
    "keras_fit._initial_epoch": lambda: keras_fit.begin_at_epoch(model(), 1),
    "keras_losses._function_wrapper": lambda: keras_losses.as_loss("mse"),
    "keras_losses._get_keras_mask": lambda: keras_losses.mask_of(tf.ones(2)),
    "keras_losses._reduce_weighted_values": weighted_sum,
    "keras_losses._apply_mask": weighted_sum,
    "keras_losses._squeeze_or_expand": weighted_sum,
    "keras_masks._get_keras_mask": lambda: keras_masks.masks_of(tf.ones(2)),
    "keras_masks._set_keras_mask": lambda: keras_masks.attach(
        tf.ones(2), tf.ones(2) > 0
    ),
    "keras_variables._value": lambda: keras_variables.made_value(
        keras.Variable(1.0)
    ),
    "keras_variables._deferred_initialize": lambda: (
        keras_variables.make_later_within(
            keras.Variable(1.0), contextlib.nullcontext
        )
    ),
    "keras_variables._original_scope": lambda: enter(
        keras_variables.Recording([])
    ),
    "tf_placement._devices": on_other_devices,
    "keras_models._value": lambda: with_copies(model()),
    "keras_models._distribute_strategy": lambda: enter(
        keras_models.lent_to(model(), tf.distribute.get_strategy())
    ),
    "keras_models._symbolic_build": lambda: keras_models.build(model(), BATCH),
    "keras_models._call_has_training_arg": lambda: keras_models.outputs_of(
        model(), BATCH[0]
    ),
    "keras_models._non_trainable_variables": lambda: (
        keras_models.own_non_trainable_weights(keras.layers.Dense(1))
    ),
    "keras_models._flatten_layers": lambda: keras_models.all_layers(model()),
    "keras_optimizers._learning_rate": lambda: keras_optimizers.given_rate(
        sgd()
    ),
    "keras_optimizers._sum_over_replicas": lambda: (
        keras_optimizers.copy_that_takes_reduced_gradients(sgd())
    ),
    "keras_optimizers._overwrite": lambda: (
        keras_optimizers.copy_that_takes_reduced_gradients(sgd(use_ema=True))
    ),
    "keras_optimizers._get_variable_index": lambda: keras_optimizers.place_of(
        sgd(), keras.Variable(1.0)
    ),
    "keras_optimizers._trainable_variables": lambda: (
        keras_optimizers.trained_variables(sgd())
    ),
    "keras_optimizers._filter_empty_gradients": lambda: (
        keras_optimizers.with_gradients(sgd(), [], [])
    ),
    "keras_optimizers._use_weight_decay": lambda: keras_optimizers.decays(
        sgd(), keras.Variable(1.0)
    ),
    "keras_optimizers._clip_gradients": lambda: keras_optimizers.clipped(
        sgd(), []
    ),
    "keras_optimizers._variables": lambda: keras_optimizers.hold(sgd(), []),
    "keras_optimizers._path": lambda: keras_optimizers.stand_in(
        keras.Variable(1.0), None
    ),
    "keras_optimizers._moving_averages": lambda: (
        keras_optimizers.moving_averages(sgd(use_ema=True))
    ),
    "keras_adam._momentums": adam_moments,
    "keras_adam._velocities": adam_moments,
    "keras_optimizers._optimizer_map": copy_of_several,
    "tf_datasets._distributed_dataset": lambda: (
        tf_datasets._distributed_dataset.find()
    ),
    "tf_datasets._functions": lambda: tf_datasets.shuffle_seeds(
        tf.data.Dataset.range(1)
    ),
    "tf_datasets._inputs": lambda: tf_datasets.source_datasets(
        tf.data.Dataset.range(1)
    ),
    "tf_datasets._filename": lambda: tf_datasets.cache_file(
        tf.data.Dataset.range(1).cache()
    ),
    "tf_datasets._tensors": lambda: tf_datasets.tensors(
        tf.data.Dataset.from_tensors(1)
    ),
    "tf_datasets._reshuffles": lambda: tf_datasets.draws_order(
        tf.data.Dataset.range(2).shuffle(2)
    ),
    "tf_iterator_states._iterator_resource": lambda: tf_iterator_states.state(
        iter(tf.data.Dataset.range(1))
    ),
    "tf_generators._functions": lambda: heard_generator(tf.TensorSpec(())),
    "tf_generators._registry": lambda: heard_generator(tf.TensorSpec(())),
    "tf_generators._funcs": lambda: heard_generator(tf.TensorSpec(())),
    "tf_generators._func": lambda: heard_generator(
        tf.RaggedTensorSpec((2, None))
    ),
    "tf_functions._autograph_context": wrapped_function,
    "tf_functions._context_class": wrapped_function,
    "tf_functions._status": wrapped_function,
    "tf_functions._autograph": wrapped_function,
    "tf_functions._clone": wrapped_function,
    "tf_functions._make_decorator": wrapped_function,
    "tf_functions._tf_convert": wrapped_function,
    "tf_functions._control_status": lambda: tf_functions.converted_by_autograph(
        abs
    ),
    "tf_loops._graph_of_branch": tf_loops.let_collectives_in,
    "tf_loops._capture": tf_loops.let_collectives_in,
    "tf_runtime._context": lambda: tf_runtime.wait_for_all_tasks(
        "name", seconds=1
    ),
    "tf_runtime._wait_at_barrier": lambda: tf_runtime.wait_for_all_tasks(
        "name", seconds=1
    ),
    "tf_runtime._global_seed": tf_runtime.global_seed,
    "tf_runtime._num_workers": lambda: tf_runtime.num_workers(STRATEGY),
    "tf_runtime._id_in_cluster": lambda: tf_runtime.worker_index(STRATEGY),
}
GONE_ON_WITHOUT = {
    "tf_datasets._asks_others": lambda: tf_datasets.end_together(object()),
    "tf_iterators._type_spec": begun_iterator,
    "tf_iterators._iterators": optional_batch,
    "tf_iterators._element_spec": optional_batch,
    "tf_iterators._strategy": optional_batch,
    "tf_iterators._create_per_replica": optional_batch,
    "tf_runtime._uses_onednn": tf_runtime.uses_onednn,
    "tf_iterators._from_components": begun_iterator,
    "keras_models._compile_metrics": lambda: keras_models.compiled_metrics(
        model("mae")
    ),
    "keras_models._user_metrics": lambda: keras_models.compiled_metrics(
        model("mae")
    ),
    "keras_models._user_weighted_metrics": lambda: (
        keras_models.compiled_metrics(model("mae"))
    ),
    "tf_start._context": endable_start,
    "tf_start._server_def": endable_start,
    "tf_start._lock": endable_start,
    "tf_start._initialize_devices": endable_start,
    "tf_start._clear_caches": endable_start,
    "tf_runtime._context": heartbeat,
    "tf_runtime._handle": tf_runtime.has_started_alone,
    "tf_runtime._leader": tf_runtime.has_started_alone,
    "tf_runtime._coordinated_job": heartbeat,
    "tf_runtime._service": heartbeat,
    "tf_runtime._configure_service": heartbeat,
    "tf_runtime._config": lambda: tf_runtime.send_in_chunks(4096),
}


@pytest.fixture
def fresh_context(monkeypatch, label):
    """Of a program that has computed nothing, for what comes before that."""
    if label.startswith(("tf_start.", "tf_runtime.")):
        fresh = context.Context()
        monkeypatch.setattr(context, "context", lambda: fresh)


def test_every_declared_name_is_used():
    assert USES.keys() | GONE_ON_WITHOUT.keys() == DECLARED.keys()
    assert DECLARED.keys() >= OF_EVERY_FIT


@pytest.mark.parametrize("label", USES)
def test_what_needs_a_missing_name_tells_of_it(label, monkeypatch):
    hide(DECLARED[label], monkeypatch)
    with pytest.raises(MissingNameError) as error:
        USES[label]()
    message = str(error.value)
    assert f"no `{last_part(DECLARED[label])}` in " in message
    assert f"(Keras {keras.__version__}, " in message
    assert f"TensorFlow {tf.__version__}, " in message
    assert f"tfdp {importlib.metadata.version('tfdp')})" in message
    assert DECLARED[label].serves in message
    assert "report this message in tfdp's issue tracker" in message


@pytest.mark.parametrize("label", GONE_ON_WITHOUT)
@pytest.mark.usefixtures("fresh_context")
def test_what_goes_on_without_a_missing_name_warns(label, monkeypatch):
    hide(DECLARED[label], monkeypatch)
    name = re.escape(last_part(DECLARED[label]))
    with pytest.warns(UserWarning, match=rf"Received: no `{name}` in "):
        GONE_ON_WITHOUT[label]()


def test_every_room_is_imported_without_any_private_name():
    """In another process, where they are deleted upstream."""
    places = [
        place
        for declared in DECLARED.values()
        if isinstance(declared, Name)
        for place in declared.places
        if place.startswith(("keras.src.", "tensorflow."))
        and place != "tensorflow.distribute.DistributedDataset"
    ]
    command = [sys.executable, SHARED / "bare_imports.py", json.dumps(places)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=200
    )
    assert result.returncode == 0, result.stderr
    rooms, message = json.loads(result.stdout)
    assert set(MODULES.values()) <= set(rooms)
    assert {"tfdp.strategy.auto", "tfdp.callbacks.chief_only"} <= set(rooms)
    assert "no `get_keras_mask` in keras.src." in message


def fitted(strategy, loss="mse"):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        made = problem.make_model()
        made.compile(
            tfdp.DistributedOptimizer(sgd(momentum=0.9), accumulation_steps=2),
            loss,
        )
    made.fit(
        problem.dataset(40, 16),
        epochs=2,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    made.predict(problem.arrays(5)[0], verbose=0)
    return made.get_weights()


def test_a_fit_goes_on_without_the_names_that_it_does_not_need(
    two_replicas, monkeypatch
):
    loss = keras.losses.MeanSquaredError()
    expected = fitted(two_replicas, loss)
    for label, declared in DECLARED.items():
        if label not in OF_EVERY_FIT:
            hide(declared, monkeypatch)
    for weight, same in zip(fitted(two_replicas, loss), expected, strict=True):
        np.testing.assert_array_equal(weight, same)


@pytest.mark.parametrize("mask_zero", [True, False])
def test_a_masked_loss_is_refused_where_there_is_no_asking_for_masks(
    two_replicas, monkeypatch, mask_zero
):
    with two_replicas.scope():
        made = keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Embedding(4, 2, mask_zero=mask_zero),
                keras.layers.Dense(1),
            ]
        )
        made.compile(tfdp.DistributedOptimizer(sgd()), "mse")
    fit = {"verbose": 0, "callbacks": [tfdp.callbacks.DataParallel()]}
    x, y = np.ones((4, 3)), np.ones((4, 3, 1))
    hide(keras_losses._get_keras_mask, monkeypatch)
    before = made.get_weights()
    if not mask_zero:
        made.fit(x, y, **fit)
        return
    with pytest.raises(MissingNameError, match="no `get_keras_mask_that_moved"):
        made.fit(x, y, **fit)
    for weight, same in zip(made.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, same)


def test_arrays_that_are_not_shuffled_need_no_private_class(monkeypatch):
    hide(keras_data._array_adapter, monkeypatch)
    assert Feeding(shuffle=False).arrays() is None


def test_the_place_of_an_older_release_is_looked_into():
    name = Name("keras.src.gone.Model", "keras.Model", serves="nothing works")
    assert name.find() is keras.Model
    module = Name("tensorflow.python.eager.context", serves="nothing works")
    assert module.find() is context


def test_what_is_loaded_is_not_imported_in_the_middle_of_a_graph(monkeypatch):
    imported = []
    real = importlib.import_module
    monkeypatch.setattr(
        importlib,
        "import_module",
        lambda name: imported.append(name) or real(name),
    )
    name = Name("keras.src.backend.floatx", serves="nothing")

    @tf.function
    def find():
        return tf.constant(name.find()())

    assert find().numpy() == b"float32"
    assert imported == []


def test_what_nothing_would_read_is_not_set():
    member = Member("_gone", serves="nothing works")
    owner = types.SimpleNamespace()
    with pytest.raises(MissingNameError, match="no `_gone` in SimpleNamespace"):
        member.replace(owner, 1)
    assert not hasattr(owner, "_gone")
    owner._gone = 0
    member.replace(owner, 1)
    assert member.of(owner) == 1


def test_workers_compare_the_rest_where_their_data_cannot_be(
    two_replicas, monkeypatch
):
    hide(keras_data._distributed_dataset, monkeypatch)
    compared = []

    class Comparing(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            with pytest.warns(UserWarning, match="workers cannot compare"):
                compared.append(program(self.model, self.params))

    with two_replicas.scope():
        made = model()
    x, y = np.ones((4, 2)), np.ones((4, 1))
    made.fit(x, y, verbose=0, callbacks=[Comparing()])
    assert compared[0]["elements of the data"] == []
    assert compared[0]["steps per epoch"] == 1


def test_only_missing_names_are_gone_on_without():
    with pytest.raises(KeyError), private.optional():
        raise KeyError


def test_a_fit_that_keeps_its_data_elsewhere_is_told_of(monkeypatch):
    monkeypatch.setattr(keras_fit, "_ITERATOR", "epoch_iterator_that_moved")
    found = []

    class Looking(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            found.append(keras_fit.fit_under_way())

    x, y = np.ones((4, 2)), np.ones((4, 1))
    message = "no `epoch_iterator_that_moved` in the variables of `fit`"
    with pytest.raises(MissingNameError, match=message):
        model().fit(x, y, verbose=0, callbacks=[Looking()])
    assert found == []


def test_an_unknown_step_of_kerass_is_told_of(two_replicas, monkeypatch):
    monkeypatch.setattr(keras_fit, "_PREDICT_STEP", "<locals>.that_moved")
    with two_replicas.scope():
        made = model()
    x, y = np.ones((4, 2)), np.ones((4, 1))
    made.fit(x, y, verbose=0)
    with pytest.raises(MissingNameError, match=r"no `<locals>.that_moved` in"):
        made.predict(x, verbose=0)
