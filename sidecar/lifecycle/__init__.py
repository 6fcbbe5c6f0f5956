"""The life of the process: how it starts, whom it follows, how it ends, what survives a bug."""
