"""The channel: who may ask, what is refused before it is read, and what happens when nobody listens."""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sterling.packs.autopilot.authority.asks import Answer, Ask
from sterling.packs.autopilot.authority.channel import FRAME_BYTES_MAX, Channel, ask_authority
from sterling.packs.autopilot.errors import AuthorityGone


def echo(ask: Ask) -> Answer:
    return Answer("ok", True, {"verb": ask.verb, "seen": ask.seen})


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[Channel]:
    opened = Channel(tmp_path / "run", echo)
    yield opened
    opened.close()


def connect(channel: Channel) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.settimeout(10)
    descriptor = os.open(channel.path.parent, os.O_RDONLY | os.O_DIRECTORY)
    peer.connect(f"/proc/self/fd/{descriptor}/{channel.path.name}")
    os.close(descriptor)
    return peer


def test_an_ask_is_answered(channel: Channel) -> None:
    answer = ask_authority(channel.path, {"verb": "status", "seen": 4})

    assert answer == {
        "code": "ok",
        "ok": True,
        "result": {"verb": "status", "seen": 4},
        "cites": [],
        "ledger": {},
    }


def test_the_socket_is_for_its_owner_alone(channel: Channel) -> None:
    mode = channel.path.stat().st_mode

    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600


def test_a_path_longer_than_an_address_can_hold_works(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["a-rather-long-name-of-a-folder"] * 6) / "run"

    channel = Channel(folder, echo)
    answer = ask_authority(channel.path, {"verb": "status"})
    channel.close()

    assert len(str(channel.path)) > 108 and answer["ok"]


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ([], "list"),
        ({}, "verb"),
        ({"verb": "delete_everything"}, "delete_everything"),
        ({"verb": "status", "id": "a b"}, "id"),
        ({"verb": "status", "id": "x" * 81}, "id"),
        ({"verb": "status", "seen": "7"}, "seen"),
        ({"verb": "status", "seen": True}, "seen"),
        ({"verb": "status", "surprise": 1}, "surprise"),
        ({"verb": "status", "session": 5}, "session"),
        ({"verb": "request_advance"}, "to"),
        ({"verb": "request_advance", "arguments": {"to": 5}}, "to"),
        ({"verb": "request_advance", "arguments": {"to": "x" * 5000}}, "to"),
        ({"verb": "request_advance", "arguments": {"to": "SPEC\x00"}}, "to"),
        ({"verb": "request_advance", "arguments": {"to": "SPEC", "evidence": "r-1"}}, "evidence"),
        ({"verb": "request_backtrack", "arguments": {"to": "SPEC", "cites": ["x"] * 201}}, "cites"),
        ({"verb": "status", "arguments": {"to": "SPEC"}}, "to"),
        ({"verb": "status", "arguments": []}, "arguments"),
    ],
)
def test_what_is_no_ask_is_refused_by_its_field(channel: Channel, document: Any, found: str) -> None:
    given = document if not isinstance(document, dict) else {"id": "ask-1", **document}
    body = json.dumps(given).encode()
    with connect(channel) as peer:
        peer.sendall(struct.pack(">I", len(body)) + body)
        head = peer.recv(4, socket.MSG_WAITALL)
        answer = json.loads(peer.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL))

    assert answer["code"] == "task.request-invalid" and answer["ok"] is False
    assert found in json.dumps(answer["result"])


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"null", b"[" * 100_000])
def test_bytes_that_are_no_json_are_refused_and_the_next_ask_is_answered(
    channel: Channel, body: bytes
) -> None:
    with connect(channel) as peer:
        peer.sendall(struct.pack(">I", len(body)) + body)
        head = peer.recv(4, socket.MSG_WAITALL)
        answer = json.loads(peer.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL))

    assert answer["code"] == "task.request-invalid"
    assert ask_authority(channel.path, {"verb": "status"})["ok"]


def test_a_frame_over_the_limit_is_not_read(channel: Channel) -> None:
    with connect(channel) as peer:
        peer.sendall(struct.pack(">I", FRAME_BYTES_MAX + 1))
        assert peer.recv(4) == b""

    assert ask_authority(channel.path, {"verb": "status"})["ok"]


def test_a_torn_frame_and_a_peer_that_says_nothing_hurt_nobody(channel: Channel) -> None:
    with connect(channel) as silent, connect(channel) as torn:
        torn.sendall(struct.pack(">I", 50) + b"{")
        torn.shutdown(socket.SHUT_WR)
        assert torn.recv(4) == b""
        assert ask_authority(channel.path, {"verb": "status"})["ok"]
        assert silent.fileno() > 0


def test_nobody_there_is_a_typed_refusal(tmp_path: Path) -> None:
    with pytest.raises(AuthorityGone):
        ask_authority(tmp_path / "run" / "authority", {"verb": "status"})


def test_after_the_end_the_left_socket_is_a_typed_refusal_and_no_obstacle(tmp_path: Path) -> None:
    first = Channel(tmp_path / "run", echo)
    first.close()

    with pytest.raises(AuthorityGone):
        ask_authority(first.path, {"verb": "status"})
    second = Channel(tmp_path / "run", echo)
    answered = ask_authority(second.path, {"verb": "status"})["ok"]
    second.close()

    assert answered


def test_a_defect_in_an_answer_is_not_swallowed(tmp_path: Path) -> None:
    def broken(ask: Ask) -> Answer:
        raise ValueError("a defect")

    channel = Channel(tmp_path / "run", broken)
    with pytest.raises(AuthorityGone):
        ask_authority(channel.path, {"verb": "status"})

    with pytest.raises(ValueError, match="a defect"):
        channel.close()
