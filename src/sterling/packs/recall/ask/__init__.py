"""A question becomes a plan, passages, a span, a check and an answer with its state."""
