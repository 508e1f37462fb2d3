"""Time words in a question become windows of microseconds, or are said not to be understood."""
