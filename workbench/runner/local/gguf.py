"""GGUF files: their number format, and their conversion to safetensors in the user's cache."""

import contextlib
import functools
import hashlib
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from workbench import config
from workbench.runner.local.device import torch_dtype

_FORMAT = 1  # of the unpacked folder; another one is another key
# the head of a GGUF file: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes, by type
_UINT32, _TEXT, _ARRAY = 4, 8, 9
_LONGEST_KEY = 2**16


def quantisation(path: Path) -> str | None:
    """Name the number format of a GGUF file, as `Q4_1`; None where its head does not say.

    Only the head is read, by hand: the package's reader looks at all of it, for seconds.
    """
    from gguf import LlamaFileType

    try:
        with path.open("rb") as file:
            file_type = _file_type(file)
        named = None if file_type is None else LlamaFileType(file_type).name
    except (OSError, ValueError, OverflowError, RecursionError, struct.error):
        return None  # the loader will raise with the reason
    return named and named.removeprefix("MOSTLY_").removeprefix("ALL_")


def _file_type(file: BinaryIO) -> int | None:
    magic, _, _, n_fields = struct.unpack("<4sIQQ", file.read(24))
    for _ in range(n_fields if magic == b"GGUF" else 0):
        (size,) = _number(file, "<Q")
        if size > _LONGEST_KEY:
            return None
        key = file.read(size)
        (kind,) = _number(file, "<I")
        if (key, kind) == (b"general.file_type", _UINT32):
            value: int = _number(file, "<I")[0]
            return value
        _skip(file, kind)
    return None


def _number(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _skip(file: BinaryIO, kind: int, count: int = 1) -> None:
    """Pass over so many values of a type; ValueError where there is no such type."""
    if kind in _SIZES:
        file.seek(count * _SIZES[kind], os.SEEK_CUR)
    elif kind == _TEXT:
        for _ in range(count):
            file.seek(_number(file, "<Q")[0], os.SEEK_CUR)
    elif kind == _ARRAY:
        for _ in range(count):
            _skip(file, *_number(file, "<IQ"))
    else:
        raise ValueError(kind)


def unpacked(path: Path, precision: str, folder: Path | None = None) -> Path:
    """Return the safetensors folder of a GGUF file, making it the first time.

    The weights leave their blocks, so the folder is several times the size of the file. Its name is
    made of the file's content and the precision; it appears whole or not at all.

    Args:
        path: the file.
        precision: how the weights are kept.
        folder: where the folders are; the user's cache folder where None.
    """
    place = (folder or config.cache_dir() / "models") / f"{path.stem}-{_key(path, precision)}"
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=place.parent))
    try:
        _unpack(path, temporary, precision)
        temporary.chmod(0o755)
        temporary.replace(place)
    except OSError:
        if not place.is_dir():  # else another process was quicker
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return place


def _key(path: Path, precision: str) -> str:
    """Hash the file's content; about a second for each gigabyte."""
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "blake2b").hexdigest()
    return hashlib.blake2b(f"{_FORMAT} {precision} {content}".encode(), digest_size=8).hexdigest()


def _unpack(path: Path, folder: Path, precision: str) -> None:
    """Write weights, configuration and tokenizer of a GGUF file as transformers keeps them.

    The reader that transformers has for this is asked directly: its `from_pretrained` wants the
    package accelerate for it, and makes no use of it.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers import modeling_gguf_pytorch_utils as reader

    dtype = torch_dtype(precision)
    where: dict[str, Any] = {
        "pretrained_model_name_or_path": os.fspath(path.parent),
        "gguf_file": path.name,
        "trust_remote_code": False,
    }
    with _once_and_quietly(reader):
        tokenizer = AutoTokenizer.from_pretrained(**where)
        settings = AutoConfig.from_pretrained(**where)
        with torch.device("meta"):
            shell = AutoModelForCausalLM.from_config(settings)
        weights = reader.load_gguf_checkpoint(
            os.fspath(path), return_tensors=True, model_to_load=shell, torch_dtype=dtype
        )["tensors"]
    model = type(shell).from_pretrained(None, config=settings, state_dict=weights, dtype=dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _once_and_quietly(reader: Any) -> Iterator[None]:
    """Have transformers read the file's head once and not three times, and show no bar.

    Vocabulary and merges are read value by value, and a map of all tensors' names is made anew for
    each module of the model: most of the time of a small one. The terminal may be an app's.
    """
    import gguf

    originals = reader.tqdm, gguf.GGUFReader, gguf.get_tensor_name_map
    reader.tqdm = lambda tensors, **_: tensors
    gguf.GGUFReader = functools.cache(gguf.GGUFReader)
    gguf.get_tensor_name_map = functools.cache(gguf.get_tensor_name_map)
    try:
        yield
    finally:
        reader.tqdm, gguf.GGUFReader, gguf.get_tensor_name_map = originals
