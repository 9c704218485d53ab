"""An environment of its own for each other library in a benchmark."""

import importlib.util
import subprocess

import pytest
from places import ROOT

SOURCE = ROOT / "benchmarks" / "peers.py"


@pytest.fixture
def peers(monkeypatch):
    spec = importlib.util.spec_from_file_location("peers", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.commands = []

    def run(command):
        module.commands.append([str(word) for word in command])
        if "venv" in command:
            command[-1].mkdir(exist_ok=True)

    monkeypatch.setattr(module, "_run", run)
    return module


@pytest.mark.parametrize("name", ["torch", "tf_keras"])
def test_an_environment_is_installed_once(peers, tmp_path, capsys, name):
    python = peers.python_of(name, tmp_path)
    assert python == tmp_path / f".venv-{name}" / "bin" / "python"
    assert "--clear" in peers.commands[0]
    assert peers.commands[1][0] == str(python)
    assert peers.commands[1][-1].endswith(f"benchmarks/peers/{name}.txt")
    assert f"benchmarks/peers/{name}.txt into" in capsys.readouterr().err
    assert peers.python_of(name, tmp_path) == python
    assert len(peers.commands) == 2
    assert capsys.readouterr().err == ""


def test_an_interrupted_installation_is_begun_anew(peers, tmp_path):
    (tmp_path / ".venv-torch").mkdir()
    peers.python_of("torch", tmp_path)
    assert len(peers.commands) == 2


def test_other_requirements_are_installed_anew(peers, tmp_path):
    peers.python_of("torch", tmp_path)
    stamp = tmp_path / ".venv-torch" / ".installed"
    stamp.write_text("torch==1.0\n")
    peers.python_of("torch", tmp_path)
    assert len(peers.commands) == 4


def test_a_failed_installation_is_no_environment(peers, tmp_path, monkeypatch):
    def fail(command):
        raise subprocess.CalledProcessError(1, ["pip"])

    monkeypatch.setattr(peers, "_run", fail)
    with pytest.raises(SystemExit, match="of torch must be installed"):
        peers.python_of("torch", tmp_path)
    assert not (tmp_path / ".venv-torch" / ".installed").exists()


def test_an_unknown_peer_is_refused(peers, tmp_path):
    with pytest.raises(ValueError, match="Use one of jax, tf_keras, torch, or"):
        peers.python_of("mxnet", tmp_path)
