"""Lines and searchable text made from the tokens of one frame."""
