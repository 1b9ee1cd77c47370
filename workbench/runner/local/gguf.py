"""GGUF files unpacked once into safetensors, in the user's cache folder."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from workbench import config
from workbench.runner.local.device import torch_dtype

_FORMAT = 1  # of the unpacked folder; another one is another key


def unpacked(path: Path, precision: str, folder: Path | None = None) -> Path:
    """Return the safetensors folder of a GGUF file, making it the first time.

    The weights leave their blocks, so the folder is several times the size of the file. Its name is made of
    the file's content and the precision; it appears whole or not at all.

    Args:
        path: the file.
        precision: how the weights are kept.
        folder: where the folders are; the user's cache folder where None.
    """
    place = (folder or config.cache_dir() / "models") / f"{path.stem}-{_key(path, precision)}"
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=place.parent))
    try:
        _unpack(path, made, precision)
        made.chmod(0o755)
        made.replace(place)
    except OSError:
        if not place.is_dir():  # else another process was quicker
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return place


def _key(path: Path, precision: str) -> str:
    """Hash the file's content; about a second for each gigabyte."""
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "blake2b").hexdigest()
    return hashlib.blake2b(f"{_FORMAT} {precision} {content}".encode(), digest_size=8).hexdigest()


def _unpack(path: Path, folder: Path, precision: str) -> None:
    """Write weights, configuration and tokenizer of a GGUF file as transformers keeps them.

    The reader that transformers has for this is asked directly: its `from_pretrained` wants the package
    accelerate for it, and makes no use of it.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers import modeling_gguf_pytorch_utils as reader

    dtype = torch_dtype(precision)
    where: dict[str, Any] = {
        "pretrained_model_name_or_path": os.fspath(path.parent), "gguf_file": path.name,
    }  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(**where)
    settings = AutoConfig.from_pretrained(**where)
    with torch.device("meta"):
        shell = AutoModelForCausalLM.from_config(settings)
    bar, reader.tqdm = reader.tqdm, lambda tensors, **_: tensors  # the terminal may be an app's
    try:
        weights = reader.load_gguf_checkpoint(
            os.fspath(path), return_tensors=True, model_to_load=shell, torch_dtype=dtype
        )["tensors"]
    finally:
        reader.tqdm = bar
    model = type(shell).from_pretrained(None, config=settings, state_dict=weights, dtype=dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
