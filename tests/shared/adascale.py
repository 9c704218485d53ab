"""Reports what AdaScale and the noise scale come to, on any cluster."""

import sys

import problem

import tfdp


def trained(strategy, steps):
    """Returns gains, noise scales and weights after some epochs."""
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            tfdp.AdaScale(0.02, 0.9, base_batch=8), accumulation_steps=steps
        )
        model.compile(optimizer, "mse")
    history = model.fit(
        problem.dataset(256, problem.GLOBAL_BATCH // steps),
        epochs=problem.EPOCHS,
        verbose=0,
        callbacks=[
            tfdp.callbacks.DataParallel(),
            tfdp.callbacks.AdaScaleMonitor(total_steps=20),
            tfdp.callbacks.NoiseScaleMonitor(verbose=0),
        ],
    ).history
    return {
        "gains": history["adascale_gain"],
        "steps": history["scale_invariant_steps"],
        "noise_scale": history["noise_scale"],
        "updates": int(optimizer.iterations.numpy()),
        "weights": [w.ravel().tolist() for w in model.get_weights()],
    }


if __name__ == "__main__":
    strategy = tfdp.auto_strategy()
    tfdp.testing.report(
        [trained(strategy, int(steps)) for steps in sys.argv[1:]]
    )
