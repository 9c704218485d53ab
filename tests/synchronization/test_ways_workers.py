"""Ways to synchronise over worker processes, against plain Keras."""

import local_updates
import numpy as np
import pytest
import ways_on_workers as program
from grids import later
from places import SHARED

import tfdp

SETTINGS = [
    ("local", "nesterov", 2),
    ("local", "AdamW", 1),
    ("averaged", "AdamW", 1),
    ("DiLoCo", "AdamW", 1),
    ("delayed", "AdamW", 1),
]
CASES = {
    "2, few ways": (2, [SETTINGS[0], SETTINGS[3]]),
    "2": (2, SETTINGS),
    "3": (3, SETTINGS),
}
HOW = {
    "local": {},
    "averaged": {"start": 3, "buffers": "average"},
    "DiLoCo": {"start": 3, "make_outer": program.outer},
}


def expected(way, kind, steps, workers):
    make = program.KINDS[kind]
    if way == "delayed":
        return local_updates.one_late(make, program.NUM_SAMPLES)[0]
    return local_updates.simulate(
        make,
        workers,
        program.SYNC_EVERY,
        num_samples=program.NUM_SAMPLES,
        steps=steps,
        **HOW[way],
    )[0]


@pytest.mark.multi_worker
@pytest.mark.parametrize("case", later(CASES, ["2, few ways"]))
def test_each_way_is_its_simulation(case):
    workers, chosen = CASES[case]
    texts = [f"{way},{kind},{steps}" for way, kind, steps in chosen]
    found = tfdp.testing.run_workers(
        SHARED / "ways_on_workers.py", workers, texts, timeout=600
    )
    for setting, *of_workers in zip(chosen, *found, strict=True):
        reference = expected(*setting, workers)
        for one in of_workers:
            for value, other in zip(one["weights"], reference, strict=True):
                np.testing.assert_allclose(
                    value, other, rtol=0, atol=1e-6, err_msg=str(setting)
                )
