"""Memory-R1 (arXiv 2508.19828): a manager that keeps the memory of two speakers, and an answer agent that chooses from it."""
