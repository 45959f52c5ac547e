"""A deterministic world in which real nodes meet every fault; one seed decides everything."""
