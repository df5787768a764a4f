"""Rewards: functions from what a trajectory said to a score in [0, 1]."""
