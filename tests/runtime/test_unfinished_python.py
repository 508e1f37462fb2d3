from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sterling.runtime.unfinished_python import RULES, is_suspect, read_python

ROOT = Path(__file__).resolve().parents[2]

FOUND: list[tuple[str, int, str]] = [
    ("x = 1  # TODO later\n", 1, "marker"),
    ("# FIXME: (HACK) both on one line\n", 1, "marker"),
    ("XXX = 1\n", 1, "marker"),
    ("raise NotImplementedError\n", 1, "not-implemented"),
    ("def f():\n    raise NotImplementedError('soon')\n", 2, "not-implemented"),
    ("state = States.NOT_IMPLEMENTED\n", 1, "not-implemented"),
    ("def f(): pass\n", 1, "pass"),
    ("def f():\n    '''It says.'''\n    pass\n", 3, "pass"),
    ("async def f():\n    pass  # nothing\n", 2, "pass"),
    ("if x:\n    pass\nelse:\n    y()\n", 2, "pass"),
    ("if x:\n    y()\nelse:\n    pass", 4, "pass"),
    ("try:\n    pass\nfinally:\n    y()\n", 2, "pass"),
    ("match x:\n    case 1:\n        pass\n", 3, "pass"),
    ("while True:\n    pass\n", 2, "pass"),
    ("if x:\n    ...\n", 2, "pass"),
    ("def f(x=[y\nfor y in z]):\n    pass\n", 3, "pass"),
    ("@group(1).wrap(2)\ndef f():\n    'Words.'\n", 2, "empty-body"),
    ("assert False\n", 1, "assert-false"),
    ("assert False, 'unreachable'\n", 1, "assert-false"),
    ("assert(False)\n", 1, "assert-false"),
    ("assert 0\n", 1, "assert-false"),
    ("assert None\n", 1, "assert-false"),
    ("assert not True\n", 1, "assert-false"),
    ("assert not 1\n", 1, "assert-false"),
    ("assert \\\n  False\n", 1, "assert-false"),
    ('assert ""\n', 1, "assert-false"),
    ("def f(): ...\n", 1, "empty-body"),
    ("def f() -> int:\n    ...\n", 1, "empty-body"),
    ('def f():\n    """Only words."""\n', 1, "empty-body"),
    ('def f():\n    """Only words."""', 1, "empty-body"),
    ('def f():\n    """Only\n    words."""\n\n\nx = 1\n', 1, "empty-body"),
    ('def f(): "Only words."\n', 1, "empty-body"),
    ("def f():\n    'Only words.'\n", 1, "empty-body"),
    ('def f():\n    r"""Only "quoted" words."""  # so\n\n    # and so\nx = 1\n', 1, "empty-body"),
    ('def f():\n    ("Only words.")\nx = 1\n', 1, "empty-body"),
    ('def f(\n  a\n) -> X:\n    # y\n\n    """Only words."""\n\n\ndef g():\n    return 1\n', 1, "empty-body"),
    ('class A:\n    def f(self):\n        """Words."""\n\n    def g(self):\n        h()\n', 2, "empty-body"),
    ('class A(B):\n    """It is."""\n\n    def f(self): ...\n', 4, "empty-body"),
    ("class P(Protocol):\n    def f(self):\n        def g(): ...\n        return g\n", 3, "empty-body"),
    ("@pytest.mark.skip\ndef test_a():\n    go()\n", 1, "skip"),
    ("@mark.skip(reason='slow')\ndef test_a():\n    go()\n", 1, "skip"),
    ("pytestmark = pytest.mark.skip\n", 1, "skip"),
    ("pytestmark = [pytest.mark.skipif(True, reason='x')]\n", 1, "skip"),
    ("pytestmark = pytest.mark.skipif(condition=True, reason='x')\n", 1, "skip"),
    ("@unittest.skip('no')\nclass T: x = 1\n", 1, "skip"),
    ("def test_a():\n    pytest.skip('later')\n", 2, "skip"),
    ("def test_a():\n    go()\n    with x:\n        pytest.skip('later')\n", 4, "skip"),
    ("pytest.skip('all', allow_module_level=True)\n", 1, "skip"),
    ("class T:\n    def test_a(self):\n        self.skipTest('x')\n", 3, "skip"),
    ("def test_a():\n    raise unittest.SkipTest('x')\n", 2, "skip"),
    ("@pytest.mark.xfail\ndef test_a():\n    go()\n", 1, "xfail"),
    ("@pytest.mark.xfail(strict=True, reason='x')\ndef test_a():\n    go()\n", 1, "xfail"),
    ("@pytest.mark.xfail(True, reason='x')\ndef test_a():\n    go()\n", 1, "xfail"),
    ("p = pytest.param(1, marks=pytest.mark.xfail)\n", 1, "xfail"),
    ("@unittest.expectedFailure\ndef test_a():\n    go()\n", 1, "xfail"),
    ("def test_a():\n    pytest.xfail('known')\n", 2, "xfail"),
    ("try:\n    x()\nexcept:\n    pass\n", 3, "swallowed"),
    ("try:\n    x()\nexcept: pass\n", 3, "swallowed"),
    ("try:\n    x()\nexcept Exception as problem:\n    # fine\n    ...\n", 3, "swallowed"),
    ("try:\n    x()\nexcept (ValueError, Exception):\n    pass\n", 3, "swallowed"),
    ("try:\n    x()\nexcept (\n    ValueError,\n    builtins.BaseException,\n):\n    pass\n", 3, "swallowed"),
    ("for i in x:\n    try:\n        x()\n    except Exception:\n        continue\n", 4, "swallowed"),
    ("def f():\n  try:\n    x()\n  except Exception:\n        # x\n\n        return None\n", 4, "swallowed"),
    ("def f():\n    try:\n        x()\n    except Exception:\n        return  # fine\n", 4, "swallowed"),
    ("def f():\n    try:\n        x()\n    except Exception: return\n", 4, "swallowed"),
    ("try:\n    x()\nexcept* Exception:\n    pass\n", 3, "swallowed"),
    ("with suppress(Exception):\n    x()\n", 1, "swallowed"),
    ("with contextlib.suppress(\n    OSError, Exception\n):\n    x()\n", 1, "swallowed"),
    ("x = 1 # TODO\ndef (:\n", 1, "unreadable"),
]  # fmt: skip

NOT_FOUND = [
    "x = 'TODO'\n",
    '"""TODO, in a docstring."""\n',
    "x = f'FIXME {y} XXX'\n",
    "TODOS = 1\n",
    "# todo in small letters, and PREFIX_TODO\n",
    "s = '''\ndef f(): pass\nassert False\n'''\n",
    "class A(Exception):\n    pass\n",
    "class A:\n    ...\n",
    "for _ in pieces:\n    pass\n",
    "while step():\n    pass\n",
    "with open_home():\n    pass\n",
    "try:\n    x()\nexcept OSError:\n    pass\n",
    "try:\n    x()\nexcept Exception:\n    say()\n",
    "try:\n    x()\nexcept Exception as problem:\n    return_code = 1\n",
    "with suppress(FileNotFoundError):\n    x()\n",
    "def f():\n    '''Words.'''\n    return 1\n",
    "def f():\n    '''Words.'''\n\n    # More words.\n    return 1\n",
    "class P(Protocol):\n    def f(self) -> int: ...\n    def g(self):\n        '''Words.'''\n",
    "class P(Protocol[T]):\n    def f(self) -> int: ...\n",
    "class P(typing.Protocol):\n    def f(self) -> int: ...\n",
    "class B(ABC):\n    def f(self): ...\n",
    "class B(metaclass=ABCMeta):\n    def f(self): pass\n",
    "class B:\n    @abc.abstractmethod\n    def f(self): ...\n",
    "@overload\ndef f(x: int) -> int: ...\n",
    "class E(HomeError):\n    def __init__(self):\n        '''Nothing to keep.'''\n",
    "@click.group('x')\ndef command():\n    '''Help.'''\n",
    "assert x, False\n",
    "assert not x\n",
    "assert 0 < x\n",
    "@pytest.mark.skipif(sys.platform == 'x', reason='x')\ndef test_a():\n    go()\n",
    "@pytest.mark.skipif('sys.platform == 1', reason='x')\ndef test_a():\n    go()\n",
    "@pytest.mark.xfail(sys.platform == 'x', reason='x')\ndef test_a():\n    go()\n",
    "def test_a():\n    if not tool:\n        pytest.skip('no tool')\n    go()\n",
    "def test_a():\n    if tool:\n        return\n    pytest.skip('no tool')\n",
    "x = pytest.importorskip('y')\n",
    "T: tuple[int, ...] = ()\n",
    "",
    "\xff".encode("latin-1").decode("latin-1"),
]


@pytest.mark.parametrize(("source", "line", "rule"), FOUND)
def test_what_is_not_done_is_named_by_line_and_rule(source: str, line: int, rule: str) -> None:
    assert read_python(source.encode()) == [(line, rule)]


@pytest.mark.parametrize("source", NOT_FOUND)
def test_what_is_done_or_only_quoted_is_left_alone(source: str) -> None:
    assert read_python(source.encode()) == []


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("source", [row[0] for row in FOUND])
def test_the_first_look_lets_nothing_through(source: str, ending: str) -> None:
    inside = "def outer():\n" + "".join(f"    {line}\n" for line in source.splitlines())

    assert is_suspect(source.replace("\n", ending).encode())
    assert is_suspect(f"import x\n\n{source}\n\ny = 1\n".replace("\n", ending).encode())
    assert is_suspect(inside.replace("\n", ending).encode())


@pytest.mark.slow
def test_the_first_look_agrees_with_the_full_reading_of_every_file_here() -> None:
    listed = subprocess.run(["git", "ls-files", "-z", "*.py"], cwd=ROOT, capture_output=True, check=True)
    sources = [(ROOT / name).read_bytes() for name in listed.stdout.decode().split("\0") if name]

    assert [one[:80] for one in sources if not is_suspect(one) and read_python(one)] == []


def test_each_rule_is_found_by_some_row_above() -> None:
    assert {rule for _, _, rule in FOUND} == set(RULES)


@pytest.mark.parametrize(
    "raw", [b"TODO \xff\xfe", b"# TODO\nx = (" + b"(" * 5000, b"# -*- coding: nonesuch -*-\n# TODO\n"]
)
def test_a_suspect_that_does_not_parse_is_a_finding_and_never_a_crash(raw: bytes) -> None:
    assert is_suspect(raw)
    assert read_python(raw) == [(1, "unreadable")]
