"""The protocol with one guard less: each must be noticed.

A mutant is a change of a module's text, made while a process of its own imports it. Nothing in the
package knows of it.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
STATE, ADMIT = "peerupgrade.core.store.state", "peerupgrade.core.store.admission"
ADMISSION = "peerupgrade.core.admission"
DECISIONS, REGRESSION = "peerupgrade.core.store.decisions", "peerupgrade.core.store.regression"
MEMBERSHIP = "peerupgrade.core.membership"
SLOTS = "peerupgrade.core.store.slots"
BLOCKERS, ACTING = "peerupgrade.core.blockers", "peerupgrade.core.acting"
RECORD, MASTERSHIP = "peerupgrade.core.record", "peerupgrade.core.mastership"
MASTER = "peerupgrade.core.master"
LEASES = "peerupgrade.core.leases"
NODE = "peerupgrade.core.node"
SERVERS = "peerupgrade.sim.servers"
STEPS = "peerupgrade.core.store.steps"
DETECTOR, GOSSIP = "peerupgrade.core.gossip.detector", "peerupgrade.core.gossip.machine"
ROSTER = "peerupgrade.core.gossip.roster"
HEALTH = "peerupgrade.core.health"
DOWNGRADE = "peerupgrade.core.downgrade"
ROLLOUT, TURN = "peerupgrade.core.rollout", "peerupgrade.core.turn"
STEERING = "peerupgrade.core.steering"
DATA, CONVERTING = "peerupgrade.core.store.data", "peerupgrade.core.store.converting"


@dataclass(frozen=True)
class Mutant:
    """`was` stands exactly once in the module."""

    rule: str
    what: str
    module: str
    was: str
    becomes: str


MUTANTS = [
    Mutant(
        "R2d",
        "a downgrade although newer records exist",
        DECISIONS,
        "if allowed is not None and not _only_in(step, allowed):",
        "if False:",
    ),
    Mutant(
        "R3d",
        "a downgrade that nobody has asked for",
        DECISIONS,
        "if goes_back and not _as_asked(record, new):",
        "if False:",
    ),
    Mutant(
        "R8d",
        "a put of a newer format between the two commits of a downgrade",
        DATA,
        "if _is_barred(step, request):",
        "if False:",
    ),
    Mutant(
        "R8e",
        "a put of a newer format after the downgrade, on its way since before",
        DECISIONS,
        "if new.acting != record.acting:",
        "if new.acting != record.acting and new.downgrades == record.downgrades:",
    ),
    Mutant(
        "R13d",
        "the older software serves before all have confirmed the downgrade",
        ADMISSION,
        "if record.downgraded_from is not None and installed < record.downgraded_from:",
        "if False:",
    ),
    Mutant(
        "R13e",
        "the older software goes on in place before all have confirmed the downgrade",
        MEMBERSHIP,
        "if back_from is not None and installed < back_from and not unable:",
        "if False:",
    ),
    Mutant(
        "R17d",
        "a node takes the store's older word for news that it has missed",
        MEMBERSHIP,
        "if self.memory.record is not None and record.reached < self.memory.record.reached:",
        "if False:",
    ),
    Mutant(
        "R20d",
        "software that supports less goes on in place before the store has said that it may",
        MEMBERSHIP,
        "if supports_less and not unable:",
        "if False:",
    ),
    Mutant(
        "R20e",
        "callbacks that were under way end in a version for which other software is there",
        MEMBERSHIP,
        "        self._switching = None  # it would operate",
        "        # it would operate",
    ),
    Mutant(
        "R20f",
        "software that supports less begins by a broadcast before the store has said that it may",
        MEMBERSHIP,
        "        if self._admit_again and self.operating is None:",
        "        if False:",
    ),
    Mutant(
        "R22d",
        "after a downgrade nothing keeps the acting version from rising again",
        DOWNGRADE,
        'hold=Hold(asked.by, f"downgraded from {record.acting}: {asked.reason}", now_ms),',
        "",
    ),
    Mutant(
        "R27d",
        "a downgrade whose beginning a failover may forget",
        ACTING,
        'if not progress.durable:\n        why = "the replicas',
        'if False:\n        why = "the replicas',
    ),
    Mutant(
        "R1t",
        "a superseded master takes and returns slots",
        STATE,
        "if request.token and self.is_fenced(request.epoch, request.token):",
        "if False:",
    ),
    Mutant(
        "R2t",
        "what somebody wants of a rollout is written over what it was not decided from",
        DECISIONS,
        "if request.revision != record.revision:",
        "if False:",
    ),
    Mutant(
        "R17t",
        "a turn begins that the member does not remember",
        TURN,
        "if known is None or known.id != turn.id or membership.operating is None:",
        "if membership.operating is None:",
    ),
    Mutant(
        "R26t",
        "something is installed before the store knows that the node has left",
        TURN,
        "if self.membership.has_left:  # R26",
        "if True:",
    ),
    Mutant(
        "R26u",
        "a turn goes on after a start before the store knows that the node has left",
        TURN,
        "or (work.out_of_service and not self.membership.has_left):",
        "or False:",
    ),
    Mutant(
        "R26v",
        "a node that starts in the middle of its turn serves",
        MEMBERSHIP,
        "stays = granted is Standing.SERVING and self._out_of_service",
        "stays = False",
    ),
    Mutant(
        "R26w",
        "a node that ends in the middle of its turn leaves",
        MEMBERSHIP,
        "self._stop = leave and not self._out_of_service",
        "self._stop = leave",
    ),
    Mutant(
        "R29s",
        "a turn is given by a slot that nobody acknowledged",
        ROLLOUT,
        "if member is None or member.id not in sure or not _has_slot(snapshot, member.id):",
        "if member is None:",
    ),
    Mutant(
        "R29t",
        "a slot is returned before the turn is over",
        ROLLOUT,
        "    if turn is not None and not _is_over(member, turn):\n        return None\n",
        "",
    ),
    Mutant(
        "R29u",
        "a turn ends before its slot was returned",
        ROLLOUT,
        "if _is_over(member, turn) and not _has_slot(snapshot, turn.node):",
        "if _is_over(member, turn):",
    ),
    Mutant(
        "R29w",
        "a slot forgets that its member attached as away",
        STATE,
        "if slot is not None and member.standing is Standing.AWAY:",
        "if False:",
    ),
    Mutant(
        "R29v",
        "a member is taken down beyond the budget, or while another one does not answer",
        ROLLOUT,
        "return member if len(down) < budget else None",
        "return member",
    ),
    Mutant(
        "turn back",
        "the acting version rises while members return to what they had",
        BLOCKERS,
        "    if record.stays:\n        found.append(_stays_blocker(record))\n",
        "",
    ),
    Mutant(
        "turn risen",
        "members return below what the cluster acts at",
        STEERING,
        "    if behind is not None:\n        assert",
        "    if False:\n        assert",
    ),
    Mutant(
        "turn drained",
        "a member that was left out stays drained although it is healthy again",
        TURN,
        "            return self._undrain(now, drained) if drained is not None else []",
        "            return []",
    ),
    Mutant(
        "turn again",
        "an undrain that fails in a turn that is over is done over and over",
        TURN,
        "        if failed and self._own == _key(drained):",
        "        if False:",
    ),
    Mutant(
        "turn never again",
        "an undrain that failed in a turn that is over is never done again",
        TURN,
        "            if now < self._waits_until_s:\n                return []\n        attempt",
        "            return []\n        attempt",
    ),
    Mutant(
        "turn undraining",
        "the next one is taken down while one that failed is undrained again",
        ROLLOUT,
        "member.work.state is not WorkState.ENDED",
        "member.work.state is WorkState.DRAINED",
    ),
    Mutant(
        "turn down",
        "the next one is taken down while nothing is sent to one that failed",
        ROLLOUT,
        "        down |= {one.id for one in drained(snapshot)}\n",
        "",
    ),
    Mutant(
        "turn order",
        "who came first returns first",
        ROLLOUT,
        "return tuple(-number for number in _number(work.turn))",
        "return _number(work.turn)",
    ),
    Mutant(
        "turn soak",
        "the next one is taken down before those that have the version have run for a while",
        ROLLOUT,
        "soaks = now_ms < soaks_until_ms(snapshot)",
        "soaks = False",
    ),
    Mutant(
        "turn first",
        "others are taken down before the canaries have it",
        ROLLOUT,
        "    return max(0, canary - len(brought(snapshot))) if canary else len(snapshot.members)",
        "    return len(snapshot.members)",
    ),
    Mutant(
        "turn zone",
        "nodes of two zones are down at once",
        ROLLOUT,
        "if not rollout.strategy.one_zone:",
        "if True:",
    ),
    Mutant(
        "turn window",
        "a turn begins outside of all windows",
        ROLLOUT,
        "return now_ms if rollout.rollback else opens_at_ms(rollout.strategy.windows, now_ms)",
        "return now_ms",
    ),
    Mutant(
        "turn budget",
        "more turns fail than the rollout may lose",
        ROLLOUT,
        "if forward and len(rollout.failed) < rollout.strategy.failures:",
        "if forward and rollout.strategy.failures:",
    ),
    Mutant(
        "bake raise",
        "the version rises before the rollout has baked",
        RECORD,
        " or rollout.strategy.bake_ms > 0",
        "",
    ),
    Mutant(
        "return raise",
        "the version rises while a member is to return to an older one",
        RECORD,
        " or bool(rollout.returning)",
        "",
    ),
    Mutant(
        "return behind",
        "a member is to return to a version that the cluster has left behind",
        ROLLOUT,
        "        if risen(record, [member]) is not None:\n",
        "        if False:\n",
    ),
    Mutant(
        "return given",
        "a member goes on back to a version that the cluster has left behind",
        ROLLOUT,
        "if parse_version(turn.version) < record.acting and not turn.given_up:",
        "if False:",
    ),
    Mutant(
        "bake store",
        "the store takes a raise while a rollout goes back or bakes",
        DECISIONS,
        "if rises and record.stays:",
        "if False:",
    ),
    Mutant(
        "bake end",
        "a rollout ends before it has baked",
        ROLLOUT,
        "    return now_ms < until_ms or rollout.pause is not None or bool(unhealthy(snapshot))",
        "    return False",
    ),
    Mutant(
        "bake floor",
        "the floor stays up while members may have to return",
        ACTING,
        "stays = record.stays or record.hold is not None",
        "stays = record.hold is not None",
    ),
    Mutant(
        "well before",
        "a version is given to what is not healthy",
        ROLLOUT,
        "and (_may_return(rollout, one) or (goes_on and is_healthy(one.health)))",
        "and (_may_return(rollout, one) or goes_on)",
    ),
    Mutant(
        "well down",
        "another one is taken down while one is not healthy",
        ROLLOUT,
        "        down |= {one.id for one in unhealthy(snapshot)}\n",
        "",
    ),
    Mutant(
        "well after",
        "the next one has its turn although one is worse for the version",
        ROLLOUT,
        "    if worse is not None:\n        return worse\n",
        "",
    ),
    Mutant(
        "well blame",
        "what was unhealthy before is blamed on the version",
        ROLLOUT,
        "    for member in sorted(brought(snapshot), key=lambda one: one.id):",
        "    for member in sorted(snapshot.members.values(), key=lambda one: one.id):",
    ),
    Mutant(
        "well risen",
        "a member returns by itself below what the cluster acts at",
        ROLLOUT,
        "if member.work is not None and parse_version(member.work.before) < record.acting:",
        "if False:",
    ),
    Mutant(
        "well spent",
        "a rollout goes on although more have failed than may",
        ROLLOUT,
        "return len(rollout.failed) > rollout.strategy.failures",
        "return False",
    ),
    Mutant(
        "well back",
        "a turn ends before the program is healthy",
        TURN,
        "if health is None or probing is None or is_healthy(health):",
        "if True:",
    ),
    Mutant(
        "well late",
        "an answer counts that is about the program before",
        HEALTH,
        "if probing is None or known is None or call != self._call:",
        "if probing is None or known is None:",
    ),
    Mutant(
        "turn serve",
        "a version is rolled out that would not serve",
        STEERING,
        'if rule in ("lowest_above_acting", "lowest_above_data"):',
        "if False:",
    ),
    Mutant(
        "turn disk",
        "a step begins before the disk knows of it",
        TURN,
        "if not self._heard or membership.saving or not membership.registered:",
        "if not self._heard or not membership.registered:",
    ),
    Mutant(
        "turn look",
        "a step that was cut short runs again without a look",
        TURN,
        "self._running = Order(work, look=not begun)",
        "self._running = Order(work)",
    ),
    Mutant(
        "turn fail",
        "a rollout goes on after a step has failed",
        ROLLOUT,
        "        if has_stopped(work_on(member, turn), turn):\n            step =",
        "        if False:\n            step =",
    ),
    Mutant(
        "turn last",
        "the master's node has its turn while others have theirs",
        ROLLOUT,
        "if not up or (rollout.turns and (up[0].id == record.master or _is_last(up[0]))):",
        "if not up:",
    ),
    Mutant(
        "turn hand",
        "the master takes its own node down without handing over",
        ROLLOUT,
        "if record is None or member is None or not snapshot.verified:",
        "if True:",
    ),
    Mutant(
        "turn half",
        "what a failed step has installed does not run",
        TURN,
        "newer = work.step is TurnStep.INSTALL and self._is_installed(work)",
        "newer = False",
    ),
    Mutant(
        "turn want",
        "something is installed although the turn was given up",
        TURN,
        "case StepOutcome.NOT_DONE if self._given_up(work) and work.step is TurnStep.INSTALL:",
        "case StepOutcome.NOT_DONE if False:",
    ),
    Mutant(
        "turn both",
        "what was installed does not run after the turn was given up",
        TURN,
        "if given_up and work.step not in (TurnStep.INSTALL, *_OVER):",
        "if given_up and work.step not in _OVER:",
    ),
    Mutant(
        "R13s",
        "a step is saved that is not due",
        STEPS,
        "if not due or record.job_paused:",
        "if False:",
    ),
    Mutant(
        "R13a",
        "a scan counts that began before all had settled",
        CONVERTING,
        "if not record.settled:",
        "if False:",
    ),
    Mutant(
        "step once",
        "a step goes on after it has succeeded",
        STEPS,
        "if known.finished:",
        "if False:",
    ),
    Mutant(
        "step late",
        "a save that arrives late counts",
        STEPS,
        "if request.number <= known.number:",
        "if False:",
    ),
    Mutant(
        "step first",
        "the version rises before the steps have succeeded",
        ACTING,
        "if record.job is not None and progress.steps:",
        "if False:",
    ),
    Mutant(
        "R1",
        "an older mastership may write",
        STATE,
        "return record is None or epoch != record.epoch or token != self.state.master_token",
        "return record is None",
    ),
    Mutant(
        "R1s",
        "a superseded master's step is saved",
        STEPS,
        "if record is None or step.is_fenced(request.epoch, request.token):",
        "if record is None:",
    ),
    Mutant(
        "R2",
        "a commit does not look whether something moved",
        DECISIONS,
        "if (request.revision, request.members_revision) != "
        "(record.revision, state.members_revision):",
        "if request.revision != record.revision:",
    ),
    Mutant(
        "R2b",
        "an exclusion does not look whether the node came back",
        ADMIT,
        "if known.incarnation != request.incarnation:",
        "if False:",
    ),
    Mutant(
        "R3",
        "the acting version may go back",
        DECISIONS,
        "if new.reached < record.reached:",
        "if False:",
    ),
    Mutant(
        "R4",
        "admission does not check the acting version",
        ADMISSION,
        "if installed < record.acting:",
        "if False:",
    ),
    Mutant(
        "R5",
        "only members that serve count",
        BLOCKERS,
        "return min((member.installed for member in members), default=None)",
        "return min((m.installed for m in members if m.standing == 'serving'), default=None)",
    ),
    Mutant(
        "R6",
        "a node ignores the end of its lease",
        MEMBERSHIP,
        "if not self.config.lease_s or not self._registered or now < self.lease_deadline_s:",
        "if True:",
    ),
    Mutant(
        "R7",
        "exclusion does not wait for the lease",
        ADMIT,
        "if step.now_ms < known.lease_until_ms:",
        "if False:",
    ),
    Mutant(
        "R9c",
        "a late answer ends a node that asks to be admitted anew",
        MEMBERSHIP,
        "return []  # asked before its lease ended: since then it wants a new admission",
        "pass",
    ),
    Mutant(
        "R7b",
        "the master removes members before it has given them their time",
        LEASES,
        "max(member.lease_until_ms, since_ms + member.lease_ms)",
        "member.lease_until_ms",
    ),
    Mutant(
        "R2e",
        "the store removes for a master whoever has renewed since",
        ADMIT,
        "if request.token and known.lease_until_ms != request.lease_until_ms:  # R2",
        "if False:",
    ),
    Mutant(
        "R7d",
        "the master removes members although only the store's clock has jumped",
        MASTER,
        "if not self._since_ms or self._has_jumped(now, snapshot):",
        "if not self._since_ms:",
    ),
    Mutant(
        "R16f",
        "the store removes members for a master that has not verified it",
        STATE,
        "if record is None or record.identity != self.identity:\n            return Unverified",
        "if record is None:\n            return Unverified",
    ),
    Mutant(
        "R7c",
        "the master removes a member whose software is being replaced",
        LEASES,
        "member.lease_ms and member.standing is not Standing.AWAY and member.id != master:",
        "member.lease_ms and member.id != master:",
    ),
    Mutant(
        "R16e",
        "the master removes members while the store is in doubt",
        LEASES,
        "if record is None or not snapshot.verified:  # R16",
        "if record is None:",
    ),
    Mutant(
        "R8",
        "a write of an older acting version lands",
        DATA,
        "    if record.raised_revision != origin.raised_revision:\n",
        "    if False:\n",
    ),
    Mutant(
        "R8b",
        "a write of whoever was excluded lands",
        DATA,
        "if known is None or known.incarnation != origin.incarnation:",
        "if False:",
    ),
    Mutant(
        "R9",
        "a report need not match the incarnation",
        ADMIT,
        "if known is None or known.incarnation != request.incarnation:  # R9",
        "if known is None:",
    ),
    Mutant(
        "R10",
        "a node takes any record for a newer one",
        RECORD,
        "return than is None or (record.order > than.order and record.epoch >= than.epoch)",
        "return than is None or record != than",
    ),
    Mutant(
        "R11",
        "a node acts on what is not on its disk yet",
        MEMBERSHIP,
        "        self._wanted = memory\n        return [Remember(memory)]",
        "        self.memory = memory\n        return [Remember(memory), *self._apply()]",
    ),
    Mutant(
        "R12",
        "a node operates outside of what it supports",
        MEMBERSHIP,
        'if not lowest <= record.acting <= installed:\n            return f"the cluster acts',
        'if False:\n            return f"the cluster acts',
    ),
    Mutant(
        "R13",
        "settled without everybody's word",
        BLOCKERS,
        "if member.operating_revision >= record.raised_revision:\n            continue",
        "if True:\n            continue",
    ),
    Mutant(
        "R14",
        "admission does not look at the oldest data",
        ADMISSION,
        "if lowest > record.data:",
        "if False:",
    ),
    Mutant(
        "R15",
        "a node confirms before older operations have ended",
        MEMBERSHIP,
        "if confirmed and not self._draining and told",
        "if confirmed and told",
    ),
    Mutant(
        "R16",
        "no quarantine",
        STATE,
        "return not began or self.now_ms < self.state.quarantine_until_ms",
        "return False",
    ),
    Mutant(
        "R16b",
        "the master does not wait for the members' memories",
        BLOCKERS,
        "if member.attached != snapshot.quarantine_until_ms and serves and not suspended:",
        "if False:",
    ),
    Mutant(
        "R16c",
        "admission by a store in doubt",
        ADMIT,
        "identity:\n        return Unverified(step.view)\n    if request.generation not",
        "identity and False:\n        return Unverified(step.view)\n    if request.generation not",
    ),
    Mutant(
        "R17",
        "the store is not brought forward",
        REGRESSION,
        "    if not ahead(memory, record) and memory.epoch <= record.epoch:\n        return\n",
        "    return\n",
    ),
    Mutant(
        "R18",
        "the data version rises before the replicas have the data",
        ACTING,
        "if not progress.durable or (snapshot.collections and not progress.data_durable):",
        "if False:",
    ),
    Mutant(
        "R18b",
        "any durable commit proves that the replicas have the data",
        MASTER,
        "if durable and self._proves is not None:\n"
        "            self._data_durable_of = self._proves",
        "if durable and record is not None and self.snapshot is not None:\n"
        "            self._data_durable_of = (record.raised_revision, self.snapshot.identity)",
    ),
    Mutant(
        "R19",
        "a silent member does not block",
        BLOCKERS,
        "elif record.raising and member.seen < record.floor_revision:",
        "elif False:",
    ),
    Mutant(
        "R20",
        "a node operates by its memory, before admission",
        MEMBERSHIP,
        "        if not self._registered or self._standing is not Standing.SERVING or "
        "self._stop is not None:\n            return []\n        if record is None",
        "        if record is None",
    ),
    Mutant(
        "R21",
        "a primary without its replica goes on",
        SERVERS,
        "return not self.full and now_s < self.refuses_writes_from_s",
        "return not self.full",
    ),
    Mutant(
        "R22",
        "the commit does not look for a hold",
        DECISIONS,
        "if rises and record.hold is not None:",
        "if False:",
    ),
    Mutant(
        "R23",
        "a hold is acknowledged before it is durable",
        SERVERS,
        'return Failed("the replicas have not confirmed it")',
        "return Done(reply.view, durable=False)",
    ),
    Mutant(
        "R24",
        "a node obeys the word of another verification",
        MEMBERSHIP,
        "if not record.identity or record.doubt != self._confirmed:",
        "if False:",
    ),
    Mutant(
        "R24b",
        "the ghost of an older mastership is obeyed",
        RECORD,
        "(record.order > than.order and record.epoch >= than.epoch)",
        "record.order > than.order",
    ),
    Mutant(
        "R25",
        "a member that may not serve is refused instead of standing by",
        ADMISSION,
        "stands_by = is_member or rule in WAITING_RULES",
        "stands_by = rule in WAITING_RULES",
    ),
    Mutant(
        "R26",
        "a member that is away does not block",
        BLOCKERS,
        "if member.standing is Standing.AWAY:  # R19, R26",
        "if False:",
    ),
    Mutant(
        "R27",
        "the version rises before the replicas have the floor",
        ACTING,
        "if not progress.durable:  # R27",
        "if False:  # R27",
    ),
    Mutant(
        "R27b",
        "no floor first",
        ACTING,
        "return Step(StepName.FLOOR, replace(record, floor=target), _inputs(snapshot))",
        "return Step(StepName.RAISED, replace(record, floor=target, acting=target))",
    ),
    Mutant(
        "R28",
        "a record is converted although it was written meanwhile",
        CONVERTING,
        "(record.format, record.stamp) == (one.format, one.stamp)",
        "True",
    ),
    Mutant(
        "R28b",
        "records are converted before all have settled",
        CONVERTING,
        "if not record.converting or record.identity != step.identity:  # R13, R16",
        "if record.identity != step.identity:",
    ),
    Mutant(
        "R28c",
        "the checkpoint is ahead of the work",
        CONVERTING,
        "        older=at.older or bool(share),\n",
        "        older=at.older or bool(share),\n        cursor=then,\n",
    ),
    Mutant(
        "R28d",
        "the data version rises without a scan",
        BLOCKERS,
        "elif not one.view.parked and one.collection not in audited:",
        "elif False:",
    ),
    Mutant(
        "R29",
        "a slot is given back before the member operates",
        SLOTS,
        "if not _may_be_returned(step, slot, member, request.outcome):",
        "if False:",
    ),
    Mutant(
        "R29a",
        "what a member said before it was taken down counts",
        SLOTS,
        "return not is_down(step.state.record, member) and (was_down or outcome is Outcome.UNUSED)",
        "return not is_down(step.state.record, member)",
    ),
    Mutant(
        "R29c",
        "asked for again, a slot keeps what came before",
        SLOTS,
        "            state.slots[request.id] = _slot(step, request, member)\n        return",
        "            pass\n        return",
    ),
    Mutant(
        "R2s",
        "a master takes a slot by a decision that is over",
        SLOTS,
        "if request.token and request.revision != record.revision:  # R2",
        "if False:",
    ),
    Mutant(
        "R25s",
        "one that stands by says nothing to a store in doubt",
        MEMBERSHIP,
        "return (view.record.generation, *view.record.order, view.identity)",
        'return (view.record.generation, *view.record.order, "")',
    ),
    Mutant(
        "R29b",
        "a slot is given whatever is down already",
        SLOTS,
        "if len(_down(step) - {request.id}) >= request.budget:",
        "if False:",
    ),
    Mutant(
        "R30",
        "an epoch that the store forgot is given again",
        STATE,
        "epoch = self.beyond(state.record.epoch, state.record)",
        "epoch = state.record.epoch",
    ),
    Mutant(
        "R30b",
        "an incarnation that the store forgot is given again",
        STATE,
        "state.incarnations = self.beyond(state.incarnations, state.record)",
        "pass",
    ),
    Mutant(
        "L1",
        "a master goes on although the record has a newer epoch",
        NODE,
        "return known > epoch or (self.master.fenced",
        "return (self.master.fenced",
    ),
    Mutant(
        "L1b",
        "the beat does not show that a doubt has begun",
        NODE,
        "if (beat.revision, beat.record_epoch) != order:",
        "if order is None or beat.revision != order[0]:",
    ),
    Mutant(
        "S8",
        "an excluded incarnation may attach",
        REGRESSION,
        "if tombstone is not None and _is_excluded(member, tombstone):  # S8",
        "if False:",
    ),
    Mutant(
        "S16",
        "complete although a member has not confirmed",
        ACTING,
        "if record.upgrade is not None and not record.raising and not settle_blockers(snapshot):",
        "if record.upgrade is not None and not record.raising:",
    ),
    Mutant(
        "S16b",
        "complete although a member has an older version",
        ACTING,
        "if members and all(member.installed == record.acting for member in members):",
        "if members:",
    ),
    Mutant(
        "late",
        "a late request overwrites a newer one",
        ADMIT,
        "if request.number <= known.number:  # it was sent long ago",
        "if False:",
    ),
    Mutant(
        "name",
        "a second node of a name is admitted",
        ADMIT,
        "if known is not None and known.token not in (request.token, *request.earlier):",
        "if False:",
    ),
    Mutant(
        "step-down",
        "a master does not look at the end of its validity",
        MASTERSHIP,
        "return self.holding and self._too_late(now)",
        "return False",
    ),
    Mutant(
        "store vote",
        "a quorum without the store will do",
        MASTERSHIP,
        "if store is None or not store.granted:\n            return False\n        return sum",
        "return sum",
    ),
    Mutant(
        "copy",
        "a master's copy of the record may go back",
        MASTER,
        "elif newer(record, self.snapshot.record):",
        "else:",
    ),
    Mutant(
        "slow",
        "a node that was slow itself accuses others",
        DETECTOR,
        "if self._due_s is None or now <= self._due_s + _LATE * self.interval_s:",
        "if True:",
    ),
    Mutant(
        "accused",
        "a node that is suspected does not contradict",
        GOSSIP,
        "if heard.incarnation != self.me.incarnation or heard == self.me:",
        "if True:",
    ),
    Mutant(
        "repair",
        "news that were lost are never told again",
        GOSSIP,
        "if settled and theirs.table != self.roster.digest:",
        "if False:",
    ),
    Mutant(
        "heartbeat",
        "an older heartbeat replaces a newer one",
        ROSTER,
        "return _order(new) > _order(known)",
        "return new != known",
    ),
    Mutant(
        "R10g",
        "gossip takes an older record for a newer one",
        GOSSIP,
        "return record if newer(record, known) else None",
        "return record",
    ),
]

_SCENARIOS = ("scenarios", "rollouts", "downgrades", "servers")


class _Mutator(importlib.abc.MetaPathFinder):
    def __init__(self, mutant):
        self.mutant = mutant

    def find_spec(self, name, path, target=None):
        if name != self.mutant.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        mutant = self.mutant

        class Loader(importlib.machinery.SourceFileLoader):
            def get_code(self, fullname):
                text = self.get_source(fullname)
                assert text.count(mutant.was) == 1, f"{mutant.rule}: the text has changed"
                return compile(text.replace(mutant.was, mutant.becomes), self.path, "exec")

        spec.loader = Loader(name, spec.origin)
        return spec


def install(rule):
    """Make the mutant, before anything of the package is imported."""
    (mutant,) = [one for one in MUTANTS if one.rule == rule]
    sys.meta_path.insert(0, _Mutator(mutant))


def killed_by_seeds(seeds):
    """In the mutant's own process: the first seed that notices, and what it says."""
    from peerupgrade.sim.run import run_seed

    for seed in seeds:
        try:
            problem = run_seed(seed).problem
        except Exception as error:  # noqa: BLE001 - an assertion of the core notices, too
            problem = f"{type(error).__name__}: {error}"
        if problem:
            return seed, re.split("[:,]", problem)[0]
    return None


def killed_by_tests(module):
    """In the mutant's own process: the first test that notices, those of the module first."""
    import pytest

    class First:
        name = ""

        def pytest_runtest_logreport(self, report):
            if report.failed and not self.name:
                self.name = report.nodeid.rpartition("::")[2]

    first = First()
    sim, core = ROOT / "tests" / "sim", ROOT / "tests" / "core"
    of_module = [path for path in core.glob("test_*.py") if f"{module} " in path.read_text()]
    scenarios = [sim / f"test_{name}.py" for name in _SCENARIOS]
    for tests in (of_module, scenarios, [core]):
        if tests and not first.name:
            pytest.main(["-q", "-x", "-p", "no:cacheprovider", *map(str, tests)], [first])
    return first.name


def killed_by_world(name):
    """In the mutant's own process: the invariant that breaks in a small world, and the path."""
    from peerupgrade.sim.explore import explore
    from peerupgrade.sim.small import Config, Faults

    worlds = {
        "put back": Config(nodes=2, faults=Faults(put_backs=1)),
        "lost raise": Config(
            nodes=2,
            faults=Faults(losses=1, crashes=1),
            swift=True,
            lost_writes=1,
            begins_before="raised",
        ),
    }
    result = explore(worlds[name], sample=10**9)
    return result.problem.partition(":")[0], len(result.path)


def explored(rule, world):
    """What an exploration of a small world finds without a guard, and after how many moves."""
    invariant, moves = killed_by(rule, "world", world).split()
    return invariant, int(moves)


def killed_by(rule, *how):
    """Judge one mutant in a process of its own.

    Args:
        rule: of the mutant.
        how: "tests", or "seeds" and their number, or "world" and its name.

    Returns:
        The name of the test, or the seed and the invariant, or that and the length of the path;
        "" if nothing noticed.
    """
    command = [sys.executable, __file__, rule, *how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].removeprefix("=>").strip()


if __name__ == "__main__":
    install(sys.argv[1])
    if sys.argv[2] == "seeds":
        noticed = killed_by_seeds(range(int(sys.argv[3])))
        print("=>" if noticed is None else f"=> {noticed[0]} {noticed[1]}")
    elif sys.argv[2] == "world":
        print("=>", *killed_by_world(sys.argv[3]))
    else:
        (mutant,) = [one for one in MUTANTS if one.rule == sys.argv[1]]
        print(f"=> {killed_by_tests(mutant.module)}")
