import pytest

from tfdp.machine.out_of_memory import oom_kills


@pytest.fixture
def root(tmp_path):
    """Writes files below a root, and returns it."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def test_kills_on_the_machine_count(root):
    vmstat = "nr_free_pages 1\noom_kill 3\ndrop_pagecache 0\n"
    assert oom_kills(root(proc__vmstat=vmstat)) == 3


@pytest.mark.parametrize(
    ("groups", "path"),
    [
        ("0::/jobs/7\n", "sys__fs__cgroup__jobs__7__memory_DOT_events"),
        ("0::/\n", "sys__fs__cgroup__memory_DOT_events"),
        (
            "5:cpu,memory:/7\n1:name=systemd:/7\n",
            "sys__fs__cgroup__memory__7__memory_DOT_oom_control",
        ),
    ],
)
def test_kills_in_the_own_control_group_count(root, groups, path):
    events = "oom 5\noom_kill 2\noom_group_kill 9\n"
    files = {"proc__self__cgroup": groups, path: events}
    assert oom_kills(root(**files)) == 2


def test_system_that_does_not_count_has_no_kills(root):
    assert oom_kills(root(proc__self__cgroup="0::/gone\n")) == 0


def test_kernel_here_is_read_without_an_error():
    assert oom_kills() >= 0
