"""What goes wrong, and what operators do meanwhile: every kind by its name."""

from __future__ import annotations

from collections.abc import Mapping

from peerupgrade.sim.faults import network, nodes, people, servers
from peerupgrade.sim.faults.hand import Fault, Hand

__all__ = ["FAULTS", "Fault", "Hand"]

FAULTS: Mapping[str, Fault] = {
    "node killed": nodes.kill,
    "node killed, disk lost": nodes.kill_and_wipe,
    "node flaps": nodes.flap,
    "node paused": nodes.pause,
    "crash point armed": nodes.arm,
    "clock jumped": nodes.jump_clock,
    "clock drifts": nodes.drift_clock,
    "disk full": nodes.fill_disk,
    "callback failed": nodes.fail_callback,
    "callback hung": nodes.hang_callback,
    "codec failed": nodes.fail_codec,
    "step before the raise failed": nodes.fail_step,
    "second node of the name": nodes.start_impostor,
    "messages lost": network.lose,
    "messages duplicated": network.duplicate,
    "messages delayed": network.delay,
    "one node's messages delayed": network.slow_link,
    "node cut from the store": network.cut,
    "node's requests cut off": network.cut_requests,
    "node's answers cut off": network.cut_answers,
    "node cut from lock servers": network.cut_locks,
    "pub/sub messages eaten": network.silence_bus,
    "pub/sub messages out of order": network.shuffle_bus,
    "gossip parted": network.part,
    "node mute": network.mute,
    "node deaf": network.deafen,
    "store killed, restarted": servers.restart,
    "store forgot its last writes": servers.forget,
    "store split in two": servers.split,
    "store wiped": servers.wipe,
    "store out of memory": servers.fill,
    "replica away": servers.lose_replica,
    "server's clock jumped": servers.jump_clock,
    "lock server lost": servers.lose_lock_server,
    "lock server forgot everything": servers.wipe_lock_server,
    "installed newer": people.upgrade,
    "release skipped": people.skip,
    "script upgrades all": people.orchestrate,
    "rollout started": people.roll_out,
    "rollout started again": people.roll_out,
    "rollout paused": people.pause_rollout,
    "member retried or skipped": people.retry_or_skip,
    "rollout aborted": people.abort_rollout,
    "rollout rolled back": people.roll_back_rollout,
    "step of a turn failed": people.fail_turn_step,
    "installed older": people.downgrade,
    "upgrade rolled back": people.roll_back,
    "replaced in place": people.replace_in_place,
    "left and came back": people.leave,
    "marked away": people.mark_away,
    "node joined": people.join,
    "master resigned": people.resign,
    "hold": people.hold,
    "hold with an end": people.hold_for_a_while,
    "excluded": people.exclude_stopped,
    "excluded by lease": people.exclude_by_lease,
}
