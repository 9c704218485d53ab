"""Compiled replicas equal one device that compiles nothing, and one that does.

At once a few settings that cover every value; the rest with `-m long`.
"""

import keras
import numpy as np
import pytest
import settings
from grids import later
from places import SHARED

import tfdp

# 193 leaves replicas without samples in the last micro-batch.
CHOSEN = [
    settings.read(text)
    for text in [
        "SGD,plain,dense,mean,2,1,193,float32",
        "Adam,global_clipnorm+callable,conv,class_weight,4,2,247,float32",
        "SGD,clipnorm,embedding,sample_weight,2,3,193,float32",
        "AdamW,weight_decay,constrained,mean,1,2,247,float32",
        "SGD,ema,dense,mean,4,1,1,float32",
        "SGD,clipvalue+schedule,dense,sample_weight,2,2,193,mixed_bfloat16",
        "SGD,plain,conv,class_weight,2,1,240,mixed_float16",
        "SGD,plain,batchnorm,mean,1,1,240,float32",
    ]
]
AT_ONCE = [CHOSEN[0], CHOSEN[2], *CHOSEN[5:]]
ON_WORKERS = [
    settings.read(text)
    for text in [
        "SGD,plain,dense,mean,2,1,193,float32",
        "SGD,clipnorm,embedding,sample_weight,2,2,193,float32",
    ]
]


def train(setting, *, jit_compile=True):
    keras.config.set_dtype_policy(setting.precision)
    strategy = tfdp.MirroredStrategy(
        [f"CPU:{i}" for i in range(setting.replicas)]
    )
    with strategy.scope():
        model = settings.make_model(setting)
        loss, _ = settings.make_loss(setting)
        optimizer = tfdp.DistributedOptimizer(
            settings.make_optimizer(setting),
            setting.steps,
            initial_scale=2.0**10,
        )
        if setting.model == "batchnorm":
            for layer in model.layers:
                layer.synchronized = False
        model.compile(
            optimizer, loss, metrics=["accuracy"], jit_compile=jit_compile
        )
    history = model.fit(
        settings.dataset(setting, settings.GLOBAL_BATCH // setting.steps),
        validation_data=settings.dataset(setting, settings.GLOBAL_BATCH),
        epochs=settings.EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
        **settings.fit_arguments(setting),
    ).history
    return model, history, strategy.compile_times.count


@pytest.mark.sampled
@pytest.mark.parametrize("setting", later(CHOSEN, AT_ONCE), ids=str)
def test_compiled_replicas_equal_one_device(setting):
    weights, expected, updates = settings.oracle_of(setting)
    model, history, compiled = train(setting)
    assert compiled >= setting.replicas
    assert int(model.optimizer.iterations.numpy()) == updates
    deviation = settings.deviation(model.get_weights(), weights)
    assert deviation <= setting.tolerance
    for key in ["val_loss"] + (["loss"] if setting.steps == 1 else []):
        np.testing.assert_allclose(
            history[key],
            expected[key],
            rtol=1e-4 if setting.precision == "float32" else 2e-2,
        )


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_compiled_replicas_equal_one_device_that_compiles(replicas):
    setting = settings.Setting(num_samples=240, replicas=replicas)
    model = settings.make_model(setting)
    model.compile(
        settings.make_optimizer(setting),
        settings.make_loss(setting)[0],
        metrics=["accuracy"],
        jit_compile=True,
    )
    expected = model.fit(
        settings.dataset(setting, settings.GLOBAL_BATCH),
        validation_data=settings.dataset(setting, settings.GLOBAL_BATCH),
        epochs=settings.EPOCHS,
        verbose=0,
    ).history
    trained, history, _ = train(setting)
    assert history.keys() == expected.keys()
    for key, values in expected.items():
        np.testing.assert_allclose(history[key], values, rtol=1e-5)
    deviation = settings.deviation(trained.get_weights(), model.get_weights())
    assert deviation <= 1e-6


def test_replicas_log_what_those_log_that_are_not_compiled():
    setting = settings.Setting(steps=2, loss="sample_weight")
    compiled, history, times = train(setting)
    plain, expected, never = train(setting, jit_compile=False)
    assert times > 0
    assert never == 0
    assert history.keys() == expected.keys()
    for key, values in expected.items():
        np.testing.assert_allclose(history[key], values, rtol=1e-5)
    deviation = settings.deviation(compiled.get_weights(), plain.get_weights())
    assert deviation <= 1e-6


@pytest.mark.multi_worker
def test_compiled_replicas_of_two_workers_equal_one_device():
    texts = [str(each) for each in ON_WORKERS]
    found = tfdp.testing.run_workers(
        SHARED / "compiled.py", 2, texts, timeout=300
    )
    for setting, reports in zip(
        ON_WORKERS, zip(*found, strict=True), strict=True
    ):
        weights, expected, updates = settings.oracle_of(setting)
        for report in reports:
            assert report["updates"] == updates
            assert report["compiled"] >= 1
            deviation = settings.deviation(
                [np.array(w) for w in report["weights"]], weights
            )
            assert deviation <= setting.tolerance
            for key in ["val_loss"] + (["loss"] if setting.steps == 1 else []):
                np.testing.assert_allclose(
                    report["history"][key], expected[key], rtol=1e-4
                )
