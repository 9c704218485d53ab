"""The page of measured rows is whole, and what it says can be measured."""

import ast
import importlib.util
import re
import subprocess
import sys

import pytest
from places import TESTS

PAGE = TESTS.parent / "docs" / "ideas" / "exactness.md"
PROGRAM = TESTS.parent / "docs" / "exactness"


def cells(text):
    """Row, what happens, plain, tfdp and test of each line of the table."""
    lines = [line for line in text.splitlines() if line.count("|") == 6]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines
    ]


def of_page():
    heading, rule, *rows = cells(PAGE.read_text())
    assert heading[0] == "Row"
    assert set(rule) == {"---"}
    return rows


def found():
    path = PROGRAM / "measuring.py"
    spec = importlib.util.spec_from_file_location("measuring", path)
    measuring = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(measuring)
    return measuring.rows()


def functions(path):
    tree = ast.parse(path.read_text())
    return {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


def measuring_functions():
    """Those that take a side, and nothing else."""
    for path in PROGRAM.glob("rows_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                arguments = [argument.arg for argument in node.args.args]
                if arguments == ["side"] and not node.name.startswith("_"):
                    yield node.name


def test_every_function_that_measures_is_a_row():
    names = [row.function for row in found()]
    assert sorted(names) == sorted(measuring_functions())
    assert len(names) > 40


def test_the_page_has_the_rows_that_are_measured_and_no_others():
    rows = [
        [row.id, row.text, f"`{row.test}`" if row.test != "-" else "-"]
        for row in found()
    ]
    assert [[id, text, test] for id, text, *_, test in of_page()] == rows


def test_every_row_has_a_text_of_its_own():
    texts = [row.text for row in found()]
    assert len(set(texts)) == len(texts)


def test_tests_named_on_the_page_exist():
    for *_, test in of_page():
        if test != "-":
            file, _, name = test.strip("`").partition("::")
            (path,) = TESTS.rglob(file)
            assert name in functions(path), test


def test_every_cell_was_measured():
    number = r"-?\d[\d.e+-]*|inf|NaN"
    outcome = r"(crash|refused|found): \w+|hang|True|False"
    for _, text, plain, tfdp, _ in of_page():
        for cell in (plain, tfdp):
            assert re.fullmatch(f"{number}|{outcome}", cell), text


@pytest.mark.long
def test_clipping_is_measured_anew():
    before = PAGE.read_text()
    result = subprocess.run(
        [sys.executable, PROGRAM, "--row", "A6", "--dry"],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, result.stderr
    rows = cells(result.stdout)
    assert [row[0] for row in rows] == ["A6", "A6"]
    for _, _, plain, tfdp, _ in rows:
        assert float(tfdp) <= 1e-6 < 1e-3 < float(plain)
    assert PAGE.read_text() == before


def test_the_page_begins_as_the_program_writes_it():
    tree = ast.parse((PROGRAM / "__main__.py").read_text())
    (head,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "HEAD"
    )
    before, after = head.split("{versions}")
    text = PAGE.read_text()
    assert text.startswith(before)
    assert after in text


def test_an_unknown_row_is_refused():
    result = subprocess.run(
        [sys.executable, PROGRAM, "--row", "Z9"],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 2
    assert "no row is named Z9" in result.stderr
