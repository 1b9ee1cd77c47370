"""Memory that this process may use, and a limit on it while a user's SQL query runs."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from workbench.errors import QueryError

try:
    import resource
except ImportError:  # not a POSIX system: there is no such bound
    resource = None  # type: ignore[assignment]  # the one platform switch of this module

_CGROUP = Path("/sys/fs/cgroup/memory.max")
_STATUS = Path("/proc/self/status")
_UNKNOWN = 8 << 30  # taken where the system does not say


def total_bytes() -> int:
    """Return how much memory this machine has, or this container may use, in bytes."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not a POSIX system
        return _UNKNOWN
    with contextlib.suppress(OSError, ValueError):  # no cgroup of version 2, or "max"
        total = min(total, int(_CGROUP.read_text(encoding="ascii")))
    return total


def _mapped_bytes() -> int:
    """Return the bytes of private writable memory of this process; 0 where unknown."""
    with contextlib.suppress(OSError, ValueError):
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) << 10
    return 0


class _Bound:
    """Limit on this process's memory, set by the first query in progress and reset by the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_queries = 0
        self._before: tuple[int, int] | None = None  # the limits that were in force without it

    def enter(self) -> None:
        with self._lock:
            self._n_queries += 1
            if self._n_queries > 1 or resource is None:
                return
            soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
            total = total_bytes()
            wanted = max(total * 3 // 4, _mapped_bytes() + total // 4)
            for known in (soft, hard):
                if known != resource.RLIM_INFINITY:
                    wanted = min(wanted, known)
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
                self._before = (soft, hard)

    def leave(self) -> None:
        with self._lock:
            self._n_queries -= 1
            if not self._n_queries and self._before is not None:
                resource.setrlimit(resource.RLIMIT_DATA, self._before)
                self._before = None


_BOUND = _Bound()


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Bound this process's memory by the system for the length of the block.

    Some functions of DuckDB, such as `repeat`, pass its own limit by; without a bound the system
    kills the process. The bound is three quarters of the memory; where the process has mapped more
    than half already, as with a model in it, a quarter beside that. Blocks may overlap, in threads
    too. Where the system knows no such bound, there is none.

    Raises:
        QueryError: an allocation was refused.
    """
    _BOUND.enter()
    try:
        yield
    except MemoryError as error:
        raise QueryError(
            "the query needs more memory than it may have; narrow the slice, or ask for shorter"
            " texts"
        ) from error
    finally:
        _BOUND.leave()
