"""A problem for owners of slots: plain Keras, and the same on workers."""

import keras
import numpy as np
import tensorflow as tf

GLOBAL_BATCH, EPOCHS, SAMPLES = 64, 2, 241
OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.05),
    "Nesterov": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "Adam": lambda: keras.optimizers.Adam(0.01),
    "AMSGrad": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "AdamW, clipped": lambda: keras.optimizers.AdamW(
        0.01, weight_decay=0.1, global_clipnorm=0.2
    ),
    "AdamW, excluded": lambda: excluding(
        keras.optimizers.AdamW(0.01, weight_decay=0.3, clipnorm=0.1)
    ),
    "Adamax": lambda: keras.optimizers.Adamax(0.01),
    "Nadam": lambda: keras.optimizers.Nadam(0.01),
    "Adagrad": lambda: keras.optimizers.Adagrad(0.01),
    "Adadelta": lambda: keras.optimizers.Adadelta(0.5),
    # Of a rate so large that the step bounds it.
    "Adafactor": lambda: keras.optimizers.Adafactor(0.9),
    "Ftrl": lambda: keras.optimizers.Ftrl(0.3, initial_accumulator_value=1.0),
    "RMSprop, scheduled": lambda: keras.optimizers.RMSprop(
        keras.optimizers.schedules.CosineDecay(0.01, 10),
        momentum=0.5,
        centered=True,
    ),
    "Lion": lambda: keras.optimizers.Lion(0.001, clipvalue=0.05),
    "Lamb": lambda: keras.optimizers.Lamb(0.01),
    "Muon": lambda: keras.optimizers.Muon(
        0.01, weight_decay=0.1, adam_weight_decay=0.2
    ),
    "Adam, averaged": lambda: keras.optimizers.Adam(
        0.01, use_ema=True, ema_momentum=0.9
    ),
    "ScheduleFreeAdamW": lambda: keras.optimizers.ScheduleFreeAdamW(0.01),
}


def excluding(optimizer):
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def arrays():
    random = np.random.default_rng(0)
    x = random.normal(size=(SAMPLES, 8)).astype("float32")
    return x, np.tanh(x[:, :1] - x[:, 1:2]).astype("float32")


def dataset(batch=GLOBAL_BATCH):
    options = tf.data.Options()
    options.autotune.enabled = False
    data = tf.data.Dataset.from_tensor_slices(arrays()).batch(batch)
    return data.with_options(options)


def make_model():
    """With a penalty and a constraint."""
    keras.utils.set_random_seed(1)
    dense = keras.layers.Dense
    penalty = keras.regularizers.L2(0.01)
    return keras.Sequential(
        [
            keras.Input((8,)),
            dense(16, "tanh", kernel_regularizer=penalty, name="first"),
            dense(12, "tanh", name="second", kernel_constraint="unit_norm"),
            dense(1, name="last"),
        ],
        name="network",
    )


def on_one_device(kind, epochs=EPOCHS):
    model = make_model()
    optimizer = OPTIMIZERS[kind]()
    # Built in the first step, some begin with other values.
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, "mse")
    model.fit(dataset(), epochs=epochs, verbose=0)
    return model


def compiled(strategy, kind, steps=1, synchronization=None, **options):
    import tfdp

    with strategy.scope():
        model = make_model()
        optimizer = tfdp.DistributedOptimizer(
            OPTIMIZERS[kind](),
            steps,
            synchronization=synchronization or tfdp.ShardedState(),
            **options,
        )
        model.compile(optimizer, "mse")
    return model


def fit(model, *callbacks, epochs=EPOCHS, **arguments):
    import tfdp

    model.fit(
        dataset(GLOBAL_BATCH // model.optimizer.accumulation_steps),
        epochs=epochs,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), *callbacks],
        **arguments,
    )
    return model


def of_replicas(strategy, variables):
    """Values by replica of this process, then by variable."""
    by_variable = [
        [part.numpy() for part in strategy.experimental_local_results(v.value)]
        for v in variables
    ]
    return list(zip(*by_variable, strict=True))


def on_workers(kinds):
    """What each worker has after training, for `run_workers`."""
    import tfdp

    strategy = tfdp.auto_strategy()
    return [_trained(strategy, *kind) for kind in kinds]


def _trained(strategy, kind, steps, options):
    model = fit(compiled(strategy, kind, steps, **options))
    optimizer = model.optimizer
    (weights,) = of_replicas(strategy, model.trainable_variables)
    report = {
        "weights": [each.tolist() for each in weights],
        "updates": int(optimizer.iterations.numpy()),
        "bytes": optimizer.state_bytes(),
        "held": sum(
            v.numpy().nbytes for v in optimizer.synchronized_by.slots_here
        ),
    }
    if strategy.is_chief:
        inner = optimizer.inner_optimizer
        report["state"] = [v.numpy().tolist() for v in inner.variables]
    return report


def refused_on_workers():
    """What several workers cannot do, and what is said of it."""
    import tfdp

    strategy = tfdp.auto_strategy()
    said = {}

    def note(name, call):
        try:
            call()
        except (RuntimeError, ValueError) as error:
            said[name] = f"{type(error).__name__}: {error}"

    way = tfdp.ShardedState(gradients=True)
    note("gradients", lambda: compiled(strategy, "Adam", synchronization=way))
    model = compiled(strategy, "Adam")
    saving = keras.callbacks.ModelCheckpoint("never.keras", save_freq=2)
    config = keras.saving.serialize_keras_object(way)
    # Loaded to predict, it may be anywhere.
    with strategy.scope():
        loaded = tfdp.DistributedOptimizer.from_config(
            {
                "inner_optimizer": keras.saving.serialize_keras_object(
                    OPTIMIZERS["Adam"]()
                ),
                "synchronization": config,
            }
        )
        predicting = make_model()
        predicting.compile(loaded, "mse")
    note("loaded", lambda: fit(predicting, epochs=1))
    note("save_freq", lambda: fit(model, saving, epochs=1))
    model = compiled(strategy, "Adam")
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)
    note("idle", lambda: without_a_gradient(strategy))
    note("not gathered", lambda: model.optimizer.save_own_variables({}))
    model.optimizer.gather_state()
    note("gathered", lambda: model.optimizer.save_own_variables({}))
    checkpoint = tf.train.Checkpoint(model=model)
    note("checkpoint", lambda: checkpoint.write("never"))
    return said


def without_a_gradient(strategy):
    """Makes the graph of an update that leaves an owner without gradients."""
    import tfdp

    with strategy.scope():
        weights = [keras.Variable(np.ones(n, "float32")) for n in (40, 30)]
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.Nadam(), synchronization=tfdp.ShardedState()
        )
        optimizer.build(weights)

    def step():
        optimizer.apply([tf.ones(40)], weights[:1])

    tf.function(lambda: strategy.run(step)).get_concrete_function()


def saved_on_workers(folder, kind):
    """Saves by `ModelCheckpoint`, and loads on all workers; goes on."""
    import tfdp

    strategy = tfdp.auto_strategy()
    path = f"{folder}/model.keras"
    saving = keras.callbacks.ModelCheckpoint(path)
    fit(compiled(strategy, kind), saving, epochs=1)
    strategy.barrier()
    with strategy.scope():
        model = keras.models.load_model(path)
    fit(model, epochs=1)
    if strategy.is_chief:
        model.save(f"{folder}/after.keras")
    strategy.barrier()
    return [w.tolist() for w in model.get_weights()]


def resumed_on_workers(folder, kind, is_killed):
    """Trains with backups, from the last one on, perhaps to be killed."""
    from killed import KillAt, Killed

    import tfdp

    strategy = tfdp.auto_strategy()
    model = compiled(strategy, kind)
    backup = tfdp.callbacks.BackupAndRestore(
        folder, save_freq=1, delete_checkpoint=False
    )
    callbacks = [KillAt(1, 1)] if is_killed else []
    try:
        fit(model, backup, *callbacks)
    except Killed:
        return None
    arrays = [v.numpy() for v in model.variables]
    arrays += [
        slot.numpy() for slot in model.optimizer.synchronized_by.slots_here
    ]
    return [each.tolist() for each in arrays]
