"""The KV cache of all slots: keys and values of the sequences in one tensor a layer.

All sequences end at the same column; each begins at a column given by its length:

    column   0 1 2 3 4 5 6 7 | end
    row 0        a b c d e f |          first = 2
    row 1              x y z |

So a new token is written into one column for all, distances within a sequence are true (sliding
windows work), and the mask is one comparison. A sequence that leaves gives its row to the last one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

_BLOCK = 64  # columns that memory grows by, at least


class _Layer(DynamicLayer):  # type: ignore[misc]  # transformers is not read by mypy
    """One layer: (rows, heads, columns, dimension); `owner` knows which part is in use."""

    def __init__(self, owner: "SlotCache") -> None:
        super().__init__()
        self.owner = owner

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Write one column of new keys and values; returns all that are in use."""
        rows, width = key_states.shape[0], key_states.shape[-2]
        first, end = self.owner.first, self.owner.end
        self.keys[:rows, :, end : end + width] = key_states
        self.values[:rows, :, end : end + width] = value_states
        used = (slice(rows), slice(None), slice(first, end + width))
        return self.keys[used], self.values[used]

    def get_seq_length(self) -> int:
        """Return the columns in use."""
        return self.owner.end - self.owner.first

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return (columns in use with the new ones, 0)."""
        return self.get_seq_length() + query_length, 0


class SlotCache(Cache):  # type: ignore[misc]  # as above
    """The keys and values of all sequences that are being decoded.

    Attributes:
        starts: column of each row's first token.
        end: column that the next token is written to; all rows end before it.
    """

    def __init__(self, *, slots: int, limit_bytes: int | None = None) -> None:
        """Begin without memory; no more than `limit_bytes` are asked for."""
        super().__init__(layers=[])
        self.starts: list[int] = []
        self.end = 0
        self._slots, self._limit_bytes = slots, limit_bytes
        self._rows = self._columns = 0

    @property
    def first(self) -> int:
        """The first column in use."""
        return min(self.starts, default=self.end)

    @property
    def nbytes(self) -> int:
        """The memory that it holds."""
        return sum(x.nbytes for layer in self.layers for x in (layer.keys, layer.values))

    def inputs(self, device: Any) -> tuple[Any, Any]:
        """Return mask and positions of the next column.

        Returns:
            mask: (rows, columns in use + 1), 1 where a row has a token; None where all have.
            positions: (rows, 1).
        """
        starts = torch.tensor(self.starts, device=device)[:, None]
        positions = self.end - starts
        if min(self.starts) == max(self.starts):
            return None, positions
        columns = torch.arange(self.first, self.end + 1, device=device)
        return (columns >= starts).long(), positions

    def reserve(self, columns: int = 1) -> None:
        """Make sure that this many further columns can be written."""
        if self.end + columns > self._columns:
            self._move(self._rows, self.end - self.first + columns)

    def join(self, fresh: Any, lengths: Sequence[int]) -> None:
        """Take in sequences that were read (prefilled) together.

        Args:
            fresh: their cache, padded on the left to one width.
            lengths: tokens of each.
        """
        used = [layer for layer in fresh.layers if layer.is_initialized]
        width, rows = used[0].keys.shape[-2], len(self.starts) + len(lengths)
        if not self.layers:
            self._lay_out(used)
        if not self.starts:
            self.end = 0
        lacking = max(width - self.end, 0)  # the newcomers are longer than all that is there
        if rows > self._rows or self.end + lacking + 1 > self._columns or lacking:
            wide = max(self.end - self.first, width) + 1
            self._move(rows, wide, right=max(width - (self.end - self.first), 0))
        begin, old = self.end - width, len(self.starts)
        for layer, new in zip(self.layers, used, strict=True):
            layer.keys[old:rows, :, begin : self.end] = new.keys
            layer.values[old:rows, :, begin : self.end] = new.values
        self.starts += [self.end - n for n in lengths]

    def leave(self, row: int) -> None:
        """Free a row; the last one takes its place."""
        last = len(self.starts) - 1
        if row != last:
            part = slice(self.starts[last], self.end)
            for layer in self.layers:
                layer.keys[row, :, part] = layer.keys[last, :, part]
                layer.values[row, :, part] = layer.values[last, :, part]
            self.starts[row] = self.starts[last]
        self.starts.pop()

    def clear(self) -> None:
        """Release all memory."""
        self.layers: list[_Layer] = []
        self.starts = []
        self.end = self._rows = self._columns = 0

    def _lay_out(self, like: Sequence[Any]) -> None:
        for found in like:
            layer = _Layer(self)
            layer.keys, layer.values = (x[:0, :, :0] for x in (found.keys, found.values))
            layer.is_initialized = True
            self.layers.append(layer)

    def _move(self, rows: int, columns: int, *, right: int = 0) -> None:
        """Move what is in use to the left edge, or `right` of it, in memory that holds the size.

        Raises:
            torch.OutOfMemoryError: it would be more than the limit.
        """
        first, used = self.first, self.end - self.first
        rows = min(max(rows, 2 * self._rows if rows > self._rows else self._rows), self._slots)
        rows = max(rows, len(self.starts))
        wide = max(columns + max(columns // 2, _BLOCK), self._columns)
        if self._would_be(rows, wide) > (self._limit_bytes or float("inf")):
            wide = columns + _BLOCK
        needed = self._would_be(rows, wide)
        if self._limit_bytes is not None and needed > self._limit_bytes:
            raise torch.OutOfMemoryError(
                f"keys and values of {rows} sequences and {wide} tokens need {needed} bytes;"
                f" the limit is {self._limit_bytes}"
            )
        for layer in self.layers:
            layer.keys, layer.values = (
                self._moved(x, rows, wide, slice(first, first + used), right)
                for x in (layer.keys, layer.values)
            )
        shift = right - first
        self.starts = [s + shift for s in self.starts]
        self.end, self._rows, self._columns = right + used, rows, wide

    def _moved(self, old: Any, rows: int, wide: int, part: slice, right: int) -> Any:
        live = len(self.starts)
        if old.shape[0] == rows and old.shape[2] == wide:
            live_part = old[:live, :, part].clone()
            old[:live, :, right : right + live_part.shape[2]] = live_part
            return old
        new = old.new_zeros((rows, old.shape[1], wide, old.shape[3]))
        new[:live, :, right : right + part.stop - part.start] = old[:live, :, part]
        return new

    def _would_be(self, rows: int, columns: int) -> int:
        cell: int = sum(
            x.shape[1] * x.shape[3] * x.element_size()
            for layer in self.layers
            for x in (layer.keys, layer.values)
        )
        return rows * columns * cell
