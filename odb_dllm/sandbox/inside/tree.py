"""The file system that a sample sees: Python's standard library, the C library, an empty working directory."""

import os
import sys

from . import linux

WORK = "/sample"
_LIBRARIES = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo"]
_STORES = ["/nix/store", "/gnu/store"]  # where those distributions keep every library
DEVICES = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"]
_PACKAGES = ["site-packages", "dist-packages"]
_MOUNT_POINT = "/proc"  # exists everywhere, and a sample shall not have what it covers


def interpreter() -> str:
    """The Python that runs a sample: this one, past links and virtual environments."""
    return os.path.realpath(sys.executable)


def readable() -> list[str]:
    """Paths that an interpreter needs; none is below another."""
    standard = os.path.dirname(os.path.realpath(os.__file__))
    prefixes = [os.path.join(prefix, "lib") for prefix in (sys.base_prefix, sys.base_exec_prefix)]
    own = [path for path in prefixes if path not in ("/usr/lib", "/lib")]
    wanted = [interpreter(), *own, standard, *_LIBRARIES, *_STORES]
    kept: list[str] = []
    for path in sorted({os.path.normpath(path) for path in wanted if os.path.exists(path)}):
        if not any(path.startswith(above + os.sep) for above in kept if not os.path.islink(above)):
            kept.append(path)
    return kept


def enter(owner: tuple[int, int], megabytes: int) -> None:
    """Move this process into a root of its own, read-only but for ``WORK``; it must be single-threaded.

    owner: user and group of the working directory. megabytes: its size; it holds no executable files.
    """
    linux.unshare(linux.CLONE_NEWNS, "mount")
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    paths = readable()
    root = _MOUNT_POINT
    linux.mount("sandbox", root, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755,size=1m")
    for path in paths:
        _show(path, root)
    for path in DEVICES:
        _file(root + path)
        linux.bind(path, root + path)
    for path in _package_folders(paths):
        linux.mount("empty", root + path, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_RDONLY, "size=4k")
    os.mkdir(root + WORK)
    options = f"mode=700,size={megabytes}m,nr_inodes=4096,uid={owner[0]},gid={owner[1]}"
    linux.mount("work", root + WORK, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, options)
    linux.mount("", root, None, linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV)
    linux.change_root(root)
    os.chdir(WORK)


def _show(path: str, root: str) -> None:
    target = root + path
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(path):  # /lib -> usr/lib
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        _file(target)
    linux.bind(path, target)
    linux.read_only(target)


def _file(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb"):
        pass


def _package_folders(paths: list[str]) -> list[str]:
    """Installed packages below ``paths``: the project may be among them."""
    standard = os.path.dirname(os.path.realpath(os.__file__))
    folders = [os.path.join(standard, name) for name in _PACKAGES]
    folders += [os.path.join(os.path.dirname(standard), "python3", name) for name in _PACKAGES]
    return [each for each in folders if os.path.isdir(each) and any(each.startswith(p + os.sep) for p in paths)]
