"""Gossip: who is there, what they have, whether they answer; the second way for a decision."""
