"""The device of a local model, and the number format of its weights."""

from typing import Any

from workbench.errors import ProviderRejected

DEVICES = ("auto", "cpu", "cuda", "mps")
# no int8: torch's own takes one scale for the whole batch, so that a text would depend on its
# neighbours
PRECISIONS = ("fp32", "bf16", "fp16")
_WORDS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def resolve(device: str, dtype: str) -> tuple[str, str]:
    """Choose device and number format; imports torch.

    `auto` takes CUDA, then Apple's GPU, then the CPU; and bf16 on CUDA where it is native (else
    fp16), fp16 on Apple's, fp32 on a CPU, where results are compared.

    Raises:
        ProviderRejected: there is no such device here, or it has no such format.
    """
    import torch

    if device not in DEVICES:
        raise _bad(f"there is no device {device!r}; there are {', '.join(DEVICES)}")
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next((name for name, found in here.items() if found), "cpu")
    elif not here.get(device, True):
        raise _bad(f"torch {torch.__version__} finds no device {device} here; take device = 'cpu'")
    if dtype == "auto":
        native = device == "cuda" and torch.cuda.is_bf16_supported()
        dtype = {"cpu": "fp32", "mps": "fp16"}.get(device, "bf16" if native else "fp16")
    precision = _WORDS.get(dtype, dtype)
    if precision not in PRECISIONS:
        raise _bad(f"there is no precision {dtype!r}; there are auto, {', '.join(PRECISIONS)}")
    return device, precision


def torch_dtype(precision: str) -> Any:
    """Return torch's type of a precision."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def synchronize(device: str) -> None:
    """Wait until a device has done what it was given, so that a clock can be read."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def give_back(device: str) -> None:
    """Return freed memory to the device, after an allocation failed."""
    import gc

    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is an allocator's: CUDA has a class for it, others only messages."""
    import torch

    message = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in message
        for words in ("can't allocate memory", "not enough memory", "out of memory")
    )


def _bad(message: str) -> ProviderRejected:
    return ProviderRejected(message, kind="bad_model")
