"""Error signatures: when two failures count as the same one.

A signature is the hash of the exception's class, its normalised message and the
innermost frame inside the project. `cause` is coarser, for grouping: it names
the missing module, the missing name, the broken line, or the class and frame.

`normalise` is total and idempotent. It forgets what changes from run to run
(paths, times, addresses, numbers) and keeps what tells failures apart (names,
quoted keys, HTTP status, signal and exit code). A failure longer than 16,384
letters is read at both ends, and a signature covers 4,096 letters of the result.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sterling.kernel.hashing import tagged_hash
from sterling.packs.ci.facts import clean_text

__all__ = ["Failure", "cause_of", "normalise", "read_failure", "signature_of"]

_TAG = b"sterling/ci.signature/1"
_READ_LETTERS = 16_384
_HASHED_LETTERS = 4_096

_ANSI = re.compile(r"(?:\x1b|#x1B)\[[0-9;?]*[A-Za-z]")
_PATH = re.compile(
    r"(?<![\w>/])(?:[A-Za-z]:)?"
    r"(?:/(?:tmp|var|private|home|root|Users|builds|work|workspace|__w|opt|usr|mnt|srv)(?:/[^\s:'\"<>|,;)\]]+)+"
    r"|\\(?:[^\s:'\"<>|,;)\]\\]+\\)+[^\s:'\"<>|,;)\]\\]*)"
)
_TEMPORARY_NAME = re.compile(r"^tmp[a-z0-9_]{6,10}$")
_TIME = re.compile(
    r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?\b"
    r"|\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b"
)
_UUID = re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+\b")
_PORT = re.compile(r"(?<=[\w\]]):\d{2,5}\b(?!:)|\bport[ =:]+\d+\b", re.IGNORECASE)
_PID = re.compile(r"\b(pid|process|thread)([ =:#]+)\d+\b", re.IGNORECASE)
_LINE = re.compile(r"\bline \d+\b|(?<=\.py):\d+")
_DURATION = re.compile(r"\b\d+(?:\.\d+)?\s?(?:ns|us|µs|ms|s|sec|secs|seconds?|minutes?|min)\b")
_NUMBER = re.compile(
    r"(?P<keep>(?:\b(?:status(?:_code)?|HTTP(?:/\d\.\d)?|code|signal|errno|returncode|exit(?:ed)?)\b"
    r"|\bexit (?:code|status)\b|\bResponse)[\s=:\[(]{0,4}-?\d+|(?P<quote>['\"])-?\d+(?P=quote))"
    r"|(?<![\w.<])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]*\w)",
)

_DIGIT = re.compile(r"\d")
_LOCATION = re.compile(r"^(?P<path>[^\s:][^:\n]*):(?P<line>\d+):(?: (?P<rest>.*))?$")
_NATIVE = re.compile(r'^\s*File "(?P<path>[^"]+)", line \d+(?:, in (?P<function>.+))?$')
_DEF = re.compile(r"^[> ]*(?:async )?def (?P<name>\w+)\(")
_CLASS = re.compile(r"^(?P<name>(?:[A-Za-z_]\w*\.)*[A-Z]\w*)(?:: ?(?P<message>.*))?$", re.DOTALL)
_WRAPPED = re.compile(r'^failed on (?:setup|teardown) with "(?P<inner>.*)"$', re.DOTALL)
_CHAIN = re.compile(
    r"^(?:During handling of the above exception, another exception occurred:"
    r"|The above exception was the direct cause of the following exception:)$",
    re.MULTILINE,
)

_NO_MODULE = re.compile(r"No module named '?(?P<module>[\w.]+)'?")
_NO_NAME = re.compile(
    r"cannot import name '(?P<name>[^']+)'(?: from(?: partially initialized module)? '(?P<module>[^']+)')?"
)
_SYNTAX = frozenset({"SyntaxError", "IndentationError", "TabError"})


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure in parts: class, message, and the innermost frame of the project."""

    exception: str
    message: str
    file: str = ""
    function: str = ""
    source: str = ""


def read_failure(text: str, message: str = "") -> Failure:
    """The parts of a failure as a Python runner prints it.

    `text` is the traceback, `message` the runner's own one-line summary, used
    where the text holds no error lines (`--tb=no`, `--tb=line`).
    """
    text = _uncoloured(_shortened(text).replace("\r\n", "\n"))
    last = _CHAIN.split(text)[-1] if " exception" in text else text
    lines = last.split("\n")
    said = (
        _error_lines(lines)
        or _native_error(lines)
        or _unwrap(_uncoloured(message[:_READ_LETTERS]))
        or last.strip()
    )
    file, function = _innermost(lines)
    source = ""
    if said.lstrip().startswith('File "'):
        file, source, said = _split_syntax(said)
    exception, rest = _split_class(said)
    return Failure(exception, rest, file, function, source)


def normalise(text: str, root: str = "") -> str:
    """The text without what differs between two runs of the same failure.

    Applied until nothing changes, so applying it again changes nothing.
    """
    text = clean_text(text)
    while True:
        changed = _pass(text, root)
        if changed == text:
            return text
        text = changed


def signature_of(failure: Failure, root: str = "") -> str:
    """64 hex digits: equal for the same failure in another place, at another time."""
    message = _shortened(normalise(_shortened(failure.message), root), _HASHED_LETTERS)
    parts = (failure.exception, message, failure.file, failure.function, normalise(failure.source, root))
    return tagged_hash(_TAG, *(clean_text(part).encode("utf-8") + b"\x00" for part in parts)).hex()


def cause_of(failure: Failure) -> str:
    """The coarser key that failures of one origin share."""
    if found := _NO_MODULE.search(failure.message):
        return f"missing-module {found['module']}"
    if found := _NO_NAME.search(failure.message):
        return f"missing-name {found['name']} in {found['module'] or 'an unnamed module'}"
    where = f"{failure.file}::{failure.function}" if failure.function else failure.file
    if failure.exception in _SYNTAX:
        return clean_text(f"{failure.exception} in {where}: {failure.source.strip()}"[:300])
    return clean_text(f"{failure.exception or 'failure'} in {where or 'an unnamed place'}"[:300])


def _pass(text: str, root: str) -> str:
    # The plain tests in front spare most texts most of the patterns.
    text = _uncoloured(text)
    if len(root) > 1:
        text = text.replace(root.rstrip("/") + "/", "")
    if "/" in text or "\\" in text:
        text = _PATH.sub(_short_path, text)
    if _DIGIT.search(text) is None:
        return text
    if "-" in text or ":" in text:
        text = _TIME.sub("<time>", text)
        text = _UUID.sub("<uuid>", text)
    if "0x" in text:
        text = _ADDRESS.sub("<address>", text)
    text = _LINE.sub(lambda found: "line <line>" if found[0].startswith("line") else ":<line>", text)
    text = _PORT.sub(lambda found: ":<port>" if found[0].startswith(":") else "port <port>", text)
    text = _PID.sub(r"\1\2<pid>", text)
    text = _DURATION.sub("<duration>", text)
    return _NUMBER.sub(lambda found: found["keep"] or "<number>", text)


def _short_path(found: re.Match[str]) -> str:
    name = re.split(r"[/\\]", found[0].rstrip("/\\"))[-1]
    return "<path>" if _TEMPORARY_NAME.match(name) else f"<path>/{name}"


def _uncoloured(text: str) -> str:
    return _ANSI.sub("", text) if "\x1b" in text or "#x1B" in text else text


def _error_lines(lines: list[str]) -> str:
    return "\n".join(line[1:].removeprefix("   ") for line in lines if line.startswith("E  ")).strip("\n")


def _native_error(lines: list[str]) -> str:
    if not any(line.startswith("Traceback (most recent call last)") for line in lines):
        return ""
    at = max((index for index, line in enumerate(lines) if line.startswith("  ")), default=-1)
    return "\n".join(lines[at + 1 :]).strip()


def _unwrap(message: str) -> str:
    found = _WRAPPED.match(message)
    return found["inner"] if found else message


def _split_syntax(said: str) -> tuple[str, str, str]:
    """A syntax error's file (its name only: the folder differs by checkout), source line and last line."""
    lines = [line.strip() for line in said.split("\n") if line.strip().strip("^~ ")]
    file = lines[0].partition('"')[2].partition('"')[0].replace("\\", "/").rpartition("/")[2]
    return file, lines[1] if len(lines) > 2 else "", lines[-1]


def _shortened(text: str, letters: int = _READ_LETTERS) -> str:
    """Both ends of a long text: the class and the innermost frame stand at the end."""
    if len(text) <= letters:
        return text
    return text[: letters // 2] + "\n" + text[-letters // 2 :]


def _split_class(said: str) -> tuple[str, str]:
    said = said.strip()
    first, newline, more = said.partition("\n")
    if found := _CLASS.match(first):
        return found["name"], (found["message"] or "") + newline + more
    return ("AssertionError" if first.startswith("assert") else ""), said


def _innermost(lines: list[str]) -> tuple[str, str]:
    """File and function of the last frame that lies inside the project."""
    best, function = ("", ""), ""
    for line in lines:
        if ":" not in line and '"' not in line:
            continue  # Neither a location nor the head of a function.
        if found := _LOCATION.match(line):
            rest = found["rest"] or ""
            inside = rest.removeprefix("in ") if rest.startswith("in ") else function
            best = (found["path"], inside) if _is_ours(found["path"]) else best
            function = ""
        elif found := _NATIVE.match(line.removeprefix("E").strip() if line.startswith("E  ") else line):
            best = (found["path"], found["function"] or "") if _is_ours(found["path"]) else best
        elif not function and (found := _DEF.match(line)):
            function = found["name"]
    return best


def _is_ours(path: str) -> bool:
    outside = path.startswith(("/", "<", "..")) or (len(path) > 1 and path[1] == ":")
    return not outside and "site-packages" not in path
