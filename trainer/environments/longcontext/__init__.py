"""Long-context tasks: RULER's thirteen, facts of bAbI in filler, questions on many documents."""
