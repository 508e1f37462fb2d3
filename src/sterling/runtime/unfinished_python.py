"""Unfinished work in one Python file: what its tokens and its syntax tree admit to.

Words count in comments and names, never in strings, so a test about a word is
not a finding. Bodies count in the syntax tree. What a rule means stands in
`RULES`; a narrow `except` that passes states its answer and is not a finding.

Parsing is slow, so `is_suspect` looks at the bytes first. It may suspect too
much, never too little: a test holds it against the full reading. Nothing here
opens a file.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["RULES", "WORDS", "is_suspect", "read_python"]

WORDS: Mapping[bytes, str] = {
    b"TODO": "marker",
    b"FIXME": "marker",
    b"XXX": "marker",
    b"HACK": "marker",
    b"NOT_IMPLEMENTED": "not-implemented",
    b"NotImplementedError": "not-implemented",
}
RULES: Mapping[str, str] = {
    "assert-false": "An assertion that can never hold stands for work.",
    "empty-body": "A function is only `...` or a docstring, outside protocols, overloads and exceptions.",
    "marker": "`TODO`, `FIXME`, `XXX` or `HACK` in a comment or a name; anywhere in other text.",
    "not-implemented": "`NOT_IMPLEMENTED` or `NotImplementedError` in a comment or a name.",
    "pass": "A function or a branch is only `pass`.",
    "skip": "A test is skipped whatever the machine.",
    "swallowed": "Every exception is caught, and nothing is done or said.",
    "unreadable": "The file cannot be read; or something in it looks unfinished and it does not parse.",
    "xfail": "A test is expected to fail whatever the machine.",
}

_END = rb"[ \t]*(?:#[^\n]*)?(?:[;\n\r]|\Z)"
_SILENT = rb"\s*(?:#[^\n]*\s*)*(?:continue\b|break\b|return(?:[ \t]+None)?[ \t]*(?:#[^\n]*)?(?:[;\n\r]|\Z))"
_STRING = rb"""[rRuU]?(?:\"""[^"]*(?:"{1,2}[^"]+)*\"""|'''[^']*(?:'{1,2}[^']+)*'''|"[^"\n]*"|'[^'\n]*')"""
_SUSPECTS = tuple(
    re.compile(pattern)
    for pattern in (
        rb"[:;][ \t]*pass" + _END,
        rb"\.\.\." + _END,
        rb"assert[ \t(\\\r\n]*(?:False\b|0\b(?!\s*[<=>])|None\b|not\s*\(?(?:True\b|[0-9])|\"\"|'')",
        rb"except\s*:" + _SILENT,
        rb"except\b[^:]*\b(?:Base)?Exception\b[^:]*:" + _SILENT,
        rb"suppress\([^)]*\b(?:Base)?Exception\b",
        rb"skip[iI]f\(\s*(?:True|[1-9]|[a-z]+\s*=|\))",
        rb"\.xfail\b",
        rb"mark\.skip(?!if)",
        rb"pytest\.skip\b",
        rb"unittest\.skip(?!If)",
        rb"expectedFailure\b",
        rb"skipTest\b",
        rb"SkipTest\b",
        rb"def [^\n]*:[ \t]*\(?" + _STRING,
    )
)
# `pass` on its line, or a string after which nothing of the same depth comes.
_LONELY = re.compile(
    rb"\n([ \t]+)(?:pass"
    + _END
    + rb"|\(?"
    + _STRING
    + rb"\)?[ \t;]*(?:#[^\n]*)?(?:\r?\n[ \t]*(?:#[^\n]*)?(?=[\r\n]|\Z))*+(?:\Z|\r?\n(?!\1[^ \t\r\n#])))"
)
_LIGHT_HEAD = re.compile(
    rb"(?:class|(?:async )?(?:for|with)|while (?!True\b|[0-9]))\b|except (?!.*\b(?:Base)?Exception\b)"
)
_DECLARED = re.compile(rb"@[\w.]*\b(?:group|overload|abstractmethod)(?:\([^()]*\))?")
_EXEMPT_BASES = frozenset(("ABC", "ABCMeta", "Protocol"))
# These declare: the docstring of a command group is its help.
_EXEMPT_DECORATORS = frozenset(("abstractmethod", "group", "overload"))
_BROAD = frozenset(("BaseException", "Exception"))
_ENDINGS = {("pytest", "skip"): "skip", ("pytest", "xfail"): "xfail", ("self", "skipTest"): "skip"}
_Branching = ast.If | ast.Try | ast.TryStar | ast.match_case | ast.For | ast.AsyncFor | ast.While
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_suspect(source: bytes) -> bool:
    """Whether the file has to be parsed at all. False is certain, True is not."""
    return (
        any(word in source for word in WORDS)
        or any(one.search(source) for one in _SUSPECTS)
        or any(_may_lack_work(source, match) for match in _LONELY.finditer(source))
    )


def read_python(source: bytes) -> list[tuple[int, str]]:
    """Every (line, rule) that is unfinished, in order, one of a kind a line."""
    try:
        tree = ast.parse(source)
        found = set(_words(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
        return [(1, "unreadable")]
    found.update(_statements(tree))
    return sorted(found)


def _may_lack_work(source: bytes, lonely: re.Match[bytes]) -> bool:
    """Whether the last line of code above may open a body that must hold more than a word.

    A head that stands whole on its line is believed; any other may be anything.
    """
    head, start = _line_of_code(source, lonely.start())
    if (
        not head.endswith(b":") and b"#" not in head
    ):  # A docstring may stand between the head and a `pass`, and nothing else.
        return lonely.group().strip().startswith(b"pass")
    if head.count(b"(") != head.count(b")") or b'"' in head or b"'" in head:
        return True
    if head.startswith(b"def "):
        above, _ = _line_of_code(source, start)
        return _DECLARED.fullmatch(above) is None
    return _LIGHT_HEAD.match(head) is None


def _line_of_code(source: bytes, end: int) -> tuple[bytes, int]:
    """(the last line above that is more than a comment, where the line before it ends)."""
    while end > 0:
        start = source.rfind(b"\n", 0, end) + 1
        line = source[start:end].strip()
        if line and not line.startswith(b"#"):
            return line, start - 1
        end = start - 1
    return b"", 0


def _words(source: bytes) -> Iterator[tuple[int, str]]:
    if not any(word in source for word in WORDS):
        return
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type == tokenize.NAME:
            rule = WORDS.get(token.string.encode())
            if rule is not None:
                yield token.start[0], rule
        elif token.type == tokenize.COMMENT:
            for word in re.findall(r"\w+", token.string):
                rule = WORDS.get(word.encode())
                if rule is not None:
                    yield token.start[0], rule


def _statements(tree: ast.Module) -> Iterator[tuple[int, str]]:
    nodes = list(ast.walk(tree))
    owners = {id(child): node for node in nodes if isinstance(node, ast.ClassDef) for child in node.body}
    conditional = {id(node.func) for node in nodes if isinstance(node, ast.Call) and _asks(node)}
    yield from _skips_here(tree.body)
    for node in nodes:
        if isinstance(node, _Function):
            yield from _body(node, owners.get(id(node)))
            yield from _skips_here(node.body)
        elif isinstance(node, ast.Assert):
            if _is_never(node.test):
                yield node.lineno, "assert-false"
        elif isinstance(node, ast.ExceptHandler):
            if _is_broad(node.type) and all(_is_silent(line) for line in node.body):
                yield node.lineno, "swallowed"
        elif isinstance(node, ast.Call):
            if _last_name(node.func) == "suppress" and any(_is_broad(one) for one in node.args):
                yield node.lineno, "swallowed"
        elif isinstance(node, ast.Attribute | ast.Name):
            if id(node) not in conditional:
                yield from _mark(node)
        elif isinstance(node, _Branching):
            yield from _branches(node)


def _body(function: _Function, owner: ast.ClassDef | None) -> Iterator[tuple[int, str]]:
    """A function that is only `pass`, or nothing at all after its docstring."""
    rest = _without_docstring(function.body)
    if rest and all(isinstance(line, ast.Pass) for line in rest):
        kind = "pass"
    elif all(_is_ellipsis(line) for line in rest):
        kind = "empty-body"
    else:
        return
    declares = any(_last_name(one) in _EXEMPT_DECORATORS for one in function.decorator_list)
    if not declares and not (owner is not None and _is_exempt(owner)):
        yield (rest[0].lineno if kind == "pass" else function.lineno), kind


def _branches(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Branches that are only `pass`. Loops and `with` may be: their head does the work."""
    bodies: list[Sequence[ast.stmt]] = []
    if isinstance(node, ast.If):
        bodies = [node.body, node.orelse]
    elif isinstance(node, ast.Try | ast.TryStar):
        bodies = [node.body, node.orelse, node.finalbody]
    elif isinstance(node, ast.match_case):
        bodies = [node.body]
    elif isinstance(node, ast.For | ast.AsyncFor):
        bodies = [node.orelse]
    elif isinstance(node, ast.While):
        bodies = [node.orelse, *([node.body] if isinstance(node.test, ast.Constant) else [])]
    for body in bodies:
        if body and all(isinstance(line, ast.Pass) or _is_ellipsis(line) for line in body):
            yield body[0].lineno, "pass"


def _asks(call: ast.Call) -> bool:
    """Whether a mark is called with a condition that is no constant truth."""
    if _last_name(call.func) not in ("skipif", "skipIf", "xfail"):
        return False
    conditions = [*call.args[:1], *(one.value for one in call.keywords if one.arg == "condition")]
    return bool(conditions) and not _is_always(conditions[0])


def _mark(node: ast.Attribute | ast.Name) -> Iterator[tuple[int, str]]:
    """`mark.skip`, and `mark.xfail` or `mark.skipif` without a condition; the same in unittest's words."""
    name = _last_name(node)
    if name == "expectedFailure":
        yield node.lineno, "xfail"
    if isinstance(node, ast.Attribute) and name in ("skip", "skipif", "skipIf", "xfail"):
        owner = _last_name(node.value)
        if owner == "mark":
            yield node.lineno, "xfail" if name == "xfail" else "skip"
        elif owner == "unittest":
            yield node.lineno, "skip"


def _skips_here(body: Sequence[ast.stmt]) -> Iterator[tuple[int, str]]:
    """Statements that end the test where it stands, before anything could have returned."""
    for place, line in enumerate(body):
        if isinstance(line, ast.With | ast.AsyncWith):
            found = list(_skips_here(line.body))
        else:
            found = [(line.lineno, rule) for rule in _ending(line)]
        if found and not any(_may_leave(earlier) for earlier in body[:place]):
            yield from found


def _ending(line: ast.stmt) -> Iterator[str]:
    if isinstance(line, ast.Raise) and line.exc is not None:
        if _last_name(line.exc) == "SkipTest":
            yield "skip"
    elif isinstance(line, ast.Expr) and isinstance(line.value, ast.Call):
        function = line.value.func
        owner = _last_name(function.value) if isinstance(function, ast.Attribute) else ""
        rule = _ENDINGS.get((owner, _last_name(function)))
        if rule is not None:
            yield rule


def _may_leave(line: ast.stmt) -> bool:
    return any(isinstance(inner, ast.Return | ast.Raise) for inner in ast.walk(line))


def _without_docstring(body: Sequence[ast.stmt]) -> Sequence[ast.stmt]:
    first = body[0]
    has_one = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    return body[1:] if has_one else body


def _is_ellipsis(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and line.value.value is ...


def _is_exempt(owner: ast.ClassDef) -> bool:
    """Whether a class only promises, or only carries what is raised."""
    names = {_last_name(one) for one in [*owner.bases, *(word.value for word in owner.keywords)]}
    return bool(names & _EXEMPT_BASES) or any(name.endswith(("Error", "Exception")) for name in names)


def _is_never(test: ast.expr) -> bool:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return isinstance(test.operand, ast.Constant) and bool(test.operand.value)
    return isinstance(test, ast.Constant) and not test.value


def _is_always(condition: ast.expr) -> bool:
    """A constant truth; a string is not, for pytest evaluates it."""
    return (
        isinstance(condition, ast.Constant) and bool(condition.value) and not isinstance(condition.value, str)
    )


def _is_broad(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(_is_broad(one) for one in caught.elts)
    return caught is None or _last_name(caught) in _BROAD


def _is_silent(line: ast.stmt) -> bool:
    if isinstance(line, ast.Return):
        return line.value is None or (isinstance(line.value, ast.Constant) and line.value.value is None)
    is_word = isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
    return is_word or isinstance(line, ast.Pass | ast.Continue | ast.Break)


def _last_name(node: ast.expr) -> str:
    """The last word of a dotted name, of what it is called with, or of what it is subscripted with."""
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    if isinstance(node, ast.Subscript):
        return _last_name(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
