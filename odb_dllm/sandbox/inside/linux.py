"""The few system calls that Python lacks, each raising ``OSError`` that names what failed."""

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP = 1, 4, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 36, 38, 22

_MOUNT_SETATTR = 442  # the same number on every architecture
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    """Return ``result`` of a C call; raise ``OSError`` for the errno of ``what`` when it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, what: str, *arguments: "int | bytes | ctypes.Array[ctypes.c_char] | None") -> int:
    """Make system call ``number``; integers are passed as 64 bits, bytes and None as pointers."""
    as_c = (ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    return checked(_libc.syscall(ctypes.c_long(number), *as_c), what)


def prctl(option: int, value: "int | None" = 0, more: "bytes | ctypes.Array[ctypes.c_char] | None" = None) -> None:
    """Set a property of this process."""
    unused = ctypes.c_ulong(0)
    checked(_libc.prctl(option, ctypes.c_ulong(value or 0), more, unused, unused), f"prctl({option})")


def unshare(flags: int, name: str) -> None:
    """Leave the namespaces of ``flags`` for new ones."""
    checked(_libc.unshare(flags), f"new {name} namespace")


def set_host_name(name: str) -> None:
    """Name the machine, in this UTS namespace."""
    checked(_libc.sethostname(name.encode(), ctypes.c_size_t(len(name))), "set the host name")


def mount(source: str, target: str, kind: "str | None", flags: int, data: str = "") -> None:
    """Mount ``source`` of file system ``kind`` on ``target``."""
    names = [each.encode() if each is not None else None for each in (source, target, kind)]
    result = _libc.mount(*names, ctypes.c_ulong(flags), data.encode() or None)
    checked(result, f"mount {source or kind} on {target}")


def bind(source: str, target: str) -> None:
    """Show the file or folder ``source`` at ``target`` too, with what is mounted below it."""
    mount(source, target, None, MS_BIND | MS_REC)


def read_only(target: str) -> None:
    """Make the mount at ``target`` and those below it read-only, without devices or setuid programs."""
    wanted = (_ATTR_RDONLY | _ATTR_NOSUID).to_bytes(8, "little") + bytes(24)
    try:
        syscall(_MOUNT_SETATTR, "mount_setattr", _AT_FDCWD, target.encode(), _AT_RECURSIVE, wanted, 32)
    except OSError:  # before Linux 5.12: the mount itself, keeping the flags that a user namespace locks
        kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
        mount("", target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


def change_root(folder: str) -> None:
    """Make ``folder``, a mount point, the root of this mount namespace and forget the old one."""
    os.chdir(folder)
    if _libc.pivot_root(b".", b".") == 0:
        checked(_libc.umount2(b".", MNT_DETACH), "leave the old root")
    else:  # the root of an initramfs cannot be swapped; without capabilities there is no way back either
        os.chroot(".")
    os.chdir("/")


def drop_capabilities() -> None:
    """Give up every capability, and those that a later exec could give back."""
    for capability in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), None, None, None) < 0:
            break  # past the last one, or not entitled to shrink the set, which no_new_privs makes harmless
    header = (0x20080522).to_bytes(4, "little") + bytes(4)
    checked(_libc.capset(header, bytes(24)), "drop capabilities")
