"""A node's own memory."""

import fcntl
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

    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            (lambda data: data[:-1], "is cut off"),
            (lambda data: data[: len(data) // 2], "is cut off"),
            (lambda data: data[:40].replace(b"PEER", b"PEAR") + data[40:], "not the memory"),
            (lambda data: bytes(len(data)), "the memory is damaged"),
            (lambda data: b"", "is cut off"),
        ],
    )
    def test_damage_is_said_with_the_name_of_the_file(self, tmp_path, damage, said):
        disk = FileDisk(tmp_path / "a")
        disk.save(MEMORY)
        path = tmp_path / "a" / "memory"
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(DataError, match=f"/a/memory.*{said}"):
            disk.load()
        disk.close()

    @pytest.mark.parametrize("saves", [2, 3, 4])
    def test_a_save_that_a_crash_cut_off_leaves_the_one_before(self, tmp_path, saves):
        disk, path = FileDisk(tmp_path / "a"), tmp_path / "a" / "memory"
        for number in range(saves - 1):
            disk.save(Memory(f"t{number}"))
        before = path.read_bytes()
        disk.save(MEMORY)
        after = path.read_bytes()
        changed = [at for at, byte in enumerate(after) if byte != before[at]]
        for end in changed[1::7]:
            path.write_bytes(after[:end] + before[end:])
            assert disk.load() in (Memory(f"t{saves - 2}"), MEMORY)
        path.write_bytes(after[: changed[-1]] + b"?" + after[changed[-1] + 1 :])
        assert disk.load() == Memory(f"t{saves - 2}")
        disk.close()

    def test_what_grows_has_room(self, tmp_path):
        disk = FileDisk(tmp_path / "a")
        for size in (10, 100, 3_000, 5_000, 20_000, 100, 70_000, 1):
            disk.save(Memory("t" * size))
            assert disk.load() == Memory("t" * size)
        disk.close()

    def test_a_file_where_the_directory_should_be(self, tmp_path):
        (tmp_path / "a").write_text("")
        with pytest.raises(ConfigError, match="cannot be used"):
            FileDisk(tmp_path / "a")

    @pytest.mark.parametrize("call", ["pwrite", "fsync", "replace"])
    @pytest.mark.parametrize("first", [True, False])
    def test_a_failed_save_keeps_what_was_there(self, tmp_path, monkeypatch, call, first):
        disk = FileDisk(tmp_path / "a")
        disk.save(MEMORY)
        if first:
            disk.close()
            disk = FileDisk(tmp_path / "a")

        def fail(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(*((type(tmp_path), call) if call == "replace" else (os, call)), fail)
            if first or call == "pwrite":
                with pytest.raises(OSError, match="No space left"):
                    disk.save(Memory())
                assert disk.load() == MEMORY
        disk.save(Memory("after"))
        assert disk.load() == Memory("after")
        disk.close()

    def test_a_write_that_ends_in_the_middle_is_a_failure(self, tmp_path, monkeypatch):
        disk, pwrite = FileDisk(tmp_path / "a"), os.pwrite
        disk.save(MEMORY)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:-1], at))
            with pytest.raises(OSError, match="No space left"):
                disk.save(Memory("b"))
        assert disk.load() == MEMORY
        disk.close()

    def test_a_new_file_is_written_then_its_name_then_the_directory(self, tmp_path, monkeypatch):
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

    def test_every_other_save_is_one_write_that_the_disk_has_when_it_returns(
        self, tmp_path, monkeypatch
    ):
        disk = FileDisk(tmp_path / "a")
        disk.save(MEMORY)
        done, pwrite = [], os.pwrite

        def write(fd, data, at):
            done.append(bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DSYNC))
            return pwrite(fd, data, at)

        monkeypatch.setattr(os, "pwrite", write)
        monkeypatch.setattr(os, "fsync", lambda _fd: done.append("fsync"))
        disk.save(Memory("b"))
        disk.save(Memory("c"))
        assert done == [True, True]
        assert disk.load() == Memory("c")
        disk.close()
