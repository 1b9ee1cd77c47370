"""Shared libraries that a program and its modules link to, as the system's loader finds them."""

import os
import re
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

_LISTED = re.compile(r"^\s*(?:\S.*? => )?(/.+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_LOADER_ENTRY = 3  # PT_INTERP, the program header that names the loader
_TIMEOUT_S = 20.0
# found by name while a program runs: the C library needs the first to end a thread
_LOADED_LATER = ("libgcc_s.so.1",)


def loader(program: Path) -> str | None:
    """Return the path of the loader that a 64-bit ELF program names; None for a static one."""
    with program.open("rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02":
            return None
        table, size, count = struct.unpack_from("=Q14xHH", head, 32)
        for number in range(count):
            file.seek(table + number * size)
            kind, start, length = struct.unpack_from("=I4xQ16xQ", file.read(size))
            if kind == _LOADER_ENTRY:
                file.seek(start)
                return os.fsdecode(file.read(length).rstrip(b"\0"))
    return None


def needed(program: Path, root: Path, modules: Iterable[Path]) -> dict[str, Path]:
    """List the libraries that a program needs together with modules that it may load.

    Nothing is executed but the loader, which lists what it would map.

    Args:
        program: an ELF executable that the loader starts.
        root: the folder that the modules lie in.
        modules: shared objects below `root`.

    Returns:
        The file of each library by the name that it is looked up by; the loader, the modules
        themselves, and libraries that are not installed are left out.
    """
    interpreter = loader(program)
    if interpreter is None:
        return {}
    preload = " ".join(f"./{module.relative_to(root)}" for module in modules)
    environment = {"LD_PRELOAD": preload}
    if "LD_LIBRARY_PATH" in os.environ:  # some interpreters are found by it alone
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    listing = subprocess.run(  # noqa: S603  # the loader that our own interpreter names
        [interpreter, "--list", str(program)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=_TIMEOUT_S,
        check=False,
    )
    paths = {Path(path).name: Path(path) for path in _LISTED.findall(listing.stdout)}
    paths.pop(Path(interpreter).name, None)
    for c_library in [path for path in paths.values() if path.name.startswith("libc.")]:
        beside = (c_library.with_name(name) for name in _LOADED_LATER)
        paths |= {path.name: path for path in beside if path.exists()}
    return paths
