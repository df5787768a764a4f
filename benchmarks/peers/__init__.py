"""Other memory stores, each run by the python of .venvs/peers in a process of its own. Nothing here imports Recollect."""
