"""The releases of the software, and which of them is installed in a place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """Number `number` of the software; it supports the one before it."""

    number: int

    @classmethod
    def of(cls, version):
        """The release that has this version."""
        return cls(int(version.partition(".")[2]))

    @property
    def version(self):
        return f"1.{self.number}"

    @property
    def lowest(self):
        return f"1.{max(0, self.number - 1)}"

    @property
    def next(self):
        return Release(self.number + 1)


def read_installed(path):
    """The release that a file says is installed."""
    return Release.of(path.read_text())


def write_installed(path, version):
    """All of it or nothing, whatever dies meanwhile."""
    new = path.with_suffix(".new")
    new.write_text(version)
    new.replace(path)
