"""Agents change code, evidence decides: nine gated phases, one authority, a signed task receipt."""
