"""What a noise scale means, in numbers and in words."""

import math

import hypothesis
import hypothesis.strategies as st
import pytest

from tfdp.optimizer.noise_scale import NoiseScale

positive = st.floats(1e-6, 1e6)


def scale(noise, signal=1.0, batch=256, steps=4):
    return NoiseScale(noise, signal, batch, steps)


@hypothesis.given(positive, positive, st.integers(1, 10**6))
def test_updates_and_samples_follow_the_papers_trade_off(noise, signal, batch):
    found = scale(noise, signal, batch)
    for factor in (0.5, 2, 7):
        updates = (1 + found.samples / (factor * batch)) / (
            1 + found.samples / batch
        )
        assert found.updates_with(factor) == pytest.approx(updates)
        assert found.samples_with(factor) == pytest.approx(factor * updates)
    assert 0.5 <= found.updates_with(2) <= 1 <= found.samples_with(2) <= 2


def test_at_the_noise_scale_updates_and_samples_are_twice_the_least():
    found = scale(256)
    # (1 + 1) updates where one would do with a batch without end.
    assert found.updates_with(1e12) == pytest.approx(0.5)
    assert found.samples_with(1e-12) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (2560, "10 times the mean global batch of 256: twice the replicas"),
        (2560, "45 % fewer updates and 9 % more samples, so more replicas sti"),
        (2560, "accumulation_steps=4 may grow to 40."),
        (256, "accumulation_steps=4 is right."),
        (64, "noise scale 64 samples, 0.25 times the mean global batch"),
        (0.195, "noise scale 0.2 samples"),
        (256e9, "accumulation_steps=4 may grow to 4,000,000,000."),
        (64, "so more replicas hardly pay."),
        (64, "accumulation_steps=4 wastes samples: 1 would need 60 % fewer."),
        (256_000, "256,000 samples, 1,000 times the mean global batch"),
        (1, "1 would need 75 % fewer"),
    ],
)
def test_words(noise, words):
    assert words in str(scale(noise))


def test_without_signal_the_scale_is_infinite():
    found = scale(3, signal=0)
    assert math.isinf(found.samples)
    assert found.updates_with(4) == 0.25
    assert found.useful_accumulation is None
    assert "too large to tell" in str(found)


def test_without_anything_measured_it_is_unknown():
    assert math.isnan(scale(0, signal=0).samples)
    assert scale(0, signal=0).useful_accumulation is None
    assert "unknown" in str(scale(0, signal=0))
