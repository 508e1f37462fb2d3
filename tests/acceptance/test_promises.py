"""Two promises that no other file shows from end to end: local only, and nothing is deleted.

The first-day commands of every pack run on one home, each with an audit hook
that sees every connection, name look-up and listening socket of the program.
The hook does not reach workers, whose interpreter gets a fixed environment; for
these the second test says that no module of ours imports a client of the network.
"""

from __future__ import annotations

import ast
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest

import sterling
from sterling.cli.commands import root
from sterling.kernel.verify import verify_home
from sterling.packs.ci.door import make_sample

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
PACKAGE = Path(sterling.__file__).parent
OWN_BUSINESS = ("--set", "governor.cpu_limit_bp=0", "--set", "governor.ram_limit_bp=0")
NETWORK = {"aiohttp", "ftplib", "http", "httpx", "imaplib", "requests", "smtplib", "urllib3", "websockets"}
# Both name 127.0.0.1 and nothing else; the next test reads them.
LOOPBACK = {"kernel/adapters.py", "testing/receiver.py"}
DELETING = re.compile(r"^(clean|clear|delete|destroy|drop|erase|forget|gc|prune|purge|remove|reset|rm|wipe)$")

# Runs `sterling ARGV` and writes every network event that leaves the machine's own sockets to a file.
WATCHED = """
import json, socket, sys
seen = open(sys.argv[1], "a")
def watch(event, given):
    if event in ("socket.connect", "socket.bind", "socket.sendto"):
        if given[0].family == socket.AF_UNIX:
            return
    elif event not in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        return
    seen.write(json.dumps([event, repr(given[1:])]) + "\\n")
    seen.flush()
sys.addaudithook(watch)
from sterling.cli.main import main
main(sys.argv[2:])
"""


class World:
    """A home on which the first-day commands run, watched."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.seen = folder, folder / "home", folder / "seen"
        self.repository = make_sample(folder / "repository").repository

    def call(self, *argv: str, expect: int = 0) -> None:
        split = argv.index("--") if "--" in argv else len(argv)
        own = [*argv[:split], "--home", str(self.home), *argv[split:]]
        done = subprocess.run(
            [sys.executable, "-c", WATCHED, str(self.seen), *own],
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=200,
            check=False,
        )
        assert done.returncode == expect, (argv, done.stdout[-1500:], done.stderr[-1500:])

    def kept(self) -> dict[str, bytes]:
        """Every blob's bytes by name, and every entry's hash by index."""
        found = {
            str(file.relative_to(self.home)): file.read_bytes()
            for file in (self.home / "blobs").rglob("*")
            if file.is_file() and ".incoming" not in file.parts
        }
        with closing(sqlite3.connect(f"file:{self.home / 'ledger.db'}?mode=ro", uri=True)) as database:
            rows = database.execute('SELECT "index", hash FROM entries').fetchall()
        return found | {f"entry {index}": bytes(hash_) for index, hash_ in rows}


def _first_day(world: World) -> Iterator[tuple[tuple[str, ...], int]]:
    pictures = world.folder / "pictures"
    pictures.mkdir()
    for frame in sorted((SAMPLES / "recall" / "frames").glob("*.png"))[:3]:
        (pictures / frame.name).write_bytes(frame.read_bytes())
    table = str(SAMPLES / "insight" / "queue_log.csv")
    repo, tests = ("--repo", str(world.repository)), ("--", sys.executable, "-m", "pytest", "-q")
    agent = ("{python}", "-m", "sterling.testing.scripted_agent", str(SAMPLES / "autopilot" / "mend.toml"))
    profile = ("--profile", str(SAMPLES / "autopilot" / "profile.toml"), "--uncontained", "a test")
    yield ("init",), 0
    for _ in range(2):
        yield ("ingest", str(pictures)), 0
        yield ("drain", "--force", *OWN_BUSINESS), 0
        yield ("ask", "What is the phone number of the plumber?"), 1
        yield ("ci", "verdict", "--base", "main", "--at", "broken", *repo, *tests), 1
    yield ("analyze", table, "--out", "report-1"), 0
    yield ("analyze", table, "--out", "report-2"), 0
    yield ("task", "run", "Early returns cost nothing", *repo, *profile, "--", *agent), 0
    yield ("config", "set", "governor.cpu_limit_bp", "1"), 0
    yield ("recall", "index", "rebuild"), 0
    yield ("governor", "explain"), 0
    yield ("ledger", "checkpoint"), 0
    yield ("status",), 0
    yield ("verify", "--blobs", "--deep"), 0


@pytest.mark.slow
def test_a_first_day_calls_nobody_and_keeps_every_byte_it_ever_wrote(tmp_path: Path) -> None:
    world = World(tmp_path)
    before: dict[str, bytes] = {}

    for argv, exit in _first_day(world):
        world.call(*argv, expect=exit)
        after = world.kept()
        lost = [name for name, data in before.items() if after.get(name) != data]
        assert lost == [], (argv, lost)
        before = after

    lines = world.seen.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == []
    assert verify_home(world.home, blobs=True).exit == 0


def test_no_module_of_ours_can_call_out() -> None:
    bad = []
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.relative_to(PACKAGE).as_posix() in LOOPBACK:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name.split(".")[0] in NETWORK or name == "urllib.request":
                    bad.append(f"{file.relative_to(PACKAGE)}: {name}")

    assert bad == []


@pytest.mark.parametrize("name", sorted(LOOPBACK))
def test_what_speaks_http_speaks_to_this_machine_alone(name: str) -> None:
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    places = [
        node.args[0]
        for node in calls
        if isinstance(node.func, ast.Name) and node.func.id in ("HTTPConnection", "ThreadingHTTPServer")
    ]
    hosts = {ast.unparse(place.elts[0] if isinstance(place, ast.Tuple) else place) for place in places}

    assert hosts == {"'127.0.0.1'"}


def test_no_command_is_named_after_deleting() -> None:
    def walk(command: click.Command, path: str) -> Iterator[str]:
        yield path
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from walk(inner, f"{path} {name}")

    names = list(walk(root, "sterling"))

    assert len(names) > 40
    assert [name for name in names if DELETING.match(name.split()[-1])] == []


@pytest.mark.parametrize("words", ["DELETE FROM entries", "UPDATE entries SET kind = 'x'"])
def test_the_store_itself_refuses_to_delete_or_change_an_entry(tmp_path: Path, words: str) -> None:
    World(tmp_path).call("init")

    with closing(sqlite3.connect(tmp_path / "home" / "ledger.db")) as database:
        with pytest.raises(sqlite3.IntegrityError):
            database.execute(words)
        database.rollback()

    assert verify_home(tmp_path / "home").exit == 0
