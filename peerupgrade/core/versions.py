"""Versions with an order that every part of the system can compare, the store's scripts too.

Theory of operation: PEP 440 decides the order (``1.10 > 1.9``, ``2.0rc1 < 2.0``). A script inside
the store cannot parse PEP 440, so each version carries a ``key``: a string of digits whose plain
string order is the version order. Only digits are used because the store compares strings by its
locale, and every locale agrees on digits.

    parse(a) < parse(b)  <=>  a.key < b.key
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from packaging.version import InvalidVersion
from packaging.version import Version as Pep440

from peerupgrade.errors import VersionError

_TEXT_CHARS_MAX = 128
_PRE_RANK = {"a": "1", "b": "2", "rc": "3"}


@dataclass(frozen=True, slots=True)
class Version:
    """One version; equal when PEP 440 calls them equal (``1.0`` and ``1.0.0``)."""

    key: str
    text: str = field(compare=False)

    # Written out: those of a dataclass build two tuples for each of the many comparisons.
    def __lt__(self, other: Version) -> bool:
        return self.key < other.key

    def __le__(self, other: Version) -> bool:
        return self.key <= other.key

    def __gt__(self, other: Version) -> bool:
        return self.key > other.key

    def __ge__(self, other: Version) -> bool:
        return self.key >= other.key

    def __str__(self) -> str:
        return self.text


@lru_cache(maxsize=4096)
def parse_version(text: str) -> Version:
    """Read a PEP 440 version.

    Args:
        text: for example ``2.0``, ``1.10.3`` or ``2.0rc1``; at most 128 characters.

    Raises:
        VersionError: it cannot be read; the message names the text.
    """
    if len(text) > _TEXT_CHARS_MAX:
        raise VersionError(f"version {text[:24]!r}... is longer than {_TEXT_CHARS_MAX} characters")
    try:
        version = Pep440(text)
    except InvalidVersion:
        raise VersionError(
            f"version {text!r} cannot be read",
            hint="give it in PEP 440 form, for example 2.0, 1.10.3 or 2.0rc1",
        ) from None
    return Version(_key(version), str(version))


def supported(installed_text: str, lowest_text: str) -> tuple[Version, Version]:
    """The installed and the lowest supported version of one node.

    Raises:
        VersionError: one cannot be read, or the lowest is above the installed one.
    """
    installed, lowest = parse_version(installed_text), parse_version(lowest_text)
    if lowest > installed:
        raise VersionError(
            f"lowest_supported is {lowest}, above the installed version {installed}",
            hint="give a version that the installed software can still serve",
        )
    return installed, lowest


def _number(value: int) -> str:
    digits = str(value)
    return f"{len(digits):03d}{digits}"


def _release(version: Pep440) -> str:
    parts = list(version.release)
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    # "000" is below every number's length, so 1 < 1.0.1.
    return "".join(_number(part) for part in parts) + "000"


def _pre(version: Pep440) -> str:
    if version.pre is not None:
        return _PRE_RANK[version.pre[0]] + _number(version.pre[1])
    only_dev = version.dev is not None and version.post is None
    return "0" if only_dev else "9"


def _local(version: Pep440) -> str:
    if version.local is None:
        return "0"
    encoded = []
    for segment in version.local.split("."):
        if segment.isdigit():
            encoded.append("2" + _number(int(segment)))
        else:
            encoded.append("1" + "".join(f"{ord(char):03d}" for char in segment) + "000")
    return "1" + "".join(encoded) + "0"


def _key(version: Pep440) -> str:
    post = "0" if version.post is None else "1" + _number(version.post)
    dev = "9" if version.dev is None else "0" + _number(version.dev)
    return _number(version.epoch) + _release(version) + _pre(version) + post + dev + _local(version)
