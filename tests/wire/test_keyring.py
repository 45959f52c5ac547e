"""Keys, keyrings and their file."""

import os
import stat

import pytest

from peerupgrade.adapters.keyring_file import KeyringFile
from peerupgrade.errors import ConfigError
from peerupgrade.wire.keyring import Key, Keyring
from tests.wire.packets import KEY, KEYRING, OTHER_KEY

BOTH = Keyring([KEY, OTHER_KEY])


def names(keyring):
    return [key.name for key in keyring.keys]


class TestKeys:
    def test_a_key_comes_back_from_its_text(self):
        again = Key.from_text(f" {KEY.to_text()}\n")
        assert again.to_text() == KEY.to_text()
        assert again.id == KEY.id
        assert len(KEY.to_text()) == 44

    def test_ids_are_the_same_for_ever(self):
        assert (KEY.name, OTHER_KEY.name) == ("80461204", "7756f3c3")

    def test_fresh_keys_differ(self):
        assert len({Key.new().to_text() for _ in range(100)}) == 100

    @pytest.mark.parametrize("text", ["", "x", KEY.to_text()[:-4], KEY.to_text() * 2, "ä" * 44])
    def test_no_key_is_said_without_repeating_it(self, text):
        with pytest.raises(ConfigError, match="32 bytes in base64: make one with") as caught:
            Key.from_text(text)
        assert not text or text not in str(caught.value)

    def test_no_repr_has_a_key(self):
        assert (repr(KEY), repr(BOTH)) == (f"Key({KEY.name})", f"Keyring({KEY.name}, 7756f3c3)")


class TestKeyrings:
    def test_a_rotation(self):
        added = KEYRING.adding(OTHER_KEY)
        assert (names(added), added.sealing) == ([KEY.name, OTHER_KEY.name], KEY)
        used = added.using(OTHER_KEY.name)
        assert (names(used), used.sealing) == ([OTHER_KEY.name, KEY.name], OTHER_KEY)
        assert names(used.removing(KEY.name)) == [OTHER_KEY.name]

    def test_the_key_that_seals_is_not_removed(self):
        with pytest.raises(ConfigError, match="seals what this node sends: let another key do"):
            BOTH.removing(KEY.name)

    @pytest.mark.parametrize("change", ["using", "removing"])
    def test_an_unknown_key_is_said_with_those_that_are_known(self, change):
        with pytest.raises(ConfigError, match="no key 'x' in the keyring: it has 80461204, 7756"):
            getattr(BOTH, change)("x")

    def test_a_key_is_added_once(self):
        with pytest.raises(ConfigError, match="key 80461204 is in the keyring"):
            BOTH.adding(Key.from_text(KEY.to_text()))

    def test_none_and_too_many_are_refused(self):
        for keys in ([], [Key.new() for _ in range(17)]):
            with pytest.raises(ConfigError, match=f"a keyring of {len(keys)} keys: give between"):
                Keyring(keys)
        with pytest.raises(ConfigError, match="one key stands twice"):
            Keyring([KEY, KEY])


@pytest.fixture
def file(tmp_path):
    return KeyringFile(tmp_path / "keyring")


class TestFile:
    def test_keys_come_back_in_their_order(self, file):
        file.save(BOTH)
        assert names(file.load()) == names(BOTH)

    def test_only_the_owner_may_read_whatever_the_umask(self, file):
        umask = os.umask(0)
        try:
            file.save(KEYRING)
        finally:
            os.umask(umask)
        assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
        assert list(file.path.parent.iterdir()) == [file.path]

    def test_spaces_and_remarks_do_not_matter(self, file):
        file.save(KEYRING)
        file.path.write_text(f"# mine\n\n  {OTHER_KEY.to_text()} \r\n{KEY.to_text()}")
        assert names(file.load()) == [OTHER_KEY.name, KEY.name]

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
    def test_one_that_others_may_read_is_refused(self, file, mode):
        file.save(KEYRING)
        file.path.chmod(mode)
        with pytest.raises(ConfigError, match=rf"mode is {mode:04o}: if nobody has: chmod 600 .*"):
            file.load()

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "keyring: a keyring of 0 keys"),
            (b"secret-but-no-key", "keyring: this is no key"),
            (b"\xff\xfe", "is no keyring: it has one key a line"),
            (b"#" * 20_000, "is no keyring"),
            (f"{KEY.to_text()}\n{KEY.to_text()}\n".encode(), "keyring: one key stands twice"),
        ],
    )
    def test_what_is_wrong_is_said_and_no_secret(self, file, content, said):
        file.save(KEYRING)
        file.path.write_bytes(content)
        with pytest.raises(ConfigError, match=said) as caught:
            file.load()
        assert "secret-but" not in str(caught.value)
        assert KEY.to_text() not in str(caught.value)

    def test_no_file_is_said(self, file):
        with pytest.raises(ConfigError, match=r"cannot be read .No such file.*make one with"):
            file.load()

    def test_a_failed_change_keeps_what_was_there(self, file, monkeypatch):
        file.save(KEYRING)

        def fail(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(ConfigError, match=r"cannot be written .No space left"):
                file.save(BOTH)
        assert names(file.load()) == names(KEYRING)
        assert list(file.path.parent.iterdir()) == [file.path]

    def test_a_change_is_seen_once(self, file):
        file.save(KEYRING)
        file.load()
        assert file.changed() is None
        file.save(BOTH)
        assert names(file.changed()) == names(BOTH)
        assert file.changed() is None
