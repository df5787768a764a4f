"""Figures of speed and memory, as ratios against a peer or the raw engine in the same run. `make bench`."""

import os

# LanceDB's own hybrid search warns at every query of a column that it leaves out itself; printing that would be counted.
for _name in ("LANCE_LOG", "LANCEDB_LOG"):
    os.environ.setdefault(_name, "error")
