"""Shared data of applications: collections whose records know the format that they are in."""
