"""What happened, as lines of JSON: one file for each writer, one clock for all of them.

Each line has `at_s`, by a clock that all processes of the machine share and that also counts
suspension, and `kind`. A line is appended by one write, so a process that is killed leaves whole
lines; at most the last one of a file is torn, and that one never counted.

Of one start of a node (`node`, `start`), by its worker, or by whoever runs it:

    began       installed, lowest, lease_s, disk (its number: another one remembers nothing)
    installed   installed, lowest: other software, from here on
    operates    version: its callback ran, it may operate at that from here on
    suspended   it does not operate
    lease       until_s: it operates no longer than that without another such line
    remembers   hold: that of the newest record on its disk, by when it was set; 0: none
    hung        it was told to stop in order, and did not
    ended       status: the process is gone
    operation   began_s, version, incarnation: a guarded operation, and what it behaved as
    wrote       began_s, key, seq, format: acknowledged, by the replica too
    read        began_s, key, seq, format: a value; seq 0 if there is none
    noted       began_s, key, seq: a note of the collection was acknowledged
    note        began_s, key, seq, through: one that was read; seq 0 if there is none
    unreadable  error: a note that it cannot read
    unsafe      version: a rollout installed it while the node operated
    point       name, action: a crash point was reached, and the action taken

Of the cluster, by the run:

    history     one entry of the store's history; `at_s` is the store's own time
    lost        fault, began_s, forgotten (names): the store lost writes
    member      name, registered: what the store says
    cut, healed node: it could not reach the store, or was paused, between these
    held        hold: an operator's hold was acknowledged
    releasing   hold: that one is about to end; 0: whichever there is
    excluded    name, incarnation
    asked       began_s, acting: the acting version that the store itself answered
    fault       name, target: injected now
    rolled back version: half of the nodes had it, and went back
    stuck       why: an upgrade did not end when the faults had
"""

import json
import os
import time

CLOCK_ERROR_S = 0.002  # of times that the store gives in whole milliseconds


def now_s():
    """Seconds on the clock of every journal."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Journal:
    """Appends to one file.

    Args:
        path: of the file.
        common: fields that every line has.
    """

    def __init__(self, path, **common):
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._common = common

    def write(self, kind, *, at_s=None, **what):
        at_s = now_s() if at_s is None else at_s
        line = {"at_s": round(at_s, 6), "kind": kind, **self._common, **what}
        os.write(self._fd, json.dumps(line).encode() + b"\n")

    def close(self):
        os.close(self._fd)


def read_journals(directory):
    """Every line of every journal, in the order of time."""
    lines = []
    for path in sorted(directory.glob("*.journal")):
        texts = path.read_text().splitlines(keepends=True)
        lines += [json.loads(text) for text in texts if text.endswith("\n")]
    return sorted(lines, key=lambda line: line["at_s"])
