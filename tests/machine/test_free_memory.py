"""What is left, by control groups written for the test."""

import pathlib

import psutil
import pytest

from tfdp.machine import free_memory

STAT = "anon 5\ninactive_file 300\ntotal_inactive_file 300\n"


def group(root, folder, **numbers):
    folder = root / "sys/fs/cgroup" / folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.stat").write_text(STAT)
    for name, number in numbers.items():
        (folder / f"memory.{name}").write_text(f"{number}\n")


def of_process(root, groups):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)


def test_without_a_limit_it_is_what_the_machine_has(tmp_path):
    of_process(tmp_path, "0::/job\n")
    group(tmp_path, "job", max="max", current=5000)
    assert free_memory(tmp_path) > 2**20
    assert 0 < free_memory() <= psutil.virtual_memory().total


def test_a_container_has_less(tmp_path):
    of_process(tmp_path, "0::/\n")
    group(tmp_path, ".", max=9000, current=5000)
    assert free_memory(tmp_path) == 4300


def test_the_group_around_may_have_least(tmp_path):
    of_process(tmp_path, "0::/pod/container\n")
    group(tmp_path, "pod/container", max=9000, current=1000)
    group(tmp_path, "pod", max=6000, current=5500)
    assert free_memory(tmp_path) == 800


@pytest.mark.parametrize(("used", "left"), [(1000, 8300), (9900, 0)])
def test_groups_of_the_first_version_count(tmp_path, used, left):
    of_process(tmp_path, "5:cpu,memory:/7\n1:name=systemd:/7\n")
    group(tmp_path, "memory/7", limit_in_bytes=9000, usage_in_bytes=used)
    assert free_memory(tmp_path) == left


def test_a_root_that_is_not_there_has_no_groups():
    assert free_memory(pathlib.Path("/no/such/folder")) > 2**20
