"""How commands find the nodes of their own machine."""

import os
import stat
import subprocess
import sys

import pytest

from peerupgrade.errors import ConfigError
from peerupgrade.http.discovery import Running, find, publish, withdraw


@pytest.fixture(autouse=True)
def runtime_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_a_published_node_is_found_until_it_is_withdrawn():
    path = publish("blue", "n1", "http://127.0.0.1:1", "secret")
    assert find() == [Running("blue", "n1", "http://127.0.0.1:1", os.getpid(), "secret")]
    withdraw(path)
    assert find() == []
    withdraw(path)  # twice is once


def test_only_the_user_can_read_the_token(runtime_dir):
    before = os.umask(0)
    try:
        path = publish("blue", "n1", "http://127.0.0.1:1", "secret")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.parent == runtime_dir / "peerupgrade"
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert "secret" not in repr(find())


def test_without_a_runtime_directory_the_user_has_one_among_temporary_files(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = publish("blue", "n1", "http://127.0.0.1:1", "")
    assert path.parent == tmp_path / f"peerupgrade-{os.getuid()}"
    assert len(find()) == 1


def test_nodes_are_sorted_and_dots_in_names_do_not_mix_them_up():
    for cluster, name in (("a.b", "c"), ("a", "b.c"), ("a", "b")):
        publish(cluster, name, "http://127.0.0.1:1", "")
    assert [(one.cluster, one.name) for one in find()] == [("a", "b"), ("a", "b.c"), ("a.b", "c")]


def test_a_node_that_started_again_replaces_its_file():
    publish("blue", "n1", "http://127.0.0.1:1", "")
    publish("blue", "n1", "http://127.0.0.1:2", "")
    assert [one.url for one in find()] == ["http://127.0.0.1:2"]


def of_process(pid):
    """A file as another process would have left it."""
    path = publish("blue", "n1", "http://127.0.0.1:1", "")
    path.write_bytes(path.read_bytes().replace(str(os.getpid()).encode(), str(pid).encode()))
    return path


def test_a_dead_process_is_skipped():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    of_process(child.pid)
    assert find() == []


def test_the_file_of_a_successor_is_not_withdrawn():
    path = of_process(os.getppid())
    withdraw(path)
    assert path.exists()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"cluster": "a"}', b"\xff", b'{"pid": "x"}']
)
def test_a_file_that_says_something_else_is_skipped(content):
    path = publish("blue", "n1", "http://127.0.0.1:1", "")
    path.with_name("other@blue.json").write_bytes(content)
    assert len(find()) == 1


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_directory_that_others_can_enter_gets_no_token(runtime_dir, mode):
    directory = runtime_dir / "peerupgrade"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(ConfigError, match="only this user can enter"):
        publish("blue", "n1", "http://127.0.0.1:1", "secret")
    with pytest.raises(ConfigError, match="only this user can enter"):
        find()
    assert list(directory.iterdir()) == []


def test_a_link_to_somewhere_else_gets_no_token(runtime_dir, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    elsewhere.chmod(0o700)
    (runtime_dir / "peerupgrade").symlink_to(elsewhere)
    with pytest.raises(ConfigError):
        publish("blue", "n1", "http://127.0.0.1:1", "secret")
    assert list(elsewhere.iterdir()) == []
