"""Judges a run by its journals alone.

The moments: lines are taken in the order of time; after each that changes what some node is or
operates at, the invariants of the core must hold of all nodes that operate at this moment. A node
operates from its callback on until it says otherwise, its process is certainly gone, or its lease
has run out; a paused one still counts.

The acting version is a register that only grows. Whoever reads it, a node that begins an operation
or a client that asks the store, must see none older than a raise that had settled before the read
began, and none newer than one that was committed after it ended.

Times of the history are the store's, in whole milliseconds; `CLOCK_ERROR_S` covers that.

One exemption (see the README, "What is not promised"): a node of policy freeze whose registration
the store lost, for as long as it cannot reach the store and `HEARS_WITHIN_S` after. It is taken
out of a moment only if that moment would be a violation with it, and each time is counted.
"""

import signal
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import inf

from peerupgrade.core.acting import StepName
from peerupgrade.core.invariants import (
    Operating,
    acting_not_above_installed,
    mutually_understood,
    within_supported,
)
from peerupgrade.core.record import ClusterRecord
from peerupgrade.core.versions import parse_version
from peerupgrade.errors import ExitCode
from tests.chaos.journal import CLOCK_ERROR_S

HEARS_WITHIN_S = 3.0
# How a process may end: as told, killed, refused by the cluster, or without a store. An agent that
# is told something before it has begun dies of that signal.
ENDINGS = (
    ExitCode.OK,
    -signal.SIGKILL,
    -signal.SIGHUP,
    -signal.SIGTERM,
    ExitCode.REFUSED,
    ExitCode.UNAVAILABLE,
)
_COMMITS = frozenset(StepName)
# From here to the next verification the store itself does not trust its record.
_DOUBTS = ("doubted", "brought forward", "brought back", "created")


@dataclass
class Verdict:
    """What a run amounts to."""

    violations: list = field(default_factory=list)
    values_lost: int = 0
    exemptions: int = 0
    counts: Counter = field(default_factory=Counter)
    faults: Counter = field(default_factory=Counter)
    points: Counter = field(default_factory=Counter)
    said: set = field(default_factory=set)

    def violated(self, line, problem):
        """Each problem once, when it is first seen: it may last for many moments."""
        if problem not in self.said:
            self.said.add(problem)
            self.violations.append(f"{problem} (at {line['at_s']:.3f} s)")


@dataclass
class _Start:
    """One start of a node, as its journal has it so far."""

    name: str
    installed: object
    lowest: object
    lease_s: float
    disk: int
    version: object = None  # what it operates at
    ended: bool = False  # a command of a killed agent may outlive it, and write one more line
    incarnation: int = 0
    lease_until_s: float = inf
    excluded: int = 0  # the incarnation that was
    excluded_s: float = inf

    def operating(self, at_s):
        return not self.ended and self.version is not None and at_s < self.lease_until_s

    def as_operating(self):
        return Operating(self.name, self.incarnation, self.installed, self.lowest, self.version)


def judge(lines):
    """The verdict on all lines of a run, which are in the order of time."""
    verdict = Verdict()
    _Moments(verdict).check(lines)
    _check_register(lines, verdict)
    _check_values(lines, verdict)
    _check_notes(lines, verdict)
    _check_holds(lines, verdict)
    _check_history(lines, verdict)
    for line in lines:
        if line["kind"] == "stuck":
            verdict.violated(line, f"L1: not finished after the faults stopped: {line['why']}")
        elif line["kind"] == "unreadable":
            verdict.violated(line, f"S6: {line['node']} cannot read a note: {line['error']}")
        elif line["kind"] == "unsafe":
            verdict.violated(line, f"S18: {line['node']} got {line['version']} while it operated")
        elif line["kind"] == "hung":
            verdict.violated(line, f"L2: {line['node']} did not end when it was told to stop")
    _count(lines, verdict)
    return verdict


def _count(lines, verdict):
    kinds = Counter(line["kind"] for line in lines)
    history = [line for line in lines if line["kind"] == "history"]
    verdict.faults.update(line["name"] for line in lines if line["kind"] == "fault")
    verdict.points.update(line["name"] for line in lines if line["kind"] == "point")
    verdict.counts.update(
        {
            "upgrades completed": len({e["after"] for e in history if e["step"] == "completed"}),
            "upgrades rolled back": kinds["rolled back"],
            "turns of rollouts": sum(entry["step"] == "turn ended" for entry in history),
            "raises": len({e["after"] for e in history if e["step"] == "raised"}),
            "operations": kinds["operation"],
            "values written": kinds["wrote"],
            "values read": kinds["read"],
            "notes written": kinds["noted"],
            "notes read": kinds["note"],
            "acting version read": kinds["asked"] + kinds["operation"],
            "suspensions": kinds["suspended"],
        }
    )


class _Exempt:
    """Who is cut off, and forgotten by the store, while the lines go by."""

    def __init__(self):
        self._forgotten = set()
        self._cuts = Counter()  # name -> how many things keep it from the store
        self._healed_s = {}  # name -> when the last one ended
        self._lease_s = {}

    def follow(self, line):
        match line["kind"]:
            case "began":
                self._lease_s[line["node"]] = line["lease_s"]
            case "lost":
                self._forgotten.update(line["forgotten"])
            case "member" if line["registered"]:
                self._forgotten.discard(line["name"])
            case "cut":
                self._cuts[line["node"]] += 1
            case "healed":
                self._cuts[line["node"]] -= 1
                self._healed_s[line["node"]] = line["at_s"]

    def __call__(self, name, at_s):
        if self._lease_s[name] or name not in self._forgotten:
            return False
        return self._cuts[name] > 0 or at_s < self._healed_s.get(name, -inf) + HEARS_WITHIN_S


# --- the moments ----------------------------------------------------------------------------------


class _Moments:
    """What an observer of everything knows, moved from line to line."""

    def __init__(self, verdict):
        self._verdict, self._violated = verdict, verdict.violated
        self._starts = {}
        self._operated = {}  # name -> (version, disk, losses so far)
        self._exempt = _Exempt()
        self._losses = 0
        self._acting = None  # as the store has it, while that is verified

    def check(self, lines):
        handlers = {
            "began": self._began,
            "installed": self._installed,
            "operates": self._operates,
            "operation": self._operation,
            "read": self._read,
            "suspended": self._stops,
            "ended": self._ends,
            "lease": self._lease,
            "lost": self._lost,
            "excluded": self._excludes,
            "history": self._decided,
        }
        for line in lines:
            self._exempt.follow(line)
            if line["kind"] in handlers:
                handlers[line["kind"]](line)

    def _of(self, line):
        return self._starts[line["start"]]

    # --- lines of nodes ---

    def _began(self, line):
        self._starts[line["start"]] = _Start(
            line["node"],
            parse_version(line["installed"]),
            parse_version(line["lowest"]),
            line["lease_s"],
            line["disk"],
        )

    def _installed(self, line):
        start = self._of(line)
        start.installed = parse_version(line["installed"])
        start.lowest = parse_version(line["lowest"])
        self._moment(line)

    def _operates(self, line):
        start = self._of(line)
        start.version = parse_version(line["version"])
        self._forward(line, start)
        self._moment(line)

    def _operation(self, line):
        start = self._of(line)
        start.incarnation = line["incarnation"]
        if line["incarnation"] <= start.excluded and line["began_s"] > start.excluded_s:
            self._violated(line, f"S8: {start.name} was excluded as {start.excluded}, and operates")
        version = parse_version(line["version"])
        if start.version is None:  # it operates, whatever was written down
            start.version = version
            self._moment(line)
        elif version > start.version:
            self._violated(line, f"R11: {start.name} operates at {version} before its callback ran")

    def _stops(self, line):
        self._of(line).version = None

    def _ends(self, line):
        if line["start"] in self._starts:  # else it ended before it began
            self._of(line).ended = True
        if line["status"] not in ENDINGS:
            self._violated(line, f"crash: {line['node']} ended with status {line['status']}")

    def _read(self, line):
        """S6: what is written can be read by every node, from the newer releases, too."""
        if "node" not in line or line["format"] is None:
            return
        start = self._of(line)
        if parse_version(line["format"]) > start.installed:
            self._violated(
                line, f"S6: {start.name} has {start.installed}, and reads one of {line['format']}"
            )

    def _lease(self, line):
        self._of(line).lease_until_s = line["until_s"]

    def _forward(self, line, start):
        """S5: no node goes back, unless it and the store have both forgotten."""
        known, disk, losses = self._operated.get(start.name, (None, start.disk, self._losses))
        forgot = disk != start.disk and losses != self._losses
        if known is not None and start.version < known and not forgot:
            self._violated(line, f"S5: {start.name} goes back from {known} to {start.version}")
        self._operated[start.name] = (start.version, start.disk, self._losses)

    # --- lines of the cluster ---

    def _lost(self, line):
        del line
        self._losses += 1

    def _excludes(self, line):
        """S8 is about the starts that there were; a later one is admitted anew."""
        for start in self._starts.values():
            if start.name == line["name"]:
                start.excluded, start.excluded_s = line["incarnation"], line["at_s"]

    def _decided(self, line):
        step = line["step"]
        if step in _DOUBTS:
            self._acting = None
        elif line["after"] and (step in _COMMITS or self._acting is not None):
            self._acting = parse_version(line["after"])
        if step == "raised":
            self._raised(line)
        elif step == "verified":
            self._verified(line)
        elif step == "completed":
            self._completed(line)
        self._moment(line)

    def _raised(self, line):
        target, decided_from = parse_version(line["after"]), _names(line["inputs"])
        for start in self._operating(line):
            if start.installed < target:
                self._against(line, start, f"S13: raised to {target} past {start.name}")
            elif start.name not in decided_from:
                self._against(line, start, f"S13: raised without a word of {start.name}")

    def _verified(self, line):
        acting = parse_version(line["after"]) if line["after"] else None
        for start in self._operating(line):
            if acting is None or start.version > acting:
                self._against(
                    line, start, f"S10: verified at {acting}, {start.name} is at {start.version}"
                )

    def _completed(self, line):
        for start in self._operating(line):
            if start.version != parse_version(line["after"]):
                self._against(
                    line,
                    start,
                    f"S16: {line['after']} complete, {start.name} is at {start.version}",
                )

    # --- judging ---

    def _operating(self, line):
        return [start for start in self._starts.values() if start.operating(line["at_s"])]

    def _against(self, line, start, problem):
        """A problem that one node shows."""
        if self._exempt(start.name, line["at_s"]):
            self._verdict.exemptions += 1
        else:
            self._violated(line, problem)

    def _moment(self, line):
        operating = self._operating(line)
        if self._problem(operating) is None:
            return
        reachable = [start for start in operating if not self._exempt(start.name, line["at_s"])]
        problem = self._problem(reachable)
        if problem is None:
            self._verdict.exemptions += 1
        else:
            self._violated(line, problem)

    def _problem(self, starts):
        operating = [start.as_operating() for start in starts]
        record = None if self._acting is None else ClusterRecord("", acting=self._acting)
        return (
            acting_not_above_installed(record, operating)
            or within_supported(operating)
            or mutually_understood(operating)
        )


def _names(inputs):
    """The members that a decision was made from, as the history has it: `1.0: a, b; 1.1: c`."""
    groups = [group.partition(": ")[2] for group in inputs.split("; ")]
    return {name for group in groups for name in group.split(", ")}


# --- the register ---------------------------------------------------------------------------------


def _check_register(lines, verdict):
    """Reads of the acting version, by the clients and by every operation of a node."""
    raised_s, settled = {}, []
    for line in lines:
        if line["kind"] != "history" or line["step"] not in ("raised", "settled", "formed"):
            continue
        version = parse_version(line["after"])
        raised_s.setdefault(version, line["at_s"])
        if line["step"] == "settled" and (not settled or version > settled[-1][1]):
            settled.append((line["at_s"] + CLOCK_ERROR_S, version))
    exempt = _Exempt()
    for line in lines:
        exempt.follow(line)
        if line["kind"] == "asked":
            read, who = line["acting"], "the store"
        elif line["kind"] == "operation":
            read, who = line["version"], line["node"]
        else:
            continue
        version = parse_version(read)
        past = bisect_left(settled, (line["began_s"],))
        if past and version < settled[past - 1][1]:
            if "node" in line and exempt(line["node"], line["at_s"]):
                verdict.exemptions += 1
            else:
                verdict.violated(
                    line, f"register: {who} says {version}, {settled[past - 1][1]} had settled"
                )
        if raised_s.get(version, inf) > line["at_s"] + CLOCK_ERROR_S:
            verdict.violated(line, f"register: {who} says {version} before it was raised")


# --- values ---------------------------------------------------------------------------------------


def _check_values(lines, verdict):
    """Every read finds what was acknowledged before it began, unless a FLUSHALL voided that."""
    flushes = [
        (line["began_s"], line["at_s"])
        for line in lines
        if line["kind"] == "lost" and line["fault"] == "store flushed"
    ]
    acknowledged = defaultdict(list)  # key -> (at_s, seq, began_s)
    lost = set()
    for line in lines:
        if line["kind"] == "wrote":
            acknowledged[line["key"]].append((line["at_s"], line["seq"], line["began_s"]))
        elif line["kind"] == "read":
            writes = acknowledged[line["key"]]
            past = bisect_left(writes, (line["began_s"],))
            if not past:
                continue
            _, seq, began_s = writes[past - 1]
            void = any(begin <= line["at_s"] and began_s <= end for begin, end in flushes)
            if line["seq"] < seq and not void:
                lost.add((line["key"], seq))
                verdict.violated(
                    line, f"value: {line['key']} is {line['seq']}, {seq} was acknowledged"
                )
    verdict.values_lost = len(lost)


# --- holds and history ----------------------------------------------------------------------------


def _check_notes(lines, verdict):
    """S9: nothing older than the data version is read; S11: converted once, and no write lost."""
    newest = defaultdict(list)  # key -> (acknowledged, seq, began), the first two growing
    data, losses = [], [(-inf, -inf)]  # from when to when the store forgot
    for line in lines:
        match line["kind"]:
            case "noted":
                written = newest[line["key"]]
                if not written or line["seq"] > written[-1][1]:
                    written.append((line["at_s"], line["seq"], line["began_s"]))
            case "history" if line["step"] == StepName.CONVERTED:
                data.append((line["at_s"] + CLOCK_ERROR_S, parse_version(line["after"])))
            case "lost":
                losses.append((line["began_s"], line["at_s"]))
                # It forgot the data version together with the records that it was about.
                data = [one for one in data if one[0] < line["began_s"]]
    for line in lines:
        if line["kind"] == "note":
            _check_note(line, newest[line["key"]], data, losses, verdict)


def _check_note(line, written, data, losses, verdict):
    began_s, key, seq = line["began_s"], line["key"], line["seq"]
    known = bisect_left(written, (began_s, inf))
    _, newest, asked_s = written[known - 1] if known else (-inf, 0, -inf)
    _, last_loss_s = losses[bisect_left(losses, (line["at_s"], inf)) - 1]
    # A write that was under way while the store forgot may be among what it forgot.
    if asked_s > last_loss_s and seq < newest:
        verdict.violated(line, f"S11: note {key} is {seq}, and {newest} was acknowledged")
    through = [int(version.partition(".")[2]) for version in line["through"]]
    if not through:
        return
    if through != list(range(through[0], through[0] + len(through))):
        verdict.violated(line, f"S11: note {key} went through {line['through']}")
    risen = bisect_left(data, (began_s, parse_version("0")))
    oldest = max((version for _, version in data[:risen]), default=None)
    if oldest is not None and parse_version(line["through"][-1]) < oldest:
        problem = f"S9: note {key} is in format {line['through'][-1]}, the data version is {oldest}"
        verdict.violated(line, problem)


def _check_holds(lines, verdict):
    """S12: no raise while a hold stands that was acknowledged, and not forgotten by everyone.

    A FLUSHALL may forget a hold that no node has on its disk yet.
    """
    held, remembered = 0, {}  # the hold that stands; name -> the hold that it remembers
    for line in lines:
        match line["kind"]:
            case "held":
                held = line["hold"]
            case "releasing" if line["hold"] in (0, held):
                held = 0
            case "remembers":
                remembered[line["node"]] = line["hold"]
            case "excluded":
                remembered.pop(line["name"], None)  # gone, and its disk with it
            case "lost" if line["fault"] == "store flushed" and held not in remembered.values():
                held = 0
            case "history" if line["step"] == "raised" and held:
                verdict.violated(line, f"S12: raised to {line['after']} against a hold")


def _check_history(lines, verdict):
    """S2, S4, S16 in what the store wrote down, whatever it forgot later."""
    commits, completed = set(), {}
    losses = 0
    for line in lines:
        if line["kind"] == "lost":
            losses += 1
        if line["kind"] != "history":
            continue
        before, after = (line[name] and parse_version(line[name]) for name in ("before", "after"))
        if before and (not after or after < before):
            verdict.violated(line, f"S2: acting goes back from {before} to {after}")
        if line["step"] not in _COMMITS:
            continue
        key = (line["epoch"], line["revision"])
        if key in commits:
            verdict.violated(line, f"S4: epoch and revision {key} written twice")
        commits.add(key)
        if line["step"] == "completed":
            if completed.get(after) == losses:
                verdict.violated(line, f"S16: {after} was called complete twice")
            completed[after] = losses
            installed = {group.partition(": ")[0] for group in line["inputs"].split("; ")}
            if installed != {line["after"]}:
                verdict.violated(
                    line, f"S16: {after} complete, but installed are {', '.join(sorted(installed))}"
                )
