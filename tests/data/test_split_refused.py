"""What workers would share wrongly is refused on all of them."""

import pytest
from places import SHARED

import tfdp

pytestmark = pytest.mark.multi_worker
PROGRAM = SHARED / "split_refused.py"
REFUSED = {
    "one cache file": "caches its own samples, in files of its own. Received",
    "generator": "yields other elements than the chief's on worker 1.",
    "not marked": "yields other elements than the chief's on worker 1.",
    "batches": "yields other elements than the chief's on worker 1.",
    "no order": "Received: `map(..., deterministic=False)`. Leave out",
}


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("caches"))
    return tfdp.testing.run_workers(PROGRAM, 2, [folder], timeout=300)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_split_rightly_is_refused_on_every_worker(workers, case):
    for found in workers:
        assert REFUSED[case] in found[case]


@pytest.mark.parametrize(
    "case", ["own cache files", "seeded", "seeded batches"]
)
def test_what_is_split_rightly_is_taken(workers, case):
    for found in workers:
        assert found[case] is None
