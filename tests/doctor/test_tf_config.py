"""What a `TF_CONFIG` that is not quite right was meant to be."""

import json
import time

import pytest

from tfdp.doctor.tf_config import mended

SOUND = (
    '{"cluster": {"worker": ["a:1", "b:2"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


def test_a_byte_order_mark_is_left_out():
    better, findings = mended("\ufeff" + SOUND)
    assert json.loads(better) == json.loads(SOUND)
    (finding,) = findings
    assert r"Received: \ufeff{" in finding.message


def test_what_is_not_seen_in_an_address_is_left_out():
    better, findings = mended(SOUND.replace("a:1", r"\ufeffa\u0000:1\u200b"))
    assert json.loads(better) == json.loads(SOUND)
    (finding,) = findings
    assert r"'\ufeffa\x00:1\u200b'. Use 'a:1'." in finding.message


@pytest.mark.parametrize("text", ["[", "{a:", "{'cluster': ["])
def test_what_is_too_deep_cannot_be_guessed(text):
    assert mended(100_000 * text) == (100_000 * text, [])


def test_digits_of_other_scripts_are_no_numbers():
    text = SOUND.replace("0}", '"٠"}')
    assert mended(text) == (text, [])


@pytest.mark.parametrize("same", [False, True])
def test_thousands_of_addresses_are_read_in_no_time(same):
    hosts = ["h" if same else f"h{i}" for i in range(20_000)]
    text = str({"cluster": {"worker": [f"{host}:10000" for host in hosts]}})
    began = time.process_time()
    better, _ = mended(text)
    assert time.process_time() - began < 5
    found = json.loads(better)["cluster"]["worker"]
    assert len(set(found)) == 20_000


def test_a_sound_text_stays_what_it_is():
    assert mended(SOUND) == (SOUND, [])


@pytest.mark.parametrize(
    "text",
    [
        SOUND.replace('"', "'"),
        SOUND.replace('"', ""),
        SOUND.replace('"', "").replace(" ", ""),
        SOUND.replace('"b:2"]', '"b:2",]').replace("0}}", "0,},}"),
        SOUND.replace('"cluster"', "“cluster”").replace('"a:1"', "‘a:1’"),
        SOUND.replace('"a:1"', "a:1"),
        SOUND.removesuffix("}}"),
        SOUND + "}",
        f"'{SOUND}'",
        json.dumps(SOUND),
    ],
    ids=[
        "python",
        "no-quotes",
        "no-quotes-no-blanks",
        "commas",
        "word-processor",
        "bare-address",
        "too-few-brackets",
        "too-many-brackets",
        "quoted-again",
        "encoded-again",
    ],
)
def test_text_that_is_no_json_is_read_as_it_was_meant(text):
    better, findings = mended(text)
    assert json.loads(better) == json.loads(SOUND)
    (finding,) = findings
    assert finding.message.startswith(
        f"TF_CONFIG must be JSON. Received: {text}."
    )
    assert finding.severity == "error"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "worker",
        "{",
        "{'a",
        "[1",
        '{"a" "b"}',
        '{"a": ["b"}',
        "[: 1]",
        "null",
        "[]",
        SOUND + " " + SOUND,
    ],
)
def test_what_cannot_be_guessed_stays_what_it_is(text):
    assert mended(text) == (text, [])


def test_a_long_text_is_shortened():
    (finding,) = mended("{'a': '" + "x" * 1000 + "'}")[1]
    assert len(finding.message) < 400


@pytest.mark.parametrize(
    "given",
    [
        "a:1,b:2",
        "a:1, b:2",
        " a:1  b:2;",
        ["a", 1, "b", 2],
        ["a", "1", "b:2"],
        ["a:", 1, "b:2"],
        [["a", 1], ["b", "2"]],
        {"1": "b:2", "0": "a:1"},
    ],
    ids=str,
)
def test_addresses_become_a_list(given):
    better, findings = mended(json.dumps({"cluster": {"worker": given}}))
    assert json.loads(better) == {"cluster": {"worker": ["a:1", "b:2"]}}
    (finding,) = findings
    assert finding.where == f"worker={given!r}"
    assert finding.way_out == 'Use ["a:1", "b:2"].'
    assert finding.severity == "error"


def test_an_address_whose_quotes_end_too_early_is_joined():
    better, findings = mended('{"cluster": {"worker": ["a":1, "b": 2]}}')
    assert json.loads(better) == {"cluster": {"worker": ["a:1", "b:2"]}}
    assert len(findings) == 2


@pytest.mark.parametrize(
    "address",
    ["http://a:1", "grpc://a:1/", "a:1/", " a:1", "a:1\n", "a: 1", "a:1/path"],
)
def test_an_address_is_freed_of_what_does_not_belong_to_it(address):
    better, (finding,) = mended(json.dumps({"cluster": {"worker": [address]}}))
    assert json.loads(better) == {"cluster": {"worker": ["a:1"]}}
    assert finding.message == (
        f"An address must be `host:port`. Received: {address!r}. Use 'a:1'."
    )


@pytest.mark.parametrize(
    "addresses", [["[::1]:5", "10.0.0.1:5"], [12345], [None], ["a"], ["a", "a"]]
)
def test_other_addresses_are_left_alone(addresses):
    text = json.dumps({"cluster": {"worker": addresses}})
    assert mended(text) == (text, [])


@pytest.mark.parametrize("worker", [None, 5, {"zero": "a:1"}])
def test_other_jobs_are_left_alone(worker):
    config = {"cluster": {"worker": worker}}
    better, _ = mended(json.dumps(config))
    assert better in (
        json.dumps(config),
        json.dumps({"cluster": {"worker": [worker]}}),
    )


def test_a_port_twice_on_a_host_is_moved_to_one_that_nobody_has():
    addresses = ["a:1", "a:1", "a:2", "b:1"]
    jobs = {"worker": addresses, "chief": ["a:2"]}
    better, findings = mended(json.dumps({"cluster": jobs}))
    assert json.loads(better) == {
        "cluster": {"worker": ["a:1", "a:3", "a:2", "b:1"], "chief": ["a:4"]}
    }
    assert [f.where for f in findings] == [
        "'a:1' a second time",
        "'a:2' a second time",
    ]


def test_two_names_of_this_host_are_one():
    jobs = {"worker": ["127.0.0.1:1", "localhost:1"]}
    better, _ = mended(json.dumps({"cluster": jobs}))
    assert json.loads(better)["cluster"]["worker"][1] == "localhost:2"


def test_a_master_is_the_chief():
    text = json.dumps(
        {
            "cluster": {"master": ["c:9"], "workers": ["a:1"]},
            "task": {"type": "master", "index": 0},
        }
    )
    better, findings = mended(text)
    assert json.loads(better) == {
        "cluster": {"chief": ["c:9"], "worker": ["a:1"]},
        "task": {"type": "chief", "index": 0},
    }
    assert [f.where for f in findings] == ["'master'", "'workers'", "'master'"]


def test_a_master_beside_a_chief_is_left_alone():
    text = json.dumps({"cluster": {"master": ["c:9"], "chief": ["a:1"]}})
    assert mended(text) == (text, [])


def test_an_index_as_text_is_a_warning_as_it_is_taken():
    better, (finding,) = mended(SOUND.replace("0", '"0"'))
    assert json.loads(better) == json.loads(SOUND)
    assert finding.severity == "warning"
    assert finding.message == (
        "The task's index should be a number. Received: index='0'. Use 0, "
        "without quotes."
    )


def test_further_keys_are_kept():
    text = SOUND.replace('"cluster"', '"rpc_layer": "grpc", "cluster"')
    better, _ = mended(text.replace('"', "'"))
    assert json.loads(better) == json.loads(text)


def test_ipv6_is_put_in_brackets():
    text = json.dumps({"cluster": {"worker": ["::1:2222", "[::1]:2223"]}})
    better, findings = mended(text)
    assert json.loads(better)["cluster"]["worker"] == [
        "[::1]:2222",
        "[::1]:2223",
    ]
    (finding,) = findings
    assert "Received: '::1:2222'. Use '[::1]:2222'." in str(finding)
