"""Steps of Slurm, from nothing but their variables."""

import pytest

from tfdp.cluster.environments.slurm import (
    Step,
    expanded_hosts,
    expanded_tasks,
    shared_gpus,
    step_of,
    waiting_tasks,
)


def variables(rank=0, **others):
    """Variables of a task: three of them, on n1, n1 and n2."""
    return {
        "SLURM_JOB_ID": "41",
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str([0, 1, 0][rank]),
        "SLURM_NODEID": str([0, 0, 1][rank]),
        "SLURM_STEP_NUM_TASKS": "3",
        "SLURM_STEP_NODELIST": "n[1-2]",
        "SLURM_STEP_TASKS_PER_NODE": "2,1",
        **others,
    }


def message_of(function, *args, **kwargs):
    with pytest.raises(ValueError, match="Received: ") as caught:
        function(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("plain", ["plain"]),
        ("plain,gpu-2", ["plain", "gpu-2"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[01-03,7]", ["n01", "n02", "n03", "n7"]),
        ("n[009-011]", ["n009", "n010", "n011"]),
        ("n[9-11]", ["n9", "n10", "n11"]),
        ("n[08,10]-ib,x", ["n08-ib", "n10-ib", "x"]),
        ("r[1-2]n[01-02]", ["r1n01", "r1n02", "r2n01", "r2n02"]),
        ("a[1-2]-[5,7].lan", ["a1-5.lan", "a1-7.lan", "a2-5.lan", "a2-7.lan"]),
        (
            "node[01-03,7],gpu-a[1-2]-x,plain",
            [
                "node01",
                "node02",
                "node03",
                "node7",
                "gpu-a1-x",
                "gpu-a2-x",
                "plain",
            ],
        ),
    ],
)
def test_lists_of_nodes_are_expanded(text, hosts):
    assert expanded_hosts(text) == tuple(hosts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "a,",
        "n[1",
        "n1]",
        "n[]",
        "n[a-b]",
        "n[1-]",
        "n[1,,2]",
        "a b",
        "n[٠-٣]",
        "a\0",
    ],
)
def test_malformed_lists_of_nodes_are_refused(text):
    message = message_of(expanded_hosts, text)
    assert message.startswith("A list of Slurm nodes must be of the form")
    assert f"Received: {text!r}." in message
    assert message.endswith("set TF_CONFIG yourself.")


@pytest.mark.parametrize(
    ("text", "tasks"),
    [
        ("1", [1]),
        ("2,1", [2, 1]),
        ("2(x3),1", [2, 2, 2, 1]),
        ("16(x2),8(x2)", [16, 16, 8, 8]),
    ],
)
def test_tasks_per_node_are_expanded(text, tasks):
    assert expanded_tasks(text) == tuple(tasks)


@pytest.mark.parametrize(
    "text", ["", "x", "2(x)", "2x3", "2,", "-1", "2 (x3)", "٢"]
)
def test_malformed_tasks_per_node_are_refused(text):
    message = message_of(expanded_tasks, text)
    assert message.startswith("Slurm's tasks per node must be of the form")
    assert f"Received: {text!r}." in message


def test_every_task_sees_the_same_cluster_and_itself_in_it():
    steps = [step_of(variables(rank, TFDP_PORT="7000")) for rank in range(3)]
    assert [s.addresses for s in steps] == [
        ("n1:7000", "n1:7001", "n2:7000")
    ] * 3
    assert [s.rank for s in steps] == [0, 1, 2]
    assert steps[0] == Step(("n1", "n2"), (2, 1), 0, 7000)


@pytest.mark.parametrize("missing", ["SLURM_LOCALID", "SLURM_NODEID"])
def test_the_place_of_a_task_need_not_be_told(missing):
    told = variables(2)
    del told[missing]
    assert step_of(told).rank == 2


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"SLURM_JOB_ID": "41", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"},
        variables(SLURM_STEP_NUM_TASKS="1", SLURM_STEP_NODELIST="n1"),
        {k: v for k, v in variables().items() if k != "SLURM_PROCID"},
    ],
    ids=["no-slurm", "batch-script", "step-of-one", "no-task"],
)
def test_what_srun_did_not_start_together_is_one_process(told):
    assert step_of(told) is None


def test_one_step_has_one_port_and_its_neighbours_others():
    def port(job, step):
        told = {"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)}
        return step_of(variables(**told)).port

    ports = [port(job, step) for job in range(41, 51) for step in range(10)]
    assert len(set(ports)) == len(ports)
    assert port(41, 0) == port(41, 0)
    assert all(p >= 10_000 and p + 64 < 32_768 for p in ports)
    # No two ranges of 64 overlap.
    assert {p % 64 for p in ports} == {10_000 % 64}


@pytest.mark.parametrize(
    "text", ["0", "65535", "70000", "-1", "http", "", "1.5"]
)
def test_port_must_leave_room_for_the_tasks_of_a_node(text):
    assert message_of(step_of, variables(TFDP_PORT=text)) == (
        "TFDP_PORT must be a port from 1 to 65534, as 2 task(s) of a node need "
        f"one each. Received: TFDP_PORT={text!r}. Unset it to have one chosen."
    )


@pytest.mark.parametrize("name", ["SLURM_NODEID", "SLURM_LOCALID"])
def test_a_task_on_another_node_than_expected_is_refused(name):
    told = variables(1, **{name: "9"})
    message = message_of(step_of, told)
    assert message.startswith(
        "The tasks of a Slurm step must be numbered node by node. Received: "
        f"{name}=9 for SLURM_PROCID=1"
    )
    assert message.endswith("by `srun --distribution=block`.")


@pytest.mark.parametrize("name", ["cyclic", "cyclic:block"])
def test_cyclic_distribution_is_refused_by_every_task(name):
    # Also by those that have the same place in both distributions.
    message = message_of(step_of, variables(0, SLURM_DISTRIBUTION=name))
    assert f"Received: SLURM_DISTRIBUTION={name} for" in message


@pytest.mark.parametrize(
    ("nodes", "tasks"), [("n[1-3]", "1(x3)"), ("n1", "3")], ids=["apart", "one"]
)
def test_cyclic_distribution_that_makes_no_difference_is_fine(nodes, tasks):
    told = variables(
        SLURM_DISTRIBUTION="cyclic",
        SLURM_STEP_NODELIST=nodes,
        SLURM_STEP_TASKS_PER_NODE=tasks,
    )
    assert step_of(told).rank == 0


@pytest.mark.parametrize(
    "others",
    [
        {"SLURM_STEP_NODELIST": "n[1-3]"},
        {"SLURM_STEP_TASKS_PER_NODE": "2(x2)"},
        {"SLURM_STEP_NUM_TASKS": "4"},
        {"SLURM_PROCID": "3"},
    ],
    ids=lambda others: next(iter(others)),
)
def test_contradictory_steps_are_refused(others):
    message = message_of(step_of, variables(**others))
    assert message.startswith("The nodes and tasks of a Slurm step must match.")
    assert "SLURM_STEP_NUM_TASKS=" in message
    assert "(not as a heterogeneous job)" in message


@pytest.mark.parametrize("name", ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS"])
@pytest.mark.parametrize("text", ["two", "٢", "²", "-1"])
def test_numbers_of_slurm_must_be_numbers(name, text):
    message = message_of(step_of, variables(**{name: text}))
    assert message.startswith(f"{name} must be a whole number. Received: ")
    assert f"{name}={text!r}" in message


SEEN = {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_STEP_GPUS": "4,5,6,7"}


@pytest.mark.parametrize(
    ("told", "tasks", "shares"),
    [
        (SEEN, 2, [(0, 1), (2, 3)]),
        (SEEN, 4, [(0,), (1,), (2,), (3,)]),
        (SEEN, 3, [(0,), (1,), (2,)]),
        ({**SEEN, "SLURM_STEP_GPUS": "4-7"}, 2, [(0, 1), (2, 3)]),
        ({**SEEN, "SLURM_GPU_BIND": "none"}, 2, [(0, 1), (2, 3)]),
        ({**SEEN, "SLURM_TRES_PER_TASK": "cpu=8"}, 2, [(0, 1), (2, 3)]),
        (
            {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b", "SLURM_JOB_GPUS": "0,1"},
            2,
            [(0,), (1,)],
        ),
    ],
)
def test_gpus_that_all_tasks_see_are_shared_out(told, tasks, shares):
    found = [shared_gpus(told, i, tasks=tasks) for i in range(tasks)]
    assert found == shares


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"CUDA_VISIBLE_DEVICES": "0,1,2,3"},
        {"SLURM_STEP_GPUS": "4,5,6,7"},
        {**SEEN, "CUDA_VISIBLE_DEVICES": ""},
        {**SEEN, "CUDA_VISIBLE_DEVICES": "0,1"},
        {**SEEN, "SLURM_GPUS_PER_TASK": "2"},
        {**SEEN, "SLURM_NTASKS_PER_GPU": "1"},
        {**SEEN, "SLURM_GPU_BIND": "closest"},
        {**SEEN, "SLURM_TRES_BIND": "gres/gpu:per_task:1"},
        {**SEEN, "SLURM_TRES_PER_TASK": "cpu=8,gres/gpu=2"},
        # Bound, though no variable says so: each task's own list has one.
        {"CUDA_VISIBLE_DEVICES": "0", "SLURM_STEP_GPUS": "5"},
    ],
    ids=range(11),
)
def test_gpus_that_slurm_has_bound_are_all_the_tasks_own(told):
    assert shared_gpus(told, 0, tasks=2) is None


def test_a_task_alone_on_its_node_has_all_of_its_gpus():
    assert shared_gpus(SEEN, 0, tasks=1) is None


def test_a_step_tells_which_gpus_are_its_own():
    told = [variables(rank, **SEEN) for rank in range(3)]
    assert [step_of(t).visible_gpus for t in told] == [(0, 1), (2, 3), None]


@pytest.mark.parametrize(
    ("told", "count"),
    [
        ({}, 0),
        ({"SLURM_NTASKS": "4"}, 0),
        ({"SLURM_JOB_ID": "41"}, 0),
        ({"SLURM_JOB_ID": "41", "SLURM_NTASKS": "4"}, 4),
        (variables(SLURM_NTASKS="3"), 0),
    ],
)
def test_a_batch_script_knows_how_many_tasks_await_it(told, count):
    assert waiting_tasks(told) == count


@pytest.mark.parametrize(
    ("nodes", "tasks"),
    [
        ("node[1-999999999999]", "1(x2)"),
        ("a[1-60000][1-60000]", "1(x2)"),
        ("a[1-60000],b[1-60000]", "1(x2)"),
        ("a,b", "1(x999999999)"),
        ("a,b", "999999999,1"),
    ],
)
def test_more_nodes_or_tasks_than_there_are_take_no_memory(nodes, tasks):
    variables = {
        "SLURM_PROCID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": tasks,
    }
    with pytest.raises(ValueError, match="must have at most 65,?536"):
        step_of(variables)


def test_very_many_devices_are_counted_without_being_listed():
    variables = {
        "CUDA_VISIBLE_DEVICES": "0-999999999",
        "SLURM_STEP_GPUS": "0",
    }
    assert shared_gpus(variables, 0, tasks=2) is None
