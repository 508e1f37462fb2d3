"""Signed decisions: one shape for every yes or no that a person says.

An approval, a waiver, an override, an acceptance of loss: each names its subject
and binds the hashes of exactly what was looked at. It holds until it expires, as
long as every bound hash is what it was, for its own subject, under a key that the
history knows as a person's and that was not revoked. Whether it says yes is
another question: `allows` answers both.

Programs and agents cannot sign, nor can anybody over an agent's channel. Who may
decide what is the caller's rule; nothing here reads a clock, a file or a ledger.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sterling.kernel.batch import Actor
from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.contracts import RecordInvalid
from sterling.kernel.errors import SterlingError
from sterling.kernel.hashing import is_address
from sterling.kernel.integrity import KeyUnknown
from sterling.kernel.key_history import KeyHistory, KeyRevoked
from sterling.kernel.signing import KeyPurpose, Signer, base64_text, parse_signature, verify_signature

__all__ = ["Bound", "Standing", "decision_holds", "sign_decision"]

_TAG = b"sterling/decision/1\x00"
_SIGNED = ("subject", "verdict", "binds", "reason", "expires_us", "key")
_FIELDS = frozenset((*_SIGNED, "signature"))
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")


@dataclass(frozen=True, slots=True)
class Bound:
    """What a decision is about, as it is now: a subject, and hashes in hex by name."""

    subject: str
    binds: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a decision holds, why not, and whether it holds and says yes."""

    holds: bool
    allows: bool
    reason: str = ""

    def __bool__(self) -> bool:
        raise TypeError("ask whether it holds or whether it allows")


def sign_decision(
    home_id: str,
    about: Bound,
    verdict: str,
    reason: str,
    expires_us: int,
    key: Signer,
    actor: Actor,
    *,
    is_over_agent_channel: bool = False,
) -> dict[str, Json]:
    """The payload of a `decision.signed` entry about `about.subject`; `verdict` is yes or no.

    Errors: KeyPurpose unless a person signs with a person's key, and not over an agent's
            channel; RecordInvalid when it binds nothing or says nothing.
    """
    if actor.type != "person" or not key.purpose.startswith("person:"):
        raise KeyPurpose(f"expected a person with a key of their own, found {actor.type} with {key.purpose}")
    if is_over_agent_channel:
        raise KeyPurpose("expected a person's own terminal, found the channel of an agent")
    payload: dict[str, Json] = {
        "subject": about.subject,
        "verdict": verdict,
        "binds": dict(sorted(about.binds.items())),
        "reason": reason,
        "expires_us": expires_us,
        "key": key.public_key.hex(),
    }
    if not _is_shaped(payload):
        wanted = "yes or no, a subject, a reason, an end and 1 to 64 hashes"
        raise RecordInvalid("decision.signed", "", "shape", "otherwise", wanted)
    return payload | {"signature": base64_text(key.sign(_message(home_id, payload)))}


def decision_holds(decision: Json, current: Bound, now_us: int, history: KeyHistory) -> Standing:
    """Whether a decision stands now; it never raises for what the decision holds.

    `decision` is the payload of a `decision.signed` entry of the history's home.
    A rotated key's decisions go on to hold; a revoked key's do not, whenever they were made.
    """
    because = _void(decision, current, now_us, history)
    return Standing(not because, not because and decision["verdict"] == "yes", because)


def _void(decision: Json, current: Bound, now_us: int, history: KeyHistory) -> str:
    """Why a decision does not hold; empty when it does."""
    if not isinstance(decision, dict) or set(decision) != _FIELDS or not _is_shaped(decision):
        return "it is no signed decision"
    if decision["subject"] != current.subject:
        return f"it is about {decision['subject']:.80}, not about {current.subject:.80}"
    if now_us >= decision["expires_us"]:
        return f"it expired at {decision['expires_us']}"
    binds = decision["binds"]
    names = sorted({*binds, *current.binds})
    changed = [name for name in names if binds.get(name) != current.binds.get(name)]
    if changed:
        return f"not what was looked at any more: {', '.join(changed)}"
    key = bytes.fromhex(decision["key"])
    try:
        _require_person(history, key)
        verify_signature(key, parse_signature(decision["signature"]), _message(history.home_id, decision))
    except SterlingError as problem:
        return problem.message
    return ""


def _require_person(history: KeyHistory, key: bytes) -> None:
    """Refuse a key that is no person's, or that was revoked. Errors: KeyUnknown, KeyPurpose, KeyRevoked."""
    span = history.span_of(key)
    if span is None:
        raise KeyUnknown(f"expected the key of a known person, found {key.hex()[:16]}")
    if not span.purpose.startswith("person:"):
        raise KeyPurpose(f"expected a person's key, found one for {span.purpose}")
    if span.revoked_from is not None:
        raise KeyRevoked(f"expected a key in force, found one of {span.purpose} that was revoked")


def _is_shaped(payload: dict[str, Any]) -> bool:
    binds = payload["binds"]
    return (
        payload["verdict"] in ("yes", "no")
        and isinstance(binds, dict)
        and 1 <= len(binds) <= 64
        and all(isinstance(name, str) and _NAME.fullmatch(name) for name in binds)
        and all(isinstance(value, str) and is_address(value) for value in binds.values())
        and all(isinstance(payload[name], str) and payload[name].strip() for name in ("subject", "reason"))
        and type(payload["expires_us"]) is int
        and payload["expires_us"] > 0
        and isinstance(payload["key"], str)
        and is_address(payload["key"])
    )


def _message(home_id: str, payload: Mapping[str, Json]) -> bytes:
    return _TAG + canonical_bytes({name: payload[name] for name in _SIGNED} | {"home_id": home_id})
