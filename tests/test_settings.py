import pytest

from tfdp.settings import DEFAULT_PACK, pack_bytes, start_timeout


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch):
    for name in ("TFDP_START_TIMEOUT", "TFDP_PACK_MIB"):
        monkeypatch.delenv(name, raising=False)


def message_of(function):
    with pytest.raises(ValueError, match="Received: ") as caught:
        function()
    return str(caught.value)


def test_the_start_takes_600_seconds_at_most(monkeypatch):
    assert start_timeout() == 600
    monkeypatch.setenv("TFDP_START_TIMEOUT", " ")
    assert start_timeout() == 600
    monkeypatch.setenv("TFDP_START_TIMEOUT", "2.5")
    assert start_timeout() == 2.5


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "10m"])
def test_the_time_to_start_must_be_positive(monkeypatch, text):
    monkeypatch.setenv("TFDP_START_TIMEOUT", text)
    assert message_of(start_timeout) == (
        "TFDP_START_TIMEOUT must be a positive number of seconds. Received: "
        f"TFDP_START_TIMEOUT={text!r}. Unset it for the default."
    )


def test_packs_are_as_large_as_the_environment_says(monkeypatch):
    assert pack_bytes() == DEFAULT_PACK == 2 * 2**20
    for text, size in [
        *((" ", 2**21), ("8", 2**23), ("0.5", 2**19)),
        *(("1e-9", 1), ("1e308", 2**40)),
    ]:
        monkeypatch.setenv("TFDP_PACK_MIB", text)
        assert pack_bytes() == size


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "2MiB"])
def test_packs_must_have_a_size(monkeypatch, text):
    monkeypatch.setenv("TFDP_PACK_MIB", text)
    assert message_of(pack_bytes) == (
        "TFDP_PACK_MIB must be a positive number of MiB. Received: "
        f"TFDP_PACK_MIB={text!r}. Unset it for the default."
    )
