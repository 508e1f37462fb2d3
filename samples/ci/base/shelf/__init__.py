"""Arithmetic of a lending library."""
