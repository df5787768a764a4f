"""Reflective Memory Management (RMM, arXiv 2503.08026): a reranker that learns from citations, and topic memories at a session's end."""
