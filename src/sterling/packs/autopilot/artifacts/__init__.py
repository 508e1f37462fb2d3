"""Artifacts: what each phase must leave behind, and the gate that looks at it."""
