"""The rebuildable index of one home, and the scoring of passages."""
