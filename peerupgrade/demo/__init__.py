"""A small cluster on one machine, upgraded while it serves: `peerupgrade demo`."""
