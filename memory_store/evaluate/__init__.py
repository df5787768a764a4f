"""Retrieval quality on public conversation sets, through the store's public interface."""
