"""What a request may hold at most, by HTTP and by MCP alike."""

MAX_DEPTH = 100
"""Lists and objects of a body, one inside the other: far below where recursive code fails."""
MAX_QUERY = 100_000
"""Characters of a search, or of a question by MCP."""
MAX_METADATA_VALUE = 4_096
"""Characters of one text in a memory's metadata."""
