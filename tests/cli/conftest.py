"""The command line is tested against the HTTP tests' node."""

import os
import sys
from pathlib import Path

import pytest

from peerupgrade.cli import main
from peerupgrade.http.discovery import publish

sys.path.append(str(Path(__file__).parents[1] / "http"))


@pytest.fixture(autouse=True)
def quiet_surroundings(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("PEERUPGRADE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def node():
    """A node that runs on this machine, so that commands find it."""
    from fake_node import FakeNode, serving

    fake = FakeNode()
    with serving(fake) as (url, _):
        publish("blue", "n1", url, "secret")
        yield fake


@pytest.fixture
def run(capsys):
    """Runs one command; gives its exit code, stdout and stderr."""

    def run_main(*words):
        code = main(words)
        out, err = capsys.readouterr()
        return code, out, err

    return run_main
