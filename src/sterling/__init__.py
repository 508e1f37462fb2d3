"""Sterling: a local-first runtime in which nothing counts without evidence."""

__version__ = "0.1.0"
