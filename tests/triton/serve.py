"""A real Triton server with Python callables that keep the contract of Triton's vLLM backend.

Runs in an environment of its own (``requirements-triton.lock``), so it imports nothing of
this repository: ``python serve.py PORT``. Prints ``ready PID`` when it answers, with the
process of Triton itself, and serves until its input ends.
"""

import json
import logging
import sys
import time
from pathlib import Path

import numpy as np
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

ANSWER = "你好,world 😀 年假有 5 天"
PROMPT_TOKENS = 7

INPUTS = [
    Tensor(name="text_input", dtype=bytes, shape=(1,)),
    Tensor(name="stream", dtype=np.bool_, shape=(1,), optional=True),
    Tensor(name="sampling_parameters", dtype=bytes, shape=(1,), optional=True),
    Tensor(name="exclude_input_in_output", dtype=np.bool_, shape=(1,), optional=True),
    Tensor(name="return_finish_reason", dtype=np.bool_, shape=(1,), optional=True),
    Tensor(name="return_num_input_tokens", dtype=np.bool_, shape=(1,), optional=True),
    Tensor(name="return_num_output_tokens", dtype=np.bool_, shape=(1,), optional=True),
]
OUTPUTS = [
    Tensor(name="text_output", dtype=bytes, shape=(-1,)),
    Tensor(name="finish_reason", dtype=bytes, shape=(-1,)),
    Tensor(name="num_input_tokens", dtype=np.uint32, shape=(-1,)),
    Tensor(name="num_output_tokens", dtype=np.uint32, shape=(-1,)),
]
PLAIN_OUTPUTS = OUTPUTS[:1]


def asked(request):
    """The question, and how many tokens may be written."""
    prompt = request["text_input"][0].decode()
    parameters = json.loads(request["sampling_parameters"][0]) if "sampling_parameters" in request else {}
    return prompt, int(parameters.get("max_tokens", 16))


def texts(text):
    return np.array([text.encode()], dtype=bytes)


def response(text, reason, written):
    return {
        "text_output": texts(text),
        "finish_reason": texts(reason),
        "num_input_tokens": np.array([PROMPT_TOKENS], dtype=np.uint32),
        "num_output_tokens": np.array([written], dtype=np.uint32),
    }


def stream(requests):
    """Decoupled: a token a response."""
    prompt, most = asked(requests[0])
    if "boom" in prompt:
        raise ValueError("bad prompt")
    for count, token in enumerate(ANSWER[:most]):
        if count == 3 and "half way" in prompt:
            raise RuntimeError("engine failed half way")
        if count == 3 and "slowly" in prompt:
            time.sleep(60)
        last = count + 1 == min(len(ANSWER), most)
        reason = ("length" if most < len(ANSWER) else "stop") if last else "None"
        yield [response(token, reason, 1)]


def plain_stream(requests):
    """Decoupled, with nothing but text: only the last response says that it is over."""
    for token in ANSWER:
        yield [{"text_output": texts(token)}]


def whole(requests):
    """Not decoupled: everything in one response."""
    results = []
    for request in requests:
        prompt, most = asked(request)
        if "boom" in prompt:
            raise ValueError("bad prompt")
        text = ANSWER[:most]
        results.append(response(text, "length" if most < len(ANSWER) else "stop", len(text)))
    return results


def server_process():
    """The process of Triton itself, which is somewhere below this one."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if command and command[0].endswith(b"tritonserver") and any(PORT.encode() in part for part in command):
                return int(folder.name)
    raise RuntimeError("there is no process of Triton")


PORT = sys.argv[1]


def main():
    logging.basicConfig(level=logging.WARNING)
    config = TritonConfig(
        grpc_port=int(PORT), grpc_address="127.0.0.1", allow_http=False, allow_metrics=False, exit_timeout_secs=1
    )
    with Triton(config=config) as triton:
        kinds = [
            ("stream", stream, OUTPUTS, True),
            ("plain_stream", plain_stream, PLAIN_OUTPUTS, True),
            ("whole", whole, OUTPUTS, False),
        ]
        for name, callable_, outputs, decoupled in kinds:
            triton.bind(
                model_name=name,
                infer_func=callable_,
                inputs=INPUTS,
                outputs=outputs,
                config=ModelConfig(batching=False, decoupled=decoupled),
            )
        triton.run()
        print("ready", server_process(), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
