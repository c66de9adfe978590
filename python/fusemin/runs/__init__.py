"""Runs that the host takes segment by segment: watched, stopped, resumed."""
