"""Who is where, and who answers: `topology`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from peerupgrade.cli.client import Json
from peerupgrade.cli.show import plain, print_item, print_json, print_pairs, print_table, span
from peerupgrade.cli.target import DEFAULT, Target, connect

HEADINGS = ("CONDITION", "HEARD", "RTT MS", "GOSSIP ADDRESS")


def topology(*, target: Target = DEFAULT) -> None:
    """Show the nodes by zone, as the gossip of the asked node sees them.

    HEARD is since its last packet, RTT how long its answers take; both, and the
    packets counted below, are of the asked node, and need no store.

    For example:

        peerupgrade topology
        peerupgrade topology -o json | jq '.zones[].nodes[] | {name, rtt_ms}'
    """
    answer = connect(target).get("/v1/topology")
    if target.as_json:
        print_json(answer)
        return
    for zone in answer["zones"]:
        print_item(f"zone {plain(zone['zone'])}", ())
        print_table(
            ("NAME", "INSTALLED", "OPERATING", *HEADINGS),
            (
                (node["name"], node["installed"], node["operating"], *contact(node))
                for node in zone["nodes"]
            ),
        )
    for node in (node for zone in answer["zones"] for node in zone["nodes"]):
        if node["judged_by"]:
            verb = "suspects" if node["condition"] == "suspect" else "gave up"
            print(f"{plain(node['judged_by'])} {verb} {plain(node['name'])}")
    print_pairs(_traffic(answer))


def contact(node: Json) -> tuple[object, ...]:
    """The cells under `HEADINGS`."""
    heard_s, rtt_ms = node["last_heard_s"], node["rtt_ms"]
    return (
        node["condition"],
        None if heard_s is None else span(heard_s),
        None if rtt_ms is None else f"{rtt_ms:.1f}",
        node["gossip_address"],
    )


def _traffic(answer: Json) -> Iterator[tuple[str, str]]:
    traffic = answer["traffic"]
    yield "asked", f"{plain(answer['asked'])}, gossips at {plain(answer['gossip_address'])}"
    yield "sent", f"{traffic['sent']} packets, {traffic['sent_bytes']} bytes"
    yield "heard", f"{traffic['heard']} packets"
    yield "refused", _reasons(traffic["refused"])
    yield "unsent", _reasons(traffic["unsent"])


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {plain(reason)}" for reason, count in counts.items()) or "none"
