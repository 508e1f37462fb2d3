"""What can be wrong with a source, said before anything is analysed.

Each error names what was expected, what was found and one next step. Nothing
of the source is lost: the file is never changed.
"""

from __future__ import annotations

from sterling.kernel.errors import EXIT_USAGE, SterlingError

__all__ = ["LimitExceeded", "OutUnwritable", "UnknownPlugin", "UnreadableSource", "UnsupportedFormat"]


class UnreadableSource(SterlingError):
    """The source is missing, empty, torn, or not text in a known encoding."""

    code = "insight.unreadable-source"
    hint = "Give a CSV, TSV or Parquet file with a header and rows; see `sterling analyze --help`."
    exit = EXIT_USAGE


class UnsupportedFormat(SterlingError):
    """The source is of a kind that no reader here reads."""

    code = "insight.unsupported-format"
    hint = "Save the table as CSV or Parquet and give that file; see `sterling analyze --help`."
    exit = EXIT_USAGE


class LimitExceeded(SterlingError):
    """The source passes a stated limit (columns, bytes in a cell, unpacked size)."""

    code = "insight.limit-exceeded"
    hint = "Leave out what passes the limit, or split the table; see `sterling analyze --help`."
    exit = EXIT_USAGE


class OutUnwritable(SterlingError):
    """The report's folder cannot be written."""

    code = "insight.out-unwritable"
    hint = "Name a folder that you may write: `sterling analyze FILE --out FOLDER`."
    exit = EXIT_USAGE


class UnknownPlugin(SterlingError):
    """A plugin was asked for that this pack does not have."""

    code = "insight.unknown-plugin"
    hint = "List the plugins with `sterling plugins list`."
    exit = EXIT_USAGE
