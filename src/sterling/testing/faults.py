"""Faults of the disk, as the kernel of the operating system would report them.

`refuse` makes one system call fail with an error number in the calling thread,
through a seccomp filter, for as long as that thread lives. Other threads of the
process are not touched, so recovery can be watched in the same process.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

__all__ = ["CALLS", "refuse"]

_NUMBERS = {
    "x86_64": {"fsync": 74, "fdatasync": 75, "pwrite64": 18, "write": 1, "ftruncate": 77},
    "aarch64": {"fsync": 82, "fdatasync": 83, "pwrite64": 68, "write": 64, "ftruncate": 46},
}
CALLS = tuple(_NUMBERS["x86_64"])

_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ERROR, _ALLOW = 0x0005_0000, 0x7FFF_0000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2


def refuse(call: str, problem: int = errno.EIO) -> None:
    """From now on this call fails in this thread. `problem` 0 makes it return 0: a write that writes nothing.

    Errors: OSError when the system has no seccomp.
    """
    number = _NUMBERS[platform.machine()][call]
    rules = [(_LOAD, 0, 0, 0), (_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERROR | problem)]
    packed = b"".join(struct.pack("HBBI", *rule) for rule in [*rules, (_RETURN, 0, 0, _ALLOW)])
    code = ctypes.create_string_buffer(packed)
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(rules) + 1, ctypes.addressof(code)))
    system = ctypes.CDLL(None, use_errno=True)
    if system.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or system.prctl(
        _PR_SET_SECCOMP, _FILTER, program, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "expected seccomp filters, found none")
