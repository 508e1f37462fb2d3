"""Readers of test reports: bytes in, what they state out."""
