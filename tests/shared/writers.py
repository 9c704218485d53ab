"""Two workers with ordinary callbacks that write to the same paths."""

import pathlib
import sys

import keras
import problem

import tfdp

folder = pathlib.Path(sys.argv[1])
strategy = tfdp.auto_strategy()
heard = {"ends of steps": 0, "models": 0}


class Count(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        heard["ends of steps"] += 1


class Events(keras.callbacks.TensorBoard):
    """Writes none, as TensorBoard itself may be missing; as early, though."""

    def set_model(self, model):
        keras.callbacks.Callback.set_model(self, model)
        heard["models"] += 1

    def ignored(self, *args, **kwargs):
        pass

    on_train_begin = on_train_end = ignored
    on_epoch_begin = on_epoch_end = ignored
    on_train_batch_begin = on_train_batch_end = ignored


def fit(*callbacks):
    with strategy.scope():
        model = problem.make_model()
        model.compile(
            tfdp.DistributedOptimizer(
                problem.OPTIMIZERS["sgd"](), accumulation_steps=2
            ),
            "mse",
        )
    history = model.fit(
        problem.dataset(64, 16),
        epochs=2,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), *callbacks],
    )
    return model, history


model, history = fit(
    keras.callbacks.CSVLogger(folder / "log.csv"),
    keras.callbacks.ModelCheckpoint(folder / "model.keras", save_freq=1),
    Events(folder / "events"),
    tfdp.callbacks.ChiefOnly(Count()),
)
if strategy.is_chief:
    model.save(folder / "saved.keras")
try:
    fit(keras.callbacks.BackupAndRestore(folder / "backups"))
except RuntimeError as error:
    heard["refusal"] = str(error)
tfdp.testing.report(
    {
        **heard,
        "loss": history.history["loss"],
        "weights": [w.tolist() for w in model.get_weights()],
    }
)
