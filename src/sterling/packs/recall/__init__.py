"""Recall: what was on this screen, when, and which pixels show it."""
