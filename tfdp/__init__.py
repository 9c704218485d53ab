"""Data-parallel training with the numbers of one big device.

Usage:

    import keras, tfdp

    strategy = tfdp.auto_strategy()
    with strategy.scope():
        model = build_model()
        model.compile(
            optimizer=tfdp.DistributedOptimizer(
                keras.optimizers.SGD(0.1), accumulation_steps=4
            ),
            loss="mse",
        )
    model.fit(dataset, callbacks=[tfdp.callbacks.DataParallel()])
"""

import lazy_loader

from tfdp.upstream import registration

__version__ = "0.1.0"
# Names and where they live are in `__init__.pyi`. Each is imported when it is
# first used, so that what needs no TensorFlow does not wait for it.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
registration.register_beside_keras()
