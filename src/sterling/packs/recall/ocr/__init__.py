"""Reading text with boxes out of stored pixels, and comparing two readings."""
