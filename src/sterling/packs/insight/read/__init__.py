"""Readers: bytes of a source in, one raw Parquet table and its rejected rows out."""
