"""What a test run stands on: the interpreter, its packages, the variables it sees.

The child sees an allow-list and nothing else; names handed through enter the
fingerprint by the hash of their value, secret-looking ones by their presence
only. The interpreter is asked about itself in an empty folder, so that no module
of the project can answer in its place.

An installed checkout (an editable install) would lead a copy's tests back to the
original tree. Folders of the original that the interpreter imports from are
therefore put in front of its path as the copy has them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.hashing import address_of, tagged_hash
from sterling.runtime.commands import CommandLimits, CommandNotStarted, run_command

__all__ = [
    "Environment",
    "VariableMissing",
    "ask_interpreter",
    "child_variables",
    "interpreter_of",
    "led_to_copy",
    "lock_hash",
    "measure_environment",
    "require_variables",
]

_TAG = b"sterling/ci.environment/1"
_LOCK_TAG = b"sterling/ci.lock/1"
_ASK_MS = 60_000
_SECRET_NAME = re.compile(r"(secret|token|passw|passphrase|private|credential|api_?key|_key$)", re.IGNORECASE)
_PYTHON = re.compile(r"^python(?:\d(?:\.\d+)?)?$")
_SHEBANG = re.compile(rb"^#!\s*(?P<first>\S+)(?:[ \t]+(?P<second>\S+))?")
_EXEC = re.compile(rb"^'''exec' \"?(?P<path>[^\"\n]+?)\"? \"\$0\"", re.MULTILINE)

# Files that pin what is installed, in the order in which they are hashed.
LOCK_FILES = (
    *("Cargo.lock", "Gemfile.lock", "Pipfile.lock", "composer.lock", "go.sum", "package-lock.json"),
    *("pdm.lock", "pnpm-lock.yaml", "poetry.lock", "requirements.txt", "uv.lock", "yarn.lock"),
)

_FIXED = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0", "TZ": "UTC"}

# Asked of the interpreter under test; must run on any Python from 3.8 on.
_QUESTION = r"""
import importlib.metadata as metadata, json, platform, sys
found, plugins, editable = {}, set(), []
for one in metadata.distributions():
    name = one.metadata["Name"]
    if not name or name in found:
        continue
    found[name] = one.version
    for point in one.entry_points:
        if point.group == "pytest11":
            plugins.add(point.name + "==" + one.version)
    try:
        told = json.loads(one.read_text("direct_url.json") or "{}")
    except ValueError:
        told = {}
    if told.get("dir_info", {}).get("editable") and told.get("url", "").startswith("file://"):
        editable.append(told["url"][7:])
print(json.dumps({
    "version": platform.python_version(), "implementation": platform.python_implementation(),
    "executable": sys.executable, "platform": sys.platform + "-" + platform.machine(),
    "distributions": found, "plugins": sorted(plugins),
    "paths": [p for p in sys.path if p], "editable": editable,
}))
"""


class VariableMissing(SterlingError):
    """A variable that should be handed through is not set."""

    code = "command.variable-missing"
    hint = "Set the variable, or leave --env NAME out. See `sterling ci run --help`."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Environment:
    """What the fingerprint is made of. `answer` is the interpreter's own, empty if nobody answered."""

    answer: Mapping[str, Any]
    interpreter: str
    platform: str
    cpu: str
    variables: Mapping[str, str]
    lock: str
    argv: tuple[str, ...]
    paths: tuple[str, ...] = field(default=())

    @property
    def version(self) -> str:
        return str(self.answer.get("version", ""))

    @property
    def plugins(self) -> tuple[str, ...]:
        return tuple(self.answer.get("plugins", ()))

    def has_plugin(self, name: str) -> bool:
        return any(plugin.partition("==")[0] == name for plugin in self.plugins)

    def as_json(self) -> dict[str, Json]:
        return {
            "interpreter": {
                "path_sha256": address_of(os.fsencode(self.interpreter)) if self.interpreter else "",
                "version": self.version,
                "implementation": str(self.answer.get("implementation", "")),
            },
            "platform": self.platform,
            "cpu": self.cpu,
            "distributions": {
                str(name): str(version)
                for name, version in sorted(self.answer.get("distributions", {}).items())
            },
            "plugins": list(self.plugins),
            "lock": self.lock,
            "variables": dict(sorted(self.variables.items())),
            "argv": list(self.argv),
        }

    @property
    def fingerprint(self) -> str:
        """64 hex digits: equal for equal environments."""
        return tagged_hash(_TAG, canonical_bytes(self.as_json())).hex()


def child_variables(names: Sequence[str], *, home: Path, temporary: Path) -> dict[str, str]:
    """The variables a run sees: the fixed ones, PATH, its own HOME and temp folder, and the named ones.

    Errors: VariableMissing.
    """
    variables = {
        **_FIXED,
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "TMPDIR": str(temporary),
    }
    require_variables(names)
    return variables | {name: os.environ[name] for name in names}


def require_variables(names: Sequence[str]) -> None:
    """Refuse a name that is not set.

    Errors: VariableMissing.
    """
    for name in names:
        if name not in os.environ:
            raise VariableMissing(f"expected a variable {name}, found none", variable=name)


def interpreter_of(argv: Sequence[str], *, path: str) -> str:
    """The Python that a command runs on: named outright or by a script's first line; empty if neither."""
    program = argv[0] if os.sep in argv[0] else shutil.which(argv[0], path=path) or ""
    if not program or _PYTHON.match(os.path.basename(program)):
        return program
    try:
        with open(program, "rb") as file:
            head = file.read(2048)
    except OSError:
        return ""
    found = _SHEBANG.match(head)
    if found is None:
        return ""
    first, second = os.fsdecode(found["first"]), os.fsdecode(found["second"] or b"")
    if _PYTHON.match(os.path.basename(first)):
        return first
    if os.path.basename(first) == "env" and _PYTHON.match(second):
        return shutil.which(second, path=path) or ""
    # Installers write this where the path is too long for a first line.
    script = _EXEC.search(head)
    return os.fsdecode(script["path"]) if script and b"python" in script["path"] else ""


def ask_interpreter(program: str, *, variables: Mapping[str, str], scratch: Path) -> dict[str, Any]:
    """What an interpreter says about itself; empty if it does not answer within a minute."""
    scratch.mkdir(parents=True, exist_ok=True)
    output = scratch.parent / f"{scratch.name}.answer"
    try:
        end = run_command(
            [program, "-c", _QUESTION],
            cwd=scratch,
            env=variables,
            limits=CommandLimits(wall_ms=_ASK_MS, output_bytes=16 * 1024 * 1024),
            stdout=output,
            stderr=scratch.parent / f"{scratch.name}.complaint",
        )
        answer = json.loads(output.read_bytes()) if end.status == 0 and end.limit is None else {}
    except (CommandNotStarted, ValueError, FileNotFoundError):
        return {}
    return answer if isinstance(answer, dict) else {}


def measure_environment(
    argv: Sequence[str],
    *,
    variables: Mapping[str, str],
    named: Sequence[str],
    lock: str,
    scratch: Path,
) -> Environment:
    """The environment a command would run in."""
    program = interpreter_of(argv, path=variables["PATH"])
    answer = ask_interpreter(program, variables=variables, scratch=scratch) if program else {}
    return Environment(
        answer=answer,
        interpreter=str(answer.get("executable", "")) or program,
        platform=str(answer.get("platform", "")) or f"{os.uname().sysname.lower()}-{os.uname().machine}",
        cpu=_cpu_class(),
        variables={
            **_FIXED,
            **{name: _shown(name, variables[name]) for name in named},
        },
        lock=lock,
        argv=tuple(argv),
        paths=(*answer.get("paths", ()), *answer.get("editable", ())),
    )


def led_to_copy(paths: Sequence[str], *, root: Path, copy: Path) -> tuple[str, ...]:
    """Folders of the original tree that imports would come from, as they lie in the copy."""
    led: dict[str, None] = {}
    for path in paths:
        try:
            inside = Path(os.path.realpath(path)).relative_to(os.path.realpath(root))
        except ValueError:
            continue
        for place in (copy / inside / "src", copy / inside):
            # An environment inside the tree is ignored by git, so the copy does not hold it.
            if place.is_dir():
                led[str(place)] = None
    return tuple(led)


def lock_hash(tree: Path) -> str:
    """One hash over the lock files at the root of a tree; empty if there is none."""
    fields: list[bytes] = []
    for name in LOCK_FILES:
        file = tree / name
        if file.is_file() and not file.is_symlink():
            fields += [name.encode("ascii") + b"\x00", bytes.fromhex(address_of(file.read_bytes()))]
    return tagged_hash(_LOCK_TAG, *fields).hex() if fields else ""


def _shown(name: str, value: str) -> str:
    return "(present)" if _SECRET_NAME.search(name) else f"sha256:{address_of(os.fsencode(value))}"


def _cpu_class() -> str:
    """The microarchitecture level of an x86 processor; elsewhere the machine's name."""
    machine = os.uname().machine
    if machine != "x86_64":
        return machine
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "x86-64"
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    flags = set(line.partition(":")[2].split())
    if {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= flags:
        return "x86-64-v4"
    if {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"} <= flags:
        return "x86-64-v3"
    return "x86-64-v2" if {"sse4_1", "sse4_2", "ssse3", "popcnt"} <= flags else "x86-64-v1"
