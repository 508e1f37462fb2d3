"""Insight: what a table really says, with a query behind every figure. Enter through `door`."""
