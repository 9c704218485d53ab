"""Elements of Grain's are compared by what they are, not where."""

import dataclasses

import numpy as np
import pytest

from tfdp.data import digest, grain_shards


@dataclasses.dataclass
class Record:
    number: int


class Named:
    """Tells its place in memory, and nothing else."""


@pytest.fixture
def digest_of(monkeypatch):
    def digest_of(*elements):
        monkeypatch.setattr(grain_shards, "_wholes", lambda _: [elements])
        return digest(None)

    return digest_of


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"image": np.ones(2), "name": "a"},
        lambda: Record(1),
        lambda: (np.array([Record(1), None], object), b"c"),
        Named,
    ],
)
def test_the_same_elements_have_one_digest(digest_of, make):
    # Alive at once, so that they are in other places.
    one, other = make(), make()
    assert digest_of(one) == digest_of(other)


def test_other_elements_have_others(digest_of):
    elements = [Record(1), Record(2), "a", "b", b"a", 1, 2.5, np.ones(2), None]
    assert len({digest_of(each) for each in elements}) == len(elements)
