"""Reports what else than plain updates several workers must agree on."""

import warnings

import keras
import numpy as np
import problem
import tensorflow as tf

import tfdp

strategy = tfdp.auto_strategy()
BATCH = 32


def root_of_mean(y_true, y_pred):
    error = keras.ops.mean(keras.ops.square(y_true - y_pred))
    return keras.ops.sqrt(error + 1e-3)


LOSSES = {
    "whole batch": root_of_mean,
    "sum": keras.losses.MeanSquaredError(reduction="sum"),
}


def make_model():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])


def fit(model, data, **arguments):
    return model.fit(
        problem.untuned(data.batch(BATCH)),
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
        **arguments,
    ).history


def losses():
    results = {}
    for name, loss in LOSSES.items():
        with strategy.scope():
            model = make_model()
            model.compile(
                tfdp.DistributedOptimizer(keras.optimizers.SGD(0.002)),
                tfdp.DistributedLoss(loss),
            )
        data = tf.data.Dataset.from_tensor_slices(problem.arrays(97))
        history = fit(model, data, epochs=2)
        weights = [w.tolist() for w in model.get_weights()]
        results[name] = {"weights": weights, "loss": history["loss"]}
    return results


def overflow():
    """Of four updates, a row of the second worker's spoils the third."""
    x, y = problem.arrays(4 * BATCH)
    x[2 * BATCH + BATCH // 2 + 1] = np.inf
    with strategy.scope():
        model = make_model()
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.05), loss_scale="dynamic"
        )
        model.compile(optimizer, "mse")
    fit(model, tf.data.Dataset.from_tensor_slices((x, y)))
    return {
        "updates": int(optimizer.iterations.numpy()),
        "skipped": int(optimizer.skipped_updates.numpy()),
        "scale": float(optimizer.dynamic_scale.numpy()),
        "weights": [w.tolist() for w in model.get_weights()],
    }


def masks():
    with strategy.scope():
        layer = keras.layers.Dropout(0.5, seed=1)
    drawn = strategy.run(lambda: layer(tf.ones((1, 64)), training=True))
    (here,) = strategy.experimental_local_results(drawn)
    return here.numpy().tolist()


def statistics():
    with strategy.scope():
        layer = keras.layers.BatchNormalization(momentum=0.0)
        model = keras.Sequential([keras.Input((8,)), layer])
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.0)), "mse"
        )
    x, _ = problem.arrays(BATCH)
    fit(model, tf.data.Dataset.from_tensor_slices((x, x)))
    return layer.moving_mean.numpy().tolist()


def several_steps():
    """Two epochs, 3 steps at once, the last of 2, some with rows for one."""
    x, y = problem.arrays(10 * BATCH + 1)
    whole = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    kinds = {
        "known": whole,
        "unknown": whole.filter(lambda *_: True),
        "shared out": tfdp.shard(
            tf.data.Dataset.from_tensor_slices((x, y))
        ).batch(BATCH),
    }
    results = {}
    for name, data in kinds.items():
        for steps in (1, 2):
            with strategy.scope():
                model = make_model()
                optimizer = tfdp.DistributedOptimizer(
                    keras.optimizers.SGD(0.05, momentum=0.9),
                    accumulation_steps=steps,
                )
                model.compile(
                    optimizer, "mse", metrics=["mae"], steps_per_execution=3
                )
            history = model.fit(
                problem.untuned(data),
                epochs=2,
                verbose=0,
                callbacks=[tfdp.callbacks.DataParallel()],
                validation_data=problem.untuned(whole),
            ).history
            results[f"{name}, {steps}"] = {
                "updates": int(optimizer.iterations.numpy()),
                "weights": [w.tolist() for w in model.get_weights()],
                "history": history,
                "predicted": model.predict(x, verbose=0).tolist(),
            }
    return results


def unknown_lengths():
    """Two epochs of unknown length, with two micro-batches to an update."""
    x, y = problem.arrays(4 * BATCH)

    def of_worker(context):
        # The second has one batch where the first has three.
        first = context.input_pipeline_id == 0
        rows = slice(0, 3 * BATCH) if first else slice(3 * BATCH, None)
        data = tf.data.Dataset.from_tensor_slices((x[rows], y[rows]))
        return data.batch(BATCH)

    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    kinds = {
        "filtered": data.filter(lambda *_: True),
        "of functions": strategy.distribute_datasets_from_function(of_worker),
    }
    results = {}
    for name, data in kinds.items():
        with strategy.scope():
            model = make_model()
            optimizer = tfdp.DistributedOptimizer(
                keras.optimizers.SGD(0.05, momentum=0.9), accumulation_steps=2
            )
            model.compile(optimizer, "mse")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Your input ran out of data")
            model.fit(
                data,
                epochs=2,
                verbose=0,
                callbacks=[tfdp.callbacks.DataParallel()],
            )
        results[name] = {
            "updates": int(optimizer.iterations.numpy()),
            "weights": [w.tolist() for w in model.get_weights()],
        }
    return results


tfdp.testing.report(
    {
        "unknown lengths": unknown_lengths(),
        "losses": losses(),
        "overflow": overflow(),
        "masks": masks(),
        "statistics": statistics(),
        "several steps": several_steps(),
    }
)
