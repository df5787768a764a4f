"""Tasks from logged trajectories: which answers are right, what stood before the question, and what is left out and why."""
