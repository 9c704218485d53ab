"""The package as users get it: built, installed elsewhere, and run there."""

import configparser
import email
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
import run_logs
from places import ROOT

# What a build needs, and what must not go into it.
BUILT_FROM = ["LICENSE", "MANIFEST.in", "README.md", "pyproject.toml"]
BUILT_FROM += ["setup.cfg", "build_backend.py", "callbacks", "tests", "tfdp"]
TEMPLATES = {f"tfdp/report/templates/report.{x}" for x in ("css", "html", "js")}


def run(*command, **options):
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=600, **options
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Folder with the sdist and the wheel, the latter made of the former."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    source.mkdir()
    # A build leaves its traces beside the sources.
    for name in BUILT_FROM:
        path = ROOT / name
        if path.is_dir():
            no_caches = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, source / name, ignore=no_caches)
        elif path.exists():
            shutil.copy(path, source)
    built = folder / "built"
    run(sys.executable, "-m", "build", "--outdir", built, source)
    return built


@pytest.fixture(scope="module")
def wheel(distributions):
    (path,) = distributions.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Folder that the wheel was installed to."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    pip += ["--disable-pip-version-check", "--no-deps", "--target"]
    run(*pip, target, wheel)
    return target


def names_in_wheel(distributions):
    (path,) = distributions.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def names_in_sdist(distributions):
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    return set(names)


def sources(folder):
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*.py")
    }


def test_wheel_holds_every_module_and_nothing_else(distributions):
    names = names_in_wheel(distributions)
    expected = sources("tfdp") | {
        f"tfdp/{name}" for name in sources("callbacks")
    }
    assert {"tfdp/cli/launch.py", "tfdp/callbacks/data_parallel.py"} <= expected
    assert {name for name in names if name.endswith(".py")} == expected
    assert {"tfdp/py.typed", "tfdp/callbacks/py.typed"} <= names
    # What the names of tfdp are found by.
    assert "tfdp/__init__.pyi" in names
    assert names >= TEMPLATES
    assert [name for name in names if name.endswith("licenses/LICENSE")]
    packages = {name.partition("/")[0] for name in names}
    own = {p for p in packages if "dist-info" not in p}
    assert own == {"tfdp"}


def test_sdist_holds_what_a_build_needs(distributions):
    names = names_in_sdist(distributions)
    assert names >= TEMPLATES
    assert sources("tfdp") | sources("callbacks") <= names
    assert {"tfdp/py.typed", "callbacks/py.typed", "tfdp/__init__.pyi"} <= names
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.cfg"} <= names
    assert "build_backend.py" in names


def test_sdist_holds_no_tests(distributions):
    names = names_in_sdist(distributions)
    assert [name for name in names if name.startswith("tests")] == []


def test_wheel_says_what_it_is(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {
            name.partition("/")[0]
            for name in archive.namelist()
            if ".dist-info/" in name
        }
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        scripts = configparser.ConfigParser()
        scripts.read_string(archive.read(f"{info}/entry_points.txt").decode())
    assert metadata["Name"] == "tfdp"
    assert metadata["License"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().startswith("# tfdp")
    needed = [r for r in metadata.get_all("Requires-Dist") if "extra" not in r]
    assert {r.partition(">")[0] for r in needed} == {
        "click",
        "cloudpickle",
        "keras",
        "lazy-loader",
        "psutil",
        "rich",
        "tensorflow",
    }
    assert dict(scripts["console_scripts"]) == {"tfdp": "tfdp.cli:main"}
    assert dict(scripts["pytest11"]) == {"tfdp_pytest": "tfdp.testing.plugin"}


def environment(installed):
    return {**os.environ, "PYTHONPATH": str(installed)}


@pytest.mark.long
def test_installed_package_trains_from_outside_of_the_checkout(
    installed, tmp_path
):
    script = tmp_path / "train.py"
    script.write_text(
        "import keras, numpy as np, tfdp, tfdp.callbacks\n"
        "strategy = tfdp.MirroredStrategy(tfdp.testing.logical_cpus(2))\n"
        "with strategy.scope():\n"
        "    model = keras.Sequential([keras.layers.Dense(1)])\n"
        "    optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1), "
        "accumulation_steps=2)\n"
        "    model.compile(optimizer, 'mse')\n"
        "model.fit(np.ones((16, 2)), np.ones((16, 1)), batch_size=4, "
        "callbacks=[tfdp.callbacks.DataParallel()], verbose=0)\n"
        "print(tfdp.__file__)\n"
        "print(tfdp.callbacks.__file__)\n"
        "print(int(optimizer.iterations.numpy()))\n"
    )
    output = run(
        sys.executable, script, cwd=tmp_path, env=environment(installed)
    )
    package, callbacks, updates = output.split()[-3:]
    assert package == str(installed / "tfdp" / "__init__.py")
    assert callbacks == str(installed / "tfdp" / "callbacks" / "__init__.py")
    assert updates == "2"


def test_installed_command_runs(installed, tmp_path):
    command = installed / "bin" / "tfdp"
    script = tmp_path / "train.py"
    script.write_text(
        "from tfdp.launching import launcher\nprint(launcher.__file__)\n"
    )
    output = run(
        sys.executable,
        command,
        *("launch", "--workers", "1", script),
        cwd=tmp_path,
        env=environment(installed),
    )
    assert (
        f"[worker 0] {installed / 'tfdp' / 'launching' / 'launcher.py'}\n"
        in output
    )


@pytest.mark.long
def test_installed_report_has_its_page(installed, tmp_path):
    run_logs.write(tmp_path / "run", [run_logs.begin(), run_logs.window(10)])
    run(
        sys.executable,
        installed / "bin" / "tfdp",
        *("report", "run", "--output", "page"),
        cwd=tmp_path,
        env=environment(installed),
    )
    names = {path.name for path in (tmp_path / "page").iterdir()}
    assert names == {"report.html", "throughput.png"}


@pytest.mark.long
def test_installed_plugin_gives_its_fixtures(installed, tmp_path):
    (tmp_path / "test_workers.py").write_text(
        "def place(): return __file__\n"
        "def test_place(run_workers):\n"
        "    assert run_workers(place, 2) == [__file__] * 2\n"
    )
    output = run(
        *(sys.executable, "-m", "pytest"),
        cwd=tmp_path,
        env=environment(installed),
    )
    assert "1 passed" in output
