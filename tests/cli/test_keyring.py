"""`keygen` and `keyring`."""

import io
import json
import stat
import sys

import pytest

from peerupgrade.adapters.keyring_file import KeyringFile
from peerupgrade.cli import main
from peerupgrade.errors import ExitCode
from peerupgrade.wire.keyring import Key
from tests.wire.packets import KEY, OTHER_KEY


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.delenv("PEERUPGRADE_KEYRING", raising=False)
    return tmp_path / "keys"


@pytest.fixture
def run(path, capsys, monkeypatch):
    """Runs one command on the keyring; gives its exit code, stdout and stderr."""

    def run_main(*words, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = main(("keyring", *words, "--keyring", str(path)))
        out, err = capsys.readouterr()
        assert KEY.to_text() not in out + err
        return code, out, err

    return run_main


@pytest.fixture
def both(run):
    for key in (KEY, OTHER_KEY):
        assert run("add", stdin=f"{key.to_text()}\n")[:2] == (0, f"{key.name}\n")


def names(path):
    return [key.name for key in KeyringFile(path).load().keys]


def test_keygen_prints_a_fresh_key(capsys):
    texts = set()
    for _ in range(2):
        assert main(["keygen"]) == 0
        texts.add(capsys.readouterr().out)
    assert len({Key.from_text(text).name for text in texts}) == 2


def test_the_first_key_makes_the_file_and_seals(run, path):
    code, out, err = run("add", "--new")
    assert (code, out) == (0, f"{names(path)[0]}\n")
    assert (
        err == f"peerupgrade: key {names(path)[0]} seals: every node needs it, so copy the file\n"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_rotation(run, path):
    run("add", stdin=KEY.to_text())
    _, out, err = run("add", stdin=OTHER_KEY.to_text())
    assert out == f"{OTHER_KEY.name}\n"
    assert "opens what others seal: add it on all nodes, then use it; 80461204 seals" in err
    assert names(path) == [KEY.name, OTHER_KEY.name]
    code, out, err = run("use", OTHER_KEY.name)
    assert (code, out) == (0, f"{OTHER_KEY.name}\n")
    assert err.startswith(f"peerupgrade: key {OTHER_KEY.name} seals: use it on all nodes")
    code, out, err = run("remove", KEY.name)
    assert (code, out) == (0, f"{KEY.name}\n")
    assert err == f"peerupgrade: key {KEY.name} is removed; {OTHER_KEY.name} seals\n"
    assert names(path) == [OTHER_KEY.name]


def test_the_list_has_ids_only(run, both):
    assert run("list") == (0, f"KEY       SEALS\n{KEY.name}  yes\n{OTHER_KEY.name}  -\n", "")
    code, out, _ = run("list", "-o", "json")
    assert code == 0
    keys = [{"key": KEY.name, "seals": True}, {"key": OTHER_KEY.name, "seals": False}]
    assert json.loads(out) == {"keys": keys}


def test_a_change_as_json_says_what_is_there_now(run, both):
    _, out, err = run("use", OTHER_KEY.name, "-o", "json")
    keys = [{"key": OTHER_KEY.name, "seals": True}, {"key": KEY.name, "seals": False}]
    assert (json.loads(out), err) == ({"key": OTHER_KEY.name, "keys": keys}, "")


def test_the_key_that_seals_is_not_removed(run, path, both):
    code, out, err = run("remove", KEY.name)
    assert (code, out) == (ExitCode.USAGE, "")
    assert "let another key do that first, on all nodes: `peerupgrade keyring use KEY`" in err
    assert names(path) == [KEY.name, OTHER_KEY.name]


@pytest.mark.parametrize("word", ["use", "remove"])
def test_an_unknown_key_is_said(run, both, word):
    code, _, err = run(word, "nope")
    assert code == ExitCode.USAGE
    assert f"no key 'nope' in the keyring: it has {KEY.name}, {OTHER_KEY.name}" in err


@pytest.mark.parametrize("stdin", ["", "hello", KEY.to_text()[:-2]])
def test_what_is_no_key_is_refused_and_makes_no_file(run, path, stdin):
    code, _, err = run("add", stdin=stdin)
    assert code == ExitCode.USAGE
    assert "make one with `peerupgrade keygen`" in err
    assert not path.exists()


def test_bytes_that_are_no_text_are_no_key(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff" * 50), "utf-8"))
    assert main(["keyring", "add", "--keyring", str(path)]) == ExitCode.USAGE
    assert "the standard input is no text" in capsys.readouterr().err


def test_at_a_terminal_the_key_is_asked_for_unseen(run, path, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("peerupgrade.cli.keyring.getpass", lambda _: KEY.to_text())
    monkeypatch.setattr(sys, "stdin", Terminal())
    assert main(["keyring", "add", "--keyring", str(path)]) == 0
    assert names(path) == [KEY.name]


def test_one_that_others_may_read_is_refused(run, path, both):
    path.chmod(0o644)
    for words in (("list",), ("add", "--new"), ("use", KEY.name), ("remove", KEY.name)):
        code, _, err = run(*words)
        assert code == ExitCode.USAGE
        assert f"others may read the keyring {path}" in err


def test_no_file_is_said_with_what_to_do(run, path):
    code, _, err = run("list")
    assert code == ExitCode.USAGE
    assert f"the keyring {path} cannot be read (No such file or directory): make one with" in err


def test_no_directory_is_said(path, capsys):
    there = path.parent / "no" / "keys"
    assert main(["keyring", "add", "--new", "--keyring", str(there)]) == ExitCode.USAGE
    assert f"{there} cannot be edited (No such file or directory)" in capsys.readouterr().err


def test_the_file_may_stand_in_the_environment(run, path, both, monkeypatch, capsys):
    monkeypatch.setenv("PEERUPGRADE_KEYRING", str(path))
    assert main(["keyring", "list"]) == 0
    assert KEY.name in capsys.readouterr().out


def test_without_a_file_it_says_which_option_is_missing(run, capsys):
    assert main(["keyring", "list"]) == ExitCode.USAGE
    assert "--keyring" in capsys.readouterr().err


def test_the_help_of_keygen_has_an_example(capsys):
    assert main(["keygen", "--help"]) == 0
    assert "peerupgrade keygen > new.key" in capsys.readouterr().out
