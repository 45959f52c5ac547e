"""A node's own memory."""

import os
import stat
import subprocess
import sys

import pytest

from peerupgrade.adapters.disk import FileDisk
from peerupgrade.adapters.memory import MemoryDisk
from peerupgrade.core.effects import Memory
from peerupgrade.core.record import ClusterRecord
from peerupgrade.core.versions import parse_version
from peerupgrade.errors import ConfigError, DataError

MEMORY = Memory("t", ("p", "o"), "t", 3, ClusterRecord("g", 4, 5, acting=parse_version("1.0")), 6)


@pytest.fixture(params=["file", "memory"])
def disk(request, tmp_path):
    if request.param == "memory":
        yield MemoryDisk()
    else:
        disk = FileDisk(tmp_path / "state" / "a")
        yield disk
        disk.close()


def test_is_empty_at_first(disk):
    assert disk.load() == Memory()


def test_has_what_was_saved_last(disk):
    disk.save(Memory("first"))
    disk.save(MEMORY)
    assert disk.load() == MEMORY


def test_a_full_disk_keeps_what_was_there():
    disk = MemoryDisk()
    disk.save(MEMORY)
    disk.full = True
    with pytest.raises(OSError, match="No space left"):
        disk.save(Memory())
    assert disk.load() == MEMORY


class TestFile:
    def test_survives_the_process(self, tmp_path):
        disk = FileDisk(tmp_path / "a")
        disk.save(MEMORY)
        disk.close()
        again = FileDisk(tmp_path / "a")
        assert again.load() == MEMORY
        again.close()

    def test_only_the_owner_may_read(self, tmp_path):
        directory = tmp_path / "a"
        directory.mkdir(mode=0o755)
        disk = FileDisk(directory)
        disk.save(MEMORY)
        disk.close()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert [path.name for path in directory.iterdir()] == ["memory"]
        assert stat.S_IMODE((directory / "memory").stat().st_mode) == 0o600

    def test_belongs_to_one_process(self, tmp_path):
        disk = FileDisk(tmp_path / "a")
        with pytest.raises(ConfigError, match="in use by another process: stop that one"):
            FileDisk(tmp_path / "a")
        disk.close()
        FileDisk(tmp_path / "a").close()

    def test_a_killed_process_gives_it_back(self, tmp_path):
        program = f"""
import time
from pathlib import Path
from peerupgrade.adapters.disk import FileDisk
disk = FileDisk(Path({str(tmp_path / "a")!r}))
print("ready", flush=True)
time.sleep(60)
"""
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            with pytest.raises(ConfigError):
                FileDisk(tmp_path / "a")
            process.kill()
        FileDisk(tmp_path / "a").close()

    def test_damage_is_said_with_the_name_of_the_file(self, tmp_path):
        disk = FileDisk(tmp_path / "a")
        disk.save(MEMORY)
        path = tmp_path / "a" / "memory"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(DataError, match=r"/a/memory: the memory has \d+ bytes where \d+"):
            disk.load()
        disk.close()

    def test_a_file_where_the_directory_should_be(self, tmp_path):
        (tmp_path / "a").write_text("")
        with pytest.raises(ConfigError, match="cannot be used"):
            FileDisk(tmp_path / "a")

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_a_failed_save_keeps_what_was_there(self, tmp_path, monkeypatch, call):
        disk = FileDisk(tmp_path / "a")
        disk.save(MEMORY)

        def fail(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            if call == "fsync":
                patch.setattr(os, "fsync", fail)
            else:
                patch.setattr(type(tmp_path), "replace", fail)
            with pytest.raises(OSError, match="No space left"):
                disk.save(Memory())
        assert disk.load() == MEMORY
        disk.save(Memory("after"))
        assert disk.load() == Memory("after")
        disk.close()

    def test_writes_the_file_then_its_name_then_the_directory(self, tmp_path, monkeypatch):
        disk = FileDisk(tmp_path / "a")
        done = []
        fsync, replace = os.fsync, type(tmp_path).replace

        def kind(fd):
            return "directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"

        monkeypatch.setattr(os, "fsync", lambda fd: (done.append(f"fsync {kind(fd)}"), fsync(fd)))
        monkeypatch.setattr(
            type(tmp_path), "replace", lambda *args: (done.append("rename"), replace(*args))
        )
        disk.save(MEMORY)
        assert done == ["fsync file", "rename", "fsync directory"]
        disk.close()
