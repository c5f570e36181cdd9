"""A filter of system calls: what no answer to a programming task needs fails with EPERM."""

import ctypes
import errno
import os
import struct

from . import linux

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Number on x86_64, on aarch64; None where it does not exist.
_REFUSED: dict[str, tuple[int, "int | None"]] = {
    # network, and shared memory that outlives a process
    "socket": (41, 198),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    # other processes, and their memory
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # files without a name, from which native code could be loaded
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    # large or seldom used parts of the kernel
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "fanotify_init": (300, 262),
    "personality": (135, 92),
    "syslog": (103, 116),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
}
_FORKS: dict[str, tuple[int, "int | None"]] = {"fork": (57, None), "vfork": (58, None)}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_PRLIMIT = (302, 261)
# Signals to a process; the first argument says which.
_SIGNALS = {"kill": (62, 129), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240)}
_TKILL = (200, 130)  # names a thread, of any process

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF: words of 32 bits
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in seccomp_data; both are little-endian
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000
_SECCOMP_MODE_FILTER = 2

Instruction = tuple[int, int, int, int]


def install(*, forks: bool, other_signals: bool) -> None:
    """Filter this process and all that it becomes; needs ``no_new_privs``.

    forks: whether it may have further processes (threads it may have in any case).
    other_signals: whether it may send signals to processes other than itself.
    Raises ``OSError`` where the architecture is unknown or the kernel lacks the filter.
    """
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no system call numbers for {machine}")
    code = b"".join(struct.pack("HBBI", *each) for each in program(machine, os.getpid(), forks, other_signals))
    held = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(held))
    linux.prctl(linux.PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header)


def program(machine: str, pid: int, forks: bool, other_signals: bool) -> list[Instruction]:
    """The filter's instructions: code, jump if true, jump if false, operand."""
    column = list(_ARCHITECTURES).index(machine)
    refused = {**_REFUSED, **({} if forks else _FORKS), **({} if other_signals else {"tkill": _TKILL})}
    lines: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        _result(_KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        lines += [(_AT_LEAST, 0, 1, _X32), _result(_ERRNO | errno.EPERM)]
    for numbers in refused.values():
        number = numbers[column]
        if number is not None:
            lines += [(_EQUAL, 0, 1, number), _result(_ERRNO | errno.EPERM)]
    # clone3 keeps its flags in memory, which a filter cannot read; without it the C library uses clone.
    lines += [(_EQUAL, 0, 1, _CLONE3[column]), _result(_ERRNO | errno.ENOSYS)]
    if not forks:
        lines += _first_argument(_CLONE[column], [(_ANY_BIT, 1, 0, _CLONE_THREAD)])
    lines += _first_argument(_PRLIMIT[column], [(_EQUAL, 2, 0, 0), (_EQUAL, 1, 0, pid)])
    if not other_signals:
        for numbers_of_signal in _SIGNALS.values():
            lines += _first_argument(numbers_of_signal[column], [(_EQUAL, 1, 0, pid)])
    return [*lines, _result(_ALLOW)]


def _first_argument(number: int, tests: list[Instruction]) -> list[Instruction]:
    """Call ``number`` is allowed where one of ``tests`` of its first argument jumps past the refusal."""
    return [
        (_EQUAL, 0, len(tests) + 3, number),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        *tests,
        _result(_ERRNO | errno.EPERM),
        _result(_ALLOW),
    ]


def _result(value: int) -> Instruction:
    return (_RETURN, 0, 0, value)
