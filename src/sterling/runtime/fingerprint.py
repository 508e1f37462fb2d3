"""What was there: the hash of a folder, and the hash of the environment a program runs in.

Two folders have one hash when they hold the same files with the same bytes, the
same executable bits and the same links. Times, owners, empty folders and git's
own folder do not count. Two environments have one hash when interpreter,
platform and installed distributions agree. Two pieces of code have one hash when
their syntax trees agree, with those of every module of ours that they import.
"""

from __future__ import annotations

import ast
import os
import platform
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.hashing import address_of, hash_file, tagged_hash, u64
from sterling.kernel.shipped import package_root

__all__ = [
    "CodeUnreadable",
    "Environment",
    "ParsedCode",
    "ParsedModule",
    "TreeFile",
    "TreeListing",
    "TreeUnreadable",
    "code_hash",
    "environment_fingerprint",
    "interpreter_words",
    "tree_hash",
    "tree_listing",
]

_TREE_TAG = b"sterling/tree/1"
_ENVIRONMENT_TAG = b"sterling/environment/1"
_CODE_TAG = b"sterling/code/1"
_TREE_WORDS_TAG = b"sterling/syntax-tree/1"
_PACKAGE = "sterling"
_LEFT_OUT = ".git"


class TreeUnreadable(SterlingError):
    """A folder, or a file in it, cannot be read, so it has no hash."""

    code = "tree.unreadable"
    hint = "Make every file of the folder readable. See `sterling ci run --help`."
    exit = EXIT_USAGE


class CodeUnreadable(SterlingError):
    """Code cannot be read or parsed, or imports in a way that cannot be followed, so it has no hash."""

    code = "code.unreadable"
    hint = "See what is wrong with it: `sterling plugins check`."


@dataclass(frozen=True, slots=True)
class TreeFile:
    """One file or link. `mode` is `100644`, `100755` or `120000`, as git writes them."""

    path: str
    mode: str
    size_bytes: int
    sha256: str

    def as_json(self) -> dict[str, Json]:
        return {"path": self.path, "mode": self.mode, "size_bytes": self.size_bytes, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class TreeListing:
    """Files sorted by the bytes of their paths, and the hash over all of them."""

    entries: tuple[TreeFile, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class Environment:
    """Interpreter, platform and distributions, and the hash over them."""

    interpreter: str
    platform: str
    distributions: tuple[tuple[str, str], ...]
    sha256: str

    def differences(self, other: Environment) -> list[str]:
        """What the other one has otherwise, by name."""
        found = [name for name in ("interpreter", "platform") if getattr(self, name) != getattr(other, name)]
        changed = set(self.distributions) ^ set(other.distributions)
        return [*found, *sorted({name for name, _ in changed})]


@dataclass(frozen=True, slots=True)
class ParsedModule:
    """The hash of a module's syntax tree, and every name below `sterling` that it may import."""

    tree: bytes
    imports: tuple[str, ...]


class ParsedCode(dict[str, ParsedModule]):
    """Modules by name, parsed once for a run."""


def tree_hash(root: Path, only: Iterable[str] | None = None) -> str:
    """The hash of a folder, as 64 hex digits. Errors and cost: as `tree_listing`."""
    return tree_listing(root, only).sha256


def tree_listing(root: Path, only: Iterable[str] | None = None) -> TreeListing:
    """List and hash a folder, or only the named files of it (paths with `/`, relative to it).

    Sockets, pipes and devices are left out.

    Raises:
        TreeUnreadable: no such folder, a named file is missing, or a file cannot be read.
    Cost: reads every byte once.
    """
    if not root.is_dir():
        raise TreeUnreadable(f"expected a folder, found none at {root}")
    try:
        paths = _walk(root) if only is None else (root / name for name in set(only))
        found = [entry for path in paths if (entry := _entry(root, path)) is not None]
    except OSError as problem:
        raise TreeUnreadable(f"expected readable files, found {problem}") from problem
    entries = tuple(sorted(found, key=lambda entry: entry.path.encode("utf-8")))
    fields: list[bytes] = []
    for entry in entries:
        path_bytes = entry.path.encode("utf-8")
        fields += [u64(len(path_bytes)), path_bytes, entry.mode.encode("ascii"), bytes.fromhex(entry.sha256)]
    return TreeListing(entries, tagged_hash(_TREE_TAG, *fields).hex())


def environment_fingerprint() -> Environment:
    """The environment of this process. Imports nothing that is installed."""
    interpreter, machine = interpreter_words()
    installed = tuple(
        sorted(
            {
                (str(found.metadata["Name"]).lower().replace("_", "-"), found.version)
                for found in distributions()
            }
        )
    )
    body = {
        "distributions": [list(pair) for pair in installed],
        "interpreter": interpreter,
        "platform": machine,
    }
    return Environment(
        interpreter, machine, installed, tagged_hash(_ENVIRONMENT_TAG, canonical_bytes(body)).hex()
    )


def interpreter_words() -> tuple[str, str]:
    """The interpreter with its version, and the platform."""
    interpreter = f"{platform.python_implementation()} {platform.python_version()}"
    return interpreter, f"{sys.platform}-{platform.machine()}"


def code_hash(
    code: bytes, modules: Iterable[str] = (), *, root: Path | None = None, parsed: ParsedCode | None = None
) -> str:
    """The hash of code and of these modules, closed over what they import below `sterling`.

    Comments, white space and positions do not count; docstrings do. `root` is the
    folder of the package; `parsed` keeps modules from one call to the next. Modules
    that code names only while it runs are not seen.

    Raises:
        CodeUnreadable: a module is absent, does not parse, or imports relative to itself.
    """
    base = package_root() if root is None else root
    known = ParsedCode() if parsed is None else parsed
    found = {"": _parse("", code)}
    waiting = [*modules, *found[""].imports]
    for name in modules:
        if _module_path(base, name) is None:
            raise CodeUnreadable(f"expected a module {name} of ours, found none")
    while waiting:
        name = waiting.pop()
        path = None if name in found else _module_path(base, name)
        if path is not None:
            if name not in known:
                known[name] = _parse(name, path.read_bytes())
            found[name] = known[name]
            waiting += known[name].imports
    fields: list[bytes] = []
    for name in sorted(found):
        fields += [u64(len(name)), name.encode(), found[name].tree]
    return tagged_hash(_CODE_TAG, *fields).hex()


def _parse(name: str, code: bytes) -> ParsedModule:
    where = name or "the code"
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
        raise CodeUnreadable(f"expected Python in {where}, found {problem}") from problem
    imports: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise CodeUnreadable(f"expected absolute imports in {where}, found a relative one")
            imports += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    words = ast.dump(tree).encode("utf-8", "surrogatepass")
    ours = sorted({found for found in imports if found.partition(".")[0] == _PACKAGE})
    return ParsedModule(tagged_hash(_TREE_WORDS_TAG, words), tuple(ours))


def _module_path(root: Path, name: str) -> Path | None:
    """The file of a module below `sterling`, or None: a name that `from` takes may be no module."""
    package, *rest = name.split(".")
    if package != _PACKAGE:
        return None
    place = root.joinpath(*rest)
    files = (place / "__init__.py", place.parent / f"{place.name}.py") if rest else (place / "__init__.py",)
    return next((path for path in files if path.is_file()), None)


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root, onerror=_refuse):
        folders[:] = [name for name in folders if name != _LEFT_OUT]
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in [*files, *links]:
            if name != _LEFT_OUT:  # A linked work tree has a file of this name.
                yield Path(folder) / name


def _refuse(problem: OSError) -> None:
    raise problem


def _entry(root: Path, path: Path) -> TreeFile | None:
    state = path.lstat()
    # A path that is no UTF-8 keeps its bytes, spelled out.
    relative = os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace")
    if stat.S_ISLNK(state.st_mode):
        target = os.fsencode(os.readlink(path))
        return TreeFile(relative, "120000", len(target), address_of(target))
    if stat.S_ISREG(state.st_mode):
        mode = "100755" if state.st_mode & 0o100 else "100644"
        return TreeFile(relative, mode, state.st_size, hash_file(path))
    return None
