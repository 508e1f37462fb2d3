"""System calls that sandboxed code does not get, as the bytes of a kernel filter.

The filter denies by a list: what sees other processes, makes namespaces, mounts,
devices or kernel state, or holds memory that no sampler counts. It also denies
every socket but those of files, every second process where one is the limit,
files that lend their owner's rights, and calls by another calling convention.
Everything else is allowed: this wall stands behind those of launch.py.

A denied call fails with EPERM. `clone3` and `openat2` do not exist: a filter cannot
see their flags, and the C library then takes `clone` and `openat`.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping

__all__ = ["DENIED", "filter_bytes"]

# Name -> number on x86_64, on aarch64 (0: not there).
DENIED: Mapping[str, tuple[int, int]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, 0),
    "iopl": (172, 0),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "mknod": (133, 0),
    "mknodat": (259, 33),
    "modify_ldt": (154, 0),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "shmget": (29, 194),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
_FORKS = {"fork": (57, 0), "vfork": (58, 0)}
_CLONE, _SOCKET, _IOCTL = (56, 220), (41, 198), (16, 29)
_ABSENT = {"clone3": (435, 435), "openat2": (437, 437)}
# Numbers, then which arguments are the flags (None: it always makes or changes a file) and the mode.
_MODES: Mapping[str, tuple[tuple[int, int], int | None, int]] = {
    "chmod": ((90, 0), None, 1),
    "creat": ((85, 0), None, 1),
    "fchmod": ((91, 52), None, 1),
    "fchmodat": ((268, 53), None, 2),
    "fchmodat2": ((452, 452), None, 2),
    "open": ((2, 0), 1, 2),
    "openat": ((257, 56), 2, 3),
}
_MACHINES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_OTHER_CONVENTION = 0x4000_0000  # x86_64 numbers from here on are calls with 32-bit pointers.

_LOAD, _IF_EQUAL, _IF_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR = 0x7FFF_0000, 0x0005_0000
_NUMBER, _MACHINE, _ARGUMENTS, _ARGUMENT_BYTES = 0, 4, 16, 8  # Offsets in what a filter is shown.
_NAMESPACES = 0x7E02_0000  # Every CLONE_NEW flag that clone takes.
_THREAD = 0x0001_0000
_FILES_ONLY = 1  # AF_UNIX
_CREATES = 0x40  # O_CREAT
_LENDS = 0o6000  # Set-user-id and set-group-id.
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing into somebody's terminal.

_Rule = tuple[int, int, int, int]
_REFUSE: _Rule = (_RETURN, 0, 0, _ERROR | errno.EPERM)
_PASS: _Rule = (_RETURN, 0, 0, _ALLOW)


def filter_bytes(machine: str, *, may_fork: bool) -> bytes:
    """The filter for this machine. KeyError for a machine whose numbers nobody wrote down."""
    convention = _MACHINES[machine]
    column = list(_MACHINES).index(machine)
    rules: list[_Rule] = [(_LOAD, 0, 0, _MACHINE), (_IF_EQUAL, 1, 0, convention), _REFUSE]
    rules += [(_LOAD, 0, 0, _NUMBER), (_IF_LEAST, 0, 1, _OTHER_CONVENTION), _REFUSE]
    for numbers in [*DENIED.values(), *(() if may_fork else _FORKS.values())]:
        if numbers[column]:
            rules += [(_IF_EQUAL, 0, 1, numbers[column]), _REFUSE]
    for numbers in _ABSENT.values():
        rules += [(_IF_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    for numbers, flags, mode in _MODES.values():
        makes = [] if flags is None else [_argument(flags), (_IF_ANY_BIT, 1, 0, _CREATES), _PASS]
        rules += _when(
            numbers[column], [*makes, _argument(mode), (_IF_ANY_BIT, 0, 1, _LENDS), _REFUSE, _PASS]
        )
    rules += _when(_SOCKET[column], [_argument(0), (_IF_EQUAL, 1, 0, _FILES_ONLY), _REFUSE, _PASS])
    typing = [rule for word in _TERMINAL_INPUT for rule in ((_IF_EQUAL, 0, 1, word), _REFUSE)]
    rules += _when(_IOCTL[column], [_argument(1), *typing, _PASS])
    process: list[_Rule] = [] if may_fork else [(_IF_ANY_BIT, 1, 0, _THREAD), _REFUSE]
    rules += _when(
        _CLONE[column],
        [_argument(0), (_IF_ANY_BIT, 0, 1, _NAMESPACES), _REFUSE, *process, _PASS],
    )
    return b"".join(struct.pack("<HBBI", *rule) for rule in [*rules, _PASS])


def _when(number: int, rules: list[_Rule]) -> list[_Rule]:
    """These rules for this call; each way through them returns. No rules for a call that is not there."""
    return [(_IF_EQUAL, 0, len(rules), number), *rules] if number else []


def _argument(index: int) -> _Rule:
    return (_LOAD, 0, 0, _ARGUMENTS + _ARGUMENT_BYTES * index)
