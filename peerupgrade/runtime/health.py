"""Whether the program of this node is well: callbacks that are asked now and then."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from peerupgrade.core.health import Probing
from peerupgrade.errors import ConfigError

Check: TypeAlias = Callable[[], Awaitable[bool | None] | bool | None]


class Checks:
    """All that were registered; all of them must pass."""

    def __init__(self) -> None:
        self._all: list[Check] = []
        self.probing: Probing | None = None  # None: there are none

    def register(self, check: Check, probing: Probing) -> None:
        """One more.

        Raises:
            ConfigError: there are others, and they are asked in another way.
        """
        if self.probing not in (None, probing):
            raise ConfigError(
                f"the checks of a node are asked alike, and not {probing}",
                hint=f"give {self.probing} to each",
            )
        self._all.append(check)
        self.probing = probing

    async def run(self) -> str:
        """Ask all; why one failed, or ""."""
        assert self.probing is not None
        try:
            async with asyncio.timeout(self.probing.timeout_s):
                for check in self._all:
                    answer = check()
                    if (await answer if inspect.isawaitable(answer) else answer) is False:
                        return f"{getattr(check, '__name__', 'it')} says no"
        except TimeoutError:
            return f"no answer within {self.probing.timeout_s:g} s"
        except Exception as error:  # noqa: BLE001 - whatever it is, the program is not well
            return str(error) or type(error).__name__
        return ""
