import pytest

from tfdp.settings import (
    DEFAULT_PACK,
    is_asynchronous,
    is_attended,
    pack_bytes,
    start_timeout,
)


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch):
    names = ("TFDP_START_TIMEOUT", "TFDP_PACK_MIB", "TFDP_ASYNCHRONOUS")
    for name in names:
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


def test_a_job_is_asynchronous_where_the_environment_says_so(monkeypatch):
    assert not is_asynchronous()
    for text, expected in [("", False), ("0", False), (" 1 ", True)]:
        monkeypatch.setenv("TFDP_ASYNCHRONOUS", text)
        assert is_asynchronous() == expected


def test_a_job_is_asynchronous_or_not(monkeypatch):
    monkeypatch.setenv("TFDP_ASYNCHRONOUS", "yes")
    with pytest.raises(ValueError, match="Received: ") as caught:
        is_asynchronous()
    assert str(caught.value) == (
        "TFDP_ASYNCHRONOUS must be 1 or 0. Received: TFDP_ASYNCHRONOUS='yes'. "
        "Leave it to `tfdp launch --asynchronous`."
    )


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, True),
        ({"CI": ""}, True),
        ({"CI": "false"}, True),
        ({"CI": "0"}, True),
        ({"CI": "true"}, False),
        ({"CI": "1"}, False),
        ({"CI": "drone"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": ""}, False),
        ({"JPY_PARENT_PID": "7"}, False),
    ],
)
def test_nobody_looks_at_what_is_no_terminal_of_a_person(variables, expected):
    assert is_attended({"TERM": "xterm", **variables}) is expected


def test_without_a_kind_of_terminal_nobody_looks():
    assert not is_attended({})
