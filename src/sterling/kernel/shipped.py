"""Where the files that ship with Sterling lie: locks and samples.

In a checkout they stand at its root; in an installed wheel they stand inside
the package.
"""

from __future__ import annotations

from pathlib import Path

from sterling.kernel.errors import SterlingError

__all__ = ["ShippedFileMissing", "package_root", "shipped"]


class ShippedFileMissing(SterlingError):
    """A file that belongs to the installation is not there."""

    code = "pack.file-missing"
    hint = "Install Sterling again; a checkout needs its whole tree. See `sterling demo --help`."


def package_root() -> Path:
    """The folder of the `sterling` package."""
    return Path(__file__).resolve().parent.parent


def shipped(name: str) -> Path:
    """The path of a shipped file or folder, which may not exist yet in a checkout being built.

    Errors: ShippedFileMissing when this is neither a checkout nor a whole wheel.
    """
    inside = package_root() / "shipped"
    if inside.is_dir():
        return inside / name
    checkout = package_root().parent.parent
    if (checkout / "pyproject.toml").is_file():
        return checkout / name
    raise ShippedFileMissing(f"expected {name} beside the package, found neither a checkout nor a wheel")
