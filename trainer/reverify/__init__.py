"""Rewards computed from the log alone, nothing generated: what users said of answers, and what the answers are worth by measure."""
