"""An editable install, and a program in the folder that a clone lies in."""

import os
import shutil
import subprocess
import sys

import pytest
from places import ROOT

pytestmark = pytest.mark.long
PARTS = ["LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.cfg"]
PARTS += ["build_backend.py", "callbacks", "tfdp"]
ALL = "import tfdp; print(tfdp.MirroredStrategy, tfdp.callbacks.DataParallel)"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone by the name that it has, in a folder of its own."""
    clone = tmp_path_factory.mktemp("above") / "tfdp"
    clone.mkdir()
    for name in PARTS:
        path = ROOT / name
        if path.is_dir():
            no_caches = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, clone / name, ignore=no_caches)
        else:
            shutil.copy(path, clone)
    return clone


@pytest.fixture(scope="module")
def site(clone, tmp_path_factory):
    """Where the clone was installed as one that is edited."""
    folder = tmp_path_factory.mktemp("editable")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    result = subprocess.run(
        [*pip, "--disable-pip-version-check", "--target", folder, "-e", clone],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def run(site, folder, code):
    # As if the site were one of those of this Python, and no other tfdp there.
    head = f"""
import site, sys
for name in [name for name in sys.modules if name.startswith("__editable__")]:
    del sys.modules[name]
finders = [f for f in sys.meta_path if "__editable__" not in f.__module__]
sys.meta_path[:] = finders
sys.path.insert(1, {os.fspath(site)!r})
site.addsitedir({os.fspath(site)!r})
"""
    return subprocess.run(
        [sys.executable, "-c", head + code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("place", ["above", "clone", "elsewhere"])
def test_tfdp_is_found_from_wherever_a_program_starts(
    site, clone, tmp_path, place
):
    folder = {"above": clone.parent, "clone": clone, "elsewhere": tmp_path}
    code = "import tfdp; print(tfdp.__version__, tfdp.__file__)"
    result = run(site, folder[place], code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith(str(clone / "tfdp" / "__init__.py"))


def test_all_of_tfdp_is_found_from_the_folder_above(site, clone):
    result = run(site, clone.parent, ALL)
    assert result.returncode == 0, result.stderr
    assert "tfdp.callbacks.data_parallel.DataParallel" in result.stdout


def test_another_tfdp_that_python_would_find_first_is_found(site, tmp_path):
    package = tmp_path / "tfdp"
    package.mkdir()
    (package / "__init__.py").write_text("name = 'another'")
    result = run(site, tmp_path, "import tfdp; print(tfdp.name)")
    assert result.stdout == "another\n", result.stderr


def test_the_finder_goes_with_the_install(site):
    (record,) = site.glob("tfdp-*.dist-info/RECORD")
    assert "__editable___tfdp_above.pth" in record.read_text()
