"""Rewards: functions from what a trajectory said and did to a value, by name; docs/rewards.md has their sources and ranges."""
