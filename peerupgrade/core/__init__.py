"""Pure rules: no clock, no socket, no randomness."""
