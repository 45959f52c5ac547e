"""Rolling upgrades that finish by themselves: one acting version for the whole cluster."""
