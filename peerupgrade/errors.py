"""What can go wrong, by what the caller should do about it.

A class of its own exists only where a caller would act differently. Every error carries one
sentence that says what is wrong and, in ``hint``, what to do about it.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit status of the command line."""

    OK = 0
    FAILURE = 1  # something failed that no other code names
    USAGE = 2  # the settings or the command line are wrong
    REFUSED = 3  # the cluster refused: version, name, or a rule
    NOT_SETTLED = 5  # the cluster answers, and something stands in the way
    UNAVAILABLE = 6  # the store or the node does not answer
    NOT_FOUND = 7  # nothing matches
    INTERNAL = 70  # a defect of peerupgrade
    INTERRUPTED = 130


class PeerUpgradeError(Exception):
    """Base of all errors raised on purpose.

    When: never raised itself.
    State after: as the subclass says.
    What to do: show ``str(error)``; ``hint`` says what would help.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAILURE

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}: {self.hint}" if self.hint else message


class ConfigError(PeerUpgradeError):
    """When: a setting is missing or wrong. State after: nothing began. What to do: mend it."""

    exit_code = ExitCode.USAGE


class VersionError(ConfigError):
    """When: a version cannot be read, or does not go with another one. State after: unchanged.

    What to do: give one in PEP 440 form, or as the hint says.
    """


class RefusedError(PeerUpgradeError):
    """When: a rule forbids it. State after: unchanged. What to do: as the hint says."""

    exit_code = ExitCode.REFUSED

    def __init__(self, message: str, *, rule: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.rule = rule


class UnavailableError(PeerUpgradeError):
    """When: a server does not answer. State after: unknown. What to do: try again later."""

    exit_code = ExitCode.UNAVAILABLE


class SuspendedError(PeerUpgradeError):
    """When: the node may not operate now. State after: nothing was done. What to do: retry."""

    exit_code = ExitCode.NOT_SETTLED


class StaleVersionError(PeerUpgradeError):
    """When: a node writes shared data, and its version or its membership is over.

    State after: nothing was written. What to do: read, decide and write again.
    """

    exit_code = ExitCode.NOT_SETTLED


class ConflictError(PeerUpgradeError):
    """When: a record has changed since it was read. State after: nothing was written.

    What to do: read, decide and write again.
    """

    exit_code = ExitCode.REFUSED


class DataError(PeerUpgradeError):
    """When: stored data cannot be read. State after: unchanged. What to do: as the hint says."""


class FrameFault(StrEnum):
    """Why bytes from the network were refused."""

    TOO_SHORT = "too_short"  # cut off
    TOO_LARGE = "too_large"
    NOT_A_FRAME = "not_a_frame"  # another program's
    NEWER_VERSION = "newer_version"  # its sender says that this peerupgrade is too old to read it
    PLAIN = "plain"  # not sealed, and this node has a keyring
    UNKNOWN_KEY = "unknown_key"
    NOT_AUTHENTIC = "not_authentic"  # changed on the way, forged, or of another cluster
    REPLAYED = "replayed"  # heard before, or too old to tell
    UNKNOWN_KIND = "unknown_kind"  # a packet that only a newer peerupgrade knows
    MALFORMED = "malformed"  # authentic, and makes no sense
    TOO_MANY = "too_many"  # from one source
    TOO_SLOW = "too_slow"  # a stream that did not end in time


class FrameError(PeerUpgradeError):
    """When: bytes from the network are refused. State after: as if nothing had come.

    What to do: count it by its `fault`; nothing is owed to the sender.
    """

    def __init__(self, fault: FrameFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
