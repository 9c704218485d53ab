import faulthandler
import os
import pathlib
import sysconfig
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp
from tfdp.launching.stalls.thread_stacks import Frame, parsed

PACKAGES = sysconfig.get_path("purelib")
OWNERS = {
    __file__: "program",
    "/home/me/train.py": "program",
    os.__file__: "library",
    threading.__file__: "library",
    np.__file__: "library",
    "<frozen runpy>": "library",
    keras.__file__: "engine",
    tf.__file__: "engine",
    "/tmp/__autograph_generated_file8bl.py": "engine",
    tfdp.__file__: "tfdp",
    tfdp.callbacks.__file__: "tfdp",
}


@pytest.mark.parametrize("file", OWNERS)
def test_a_line_is_somebodys(file):
    assert Frame(file, 1, "f").owner == OWNERS[file]


def test_lines_of_tfdp_and_of_here_have_short_names(monkeypatch, tmp_path):
    folder = pathlib.Path(tfdp.__file__).parent
    frame = Frame(str(folder / "agreement" / "ballot.py"), 7, "count")
    assert str(frame) == "tfdp/agreement/ballot.py:7 count"
    monkeypatch.chdir(tmp_path)
    assert str(Frame(str(tmp_path / "train.py"), 1, "f")) == "train.py:1 f"
    assert str(Frame("/else/train.py", 1, "f")) == "/else/train.py:1 f"


def test_stacks_of_this_python_are_understood(tmp_path):
    begun, end = threading.Event(), threading.Event()

    def elsewhere():
        begun.set()
        end.wait()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    begun.wait()
    with (tmp_path / "stacks").open("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        stacks = parsed(file.read())
    end.set()
    thread.join()
    main, *others = stacks
    assert main.is_main
    assert not any(each.is_main for each in others)
    name = "test_stacks_of_this_python_are_understood"
    assert main.frames[0].function == name
    assert main.frames[0].file == __file__
    (found,) = (
        each.innermost("program")
        for each in others
        if each.innermost("program")
        and each.innermost("program").function == "elsewhere"
    )
    assert found.file == __file__


def stack(*files):
    text = "Current thread 0x00007f12 (most recent call first):\n"
    for line, file in enumerate(files, start=1):
        text += f'  File "{file}", line {line} in f\n'
    return parsed(text)[0]


IN_PROGRAM = [
    (["/me/train.py", keras.__file__], True),
    (["/me/train.py"], True),
    # A library that the program has called.
    ([os.__file__, np.__file__, "/me/train.py", keras.__file__], True),
    ([keras.__file__, "/me/train.py"], False),
    ([os.__file__, tf.__file__, "/me/train.py"], False),
    ([tfdp.__file__, "/me/train.py"], False),
    ([os.__file__], False),
    ([], False),
]


@pytest.mark.parametrize(("files", "is_in_program"), IN_PROGRAM)
def test_a_thread_is_in_the_program_or_in_what_that_calls(files, is_in_program):
    assert stack(*files).is_in_program == is_in_program


def test_newer_pythons_name_their_threads():
    text = (
        "Thread 0x00007f12 [reader] (most recent call first):\n"
        '  File "/me/reader.py", line 3 in read\n'
        "\n"
        "Current thread 0x00007f34 [python] (most recent call first):\n"
        '  File "/me/train.py", line 41 in <module>\n'
        "  ...\n"
        "\n"
        "Extension modules: numpy (total: 1)\n"
    )
    main, reader = parsed(text)
    assert (main.is_main, reader.is_main) == (True, False)
    assert str(main.innermost("program")) == "/me/train.py:41 <module>"
    assert str(reader.frames[0]) == "/me/reader.py:3 read"


def test_other_words_are_no_stacks():
    assert parsed("") == []
    assert parsed('  File "/me/train.py", line 3 in read\n') == []
