import dataclasses
import math

import numpy as np

from tfdp.throughput.breakdown import PARTS, Breakdown
from tfdp.throughput.limits import Limit
from tfdp.throughput.rates import Rates
from tfdp.throughput.table import print_table
from tfdp.throughput.window import Memory, Window

NONE = Limit("none", 0.9, "computation is [90 %] of the time")


def window(replicas, slowest=0):
    own = np.ones(replicas)
    own[slowest] = 2
    parts = {name: (0.5,) * replicas for name in PARTS}
    return Window(
        epoch=0,
        update=100,
        rates=Rates((5.0,), ((1000,) * replicas,), 100),
        breakdown=Breakdown(
            **{**parts, "compute": tuple(own.tolist())},
            between=(0.0,),
            voting=(0.0,),
            held=(0.0,),
            replicas_by_worker=(replicas,),
        ),
        steps=np.full((1, 100), 0.05),
        memory=Memory((1e9,), (math.nan,) * replicas),
    )


def shown(capsys, *arguments):
    print_table(*arguments)
    return capsys.readouterr().out.splitlines()


def test_each_replica_has_a_row_of_milliseconds(capsys):
    lines = [" ".join(line.split()) for line in shown(capsys, window(2), NONE)]
    assert "400 samples/s over 100 updates; ms per update" in lines
    assert " ".join(["replica", "worker", "samples/s", *PARTS]) in lines
    assert "0 0 200 5.00 5.00 20.00 5.00 5.00 5.00" in lines
    assert "1 0 200 5.00 5.00 10.00 5.00 5.00 5.00" in lines


def test_memory_is_told_in_units_that_can_be_read(capsys):
    assert "memory: 954 MiB in the largest process" in shown(
        capsys, window(2), NONE
    )
    on_gpus = Memory((1e9, 3e9), (math.nan, 40 * 2**30))
    found = dataclasses.replace(window(2), memory=on_gpus)
    assert (
        "memory: 2.8 GiB in the largest process, up to 40.0 GiB on a device"
        in shown(capsys, found, NONE)
    )


def test_words_are_printed_as_they_are(capsys):
    assert "tfdp: computation is [90 %] of the time" in shown(
        capsys, window(1), NONE
    )


def test_of_many_replicas_the_slowest_is_shown(capsys):
    lines = shown(capsys, window(40, slowest=33), NONE)
    assert "16 of 40 replicas" in lines
    rows = [line.split() for line in lines]
    assert [row[0] for row in rows if row[1:2] == ["0"]] == [
        *map(str, range(15)),
        "33",
    ]


def test_bounds_are_marked(capsys):
    bound = dataclasses.replace(window(1), is_bound=True)
    lines = shown(capsys, bound, NONE)
    assert any("≥ 20.00" in line for line in lines)


def test_a_long_unit_is_shortened(capsys):
    long = dataclasses.replace(window(1), unit=200 * "u")
    lines = shown(capsys, long, NONE)
    assert max(map(len, lines)) <= 80
    assert sum(15 * "u" + "…/s" in line for line in lines) == 2
    assert not any(16 * "u" in line for line in lines)


def test_a_unit_is_printed_as_it_is(capsys):
    lines = shown(capsys, dataclasses.replace(window(1), unit="[red]x"), NONE)
    assert sum("[red]x/s" in line for line in lines) == 2
