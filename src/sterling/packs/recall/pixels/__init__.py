"""Lossless pictures kept as tiles, so that a screen that hardly changed costs hardly anything."""
