import pytest

from tfdp.settings import DEFAULT_PACK, pack_bytes, start_timeout


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch):
    for name in ("TFDP_START_TIMEOUT", "TFDP_PACK_MIB"):
        monkeypatch.delenv(name, raising=False)


def test_the_start_takes_600_seconds_at_most(monkeypatch):
    assert start_timeout() == 600
    monkeypatch.setenv("TFDP_START_TIMEOUT", " ")
    assert start_timeout() == 600
    monkeypatch.setenv("TFDP_START_TIMEOUT", "2.5")
    assert start_timeout() == 2.5


def test_packs_are_as_large_as_the_environment_says(monkeypatch):
    assert pack_bytes() == DEFAULT_PACK == 2 * 2**20
    for text, size in [
        *((" ", 2**21), ("8", 2**23), ("0.5", 2**19)),
        *(("1e-9", 1), ("1e308", 2**40)),
    ]:
        monkeypatch.setenv("TFDP_PACK_MIB", text)
        assert pack_bytes() == size


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "10m"])
@pytest.mark.parametrize(
    ("function", "name", "unit"),
    [
        (start_timeout, "TFDP_START_TIMEOUT", "seconds"),
        (pack_bytes, "TFDP_PACK_MIB", "MiB"),
    ],
)
def test_numbers_must_be_positive(monkeypatch, text, function, name, unit):
    monkeypatch.setenv(name, text)
    with pytest.raises(ValueError, match="Received: ") as caught:
        function()
    assert str(caught.value) == (
        f"{name} must be a positive number of {unit}. Received: "
        f"{name}={text!r}. Unset it for the default."
    )
