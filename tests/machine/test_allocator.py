import os
import platform
import subprocess
import sys
import textwrap

import pytest
from places import ROOT

from tfdp.machine.allocator import tunables

DOCS = ROOT / "docs"
FAULTS = """
    import resource, sys, threading

    def show_faults():
        size = int(sys.argv[1]) * 2**20
        kept = [bytearray(8 * 2**20) for _ in range(20)]
        bytearray(size)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            bytearray(size)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

    show_faults()
    thread = threading.Thread(target=show_faults)
    thread.start()
    thread.join()
"""
needs_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="is told to glibc"
)


def faults(mebibytes):
    """Page faults of the first thread and another, for 20 allocations."""
    command = [sys.executable, "-c", textwrap.dedent(FAULTS), str(mebibytes)]
    environment = {**os.environ, **tunables()}
    output = subprocess.check_output(command, env=environment, text=True)
    return [int(line) for line in output.splitlines()]


@needs_glibc
@pytest.mark.parametrize("mebibytes", [1, 8, 24])
@pytest.mark.parametrize("version", [None, "2.34"])
def test_memory_that_is_freed_is_used_again(monkeypatch, mebibytes, version):
    # A newer one, given what an older one is, does as that would.
    if version:
        monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", version))
    # In new memory, were it of pages of 2 MiB, there would be 20 at least.
    assert max(faults(mebibytes)) < 20


@needs_glibc
def test_the_first_thread_keeps_large_memory():
    # In pages of 2 MiB, new memory would take 1,000.
    assert faults(100)[0] < 500


@pytest.mark.parametrize(
    ("version", "threshold"),
    [("2.17", 2**25), ("2.34", 2**25), ("2.35", 2**32), ("3.0.1", 2**32)],
)
def test_older_versions_take_no_large_threshold(
    monkeypatch, version, threshold
):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", version))
    (text,) = tunables().values()
    assert f"glibc.malloc.mmap_threshold={threshold}" in text.split(":")


@pytest.mark.parametrize("library", [("", ""), ("musl", "1.2.5")])
def test_another_library_is_told_nothing(monkeypatch, library):
    monkeypatch.setattr(platform, "libc_ver", lambda: library)
    assert tunables() == {}


def test_the_page_says_what_is_set(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    ((name, value),) = tunables().items()
    text = (DOCS / "how_to" / "speed" / "communication.md").read_text()
    assert f"\nexport {name}={value}\n" in text
