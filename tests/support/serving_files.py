"""Small files of each serving benchmark and meter, as its tool writes them."""

import json

_ITEM = {"machine": "h200", "model_id": "m", "num_prompts": 2, "request_rate": "inf"}
_TIMES = {"duration": 5.5, "completed": 1, "total_input_tokens": 110, "total_output_tokens": 4}
_VLLM = (
    _ITEM
    | _TIMES
    | {
        "input_lens": [110, 120],
        "output_lens": [4, 0],
        "ttfts": [0.25, 0.0],
        "itls": [[0.1, 0.2, 0.4], []],
        "latencies": [0.95, 0.0],
        "start_times": [100.0, 100.5],
        "queue_times": [0.01, 0.02],
        "generated_texts": ["text", ""],
        "errors": ["", "Bad Request"],
        "mean_ttft_ms": 250.0,
        "p99_itl_ms": 400.0,
    }
)
_TIMINGS = {
    "request_start": 1796000001.0,
    "first_token_iteration": 1796000001.25,
    "request_end": 1796000003.0,
    "token_iterations": 12,
}
_REQUEST = {
    "request_id": "r",
    "request_args": json.dumps({"body": {"messages": [{"role": "user", "content": "hi"}]}}),
    "output": "a",
    "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
    "info": {"conversation_id": "c", "timings": _TIMINGS, "error": None},
    "input_metrics": {"total_tokens": 40, "cached_tokens": 16},
    "output_metrics": {"total_tokens": 20},
    "response_metrics": {"prompt_tokens": 40, "completion_tokens": 20},
}
_GUIDELLM = {
    "metadata": {"version": 2, "guidellm_version": "0.8.1"},
    "config": {
        "metadata": {"labels": {"machine": "h"}},
        "spec": {"backend": {"model": "m"}},
    },
    "benchmarks": [
        {
            "config": {"id_": "b", "strategy": {"type_": "constant", "rate": 2.5}},
            "start_time": 1796000000.0,
            "warmup_duration": 0.0,
            "scheduler_metrics": {"measure_start_time": 1796000000.0},
            "metrics": {
                "request_totals": {"successful": 1, "errored": 0},
                "request_latency": {"successful": {"mean": 2.0, "percentiles": {"p50": 2.0}}},
            },
            "requests": {"successful": [_REQUEST], "errored": [], "incomplete": []},
        }
    ],
}
_AIPERF = {
    "metadata": {
        "session_num": 1,
        "x_request_id": "r",
        "conversation_id": "c",
        "turn_index": 0,
        "credit_issued_ns": 1796000000000000000,
        "request_start_ns": 1796000001000000000,
        "request_end_ns": 1796000002000000000,
        "benchmark_phase": "profiling",
        "was_cancelled": False,
    },
    "metrics": {
        "request_latency": {"value": 75.5, "unit": "ms"},
        "inter_chunk_latency": {"value": [10.0, 5.0], "unit": "ms"},
        "usage_prompt_tokens": {"value": 41, "unit": "tokens"},
        "usage_completion_tokens": {"value": 9, "unit": "tokens"},
    },
    "error": None,
}
_AIPERF_FIGURES = {
    "schema_version": "1.4",
    "aiperf_version": "0.13.0",
    "benchmark_id": "b",
    "request_throughput": {"unit": "requests/sec", "avg": 31.5},
    "time_to_first_token": {"unit": "ms", "avg": 21.5, "p99": 23.5, "count": 1},
    "gpu_energy": {"unit": "MJ", "avg": 0.002},
    "input_config": {
        "models": {"items": [{"name": "m"}]},
        "phases": [{"kind": "profiling", "concurrency": 3}],
    },
    "telemetry_data": {"endpoints": {"e": {"gpus": {"0": {"gpu_name": "H100"}}}}},
}
_ML_ENERGY = (
    _ITEM
    | _TIMES
    | {
        "gpu_model": "H100",
        "num_gpus": 2,
        "steady_state_duration": 40.0,
        "steady_state_energy": 10000.0,
        "steady_state_energy_per_token": 0.5,
        "entire_benchmark_measurement": {"time": 70.0, "gpu_energy": {"0": 9000.0}},
        "timeline": {"benchmark_start_time": 1796000000.0},
        "results": [
            {"prompt": "why?", "output_text": "so", "input_len": 110, "output_len": 4}
            | {"ttft": 0.5, "itl": [0.1], "latency": 2.5, "energy": 20.0, "success": True},
            {"prompt": [{"text": "who?"}], "success": False, "error": "no", "itl": None},
        ],
    }
)
_SUMMARY = {
    "model": "m",
    "hardware_label": "H100",
    "total_queries": 1,
    "generated_at": 1796000000.0,
    "gpu_info": {"name": "H100"},
}
_CODECARBON = b"""run_id,duration,emissions,cpu_energy,gpu_energy,energy_consumed,gpu_model
a,3.5,7e-6,1e-5,2e-5,3e-5,H100
b,3.5,7e-6,1e-5,0.0,1e-5,
"""
_ZEUS = b"""start_time,window_name,elapsed_time,gpu0_energy
1796000000.5,a,2.5,100.25
1796000009.5,"b,c",2.5,100.25
"""

_DOCUMENTS = (_VLLM, _GUIDELLM, _AIPERF, _AIPERF_FIGURES, _ML_ENERGY, _SUMMARY)
EXAMPLES = (*(json.dumps(document).encode() for document in _DOCUMENTS), _CODECARBON, _ZEUS)
