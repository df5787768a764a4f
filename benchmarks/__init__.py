"""Figures of speed and memory, as ratios against a peer or the raw engine in the same run. `make bench`."""
