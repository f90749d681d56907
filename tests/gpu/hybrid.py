#!/usr/bin/env python3
"""Speed of a service whose hot neurons are on the GPU and the others on the CPU, against the CPU alone.

    hybrid.py BIN_FOLDER MODEL SHARE [SERVE_FLAG...]

SHARE of the model's bytes is the GPU's budget, such as 0.333. Both services get the flags.
"""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time

READY_S = 150  # to load and to plan
ANSWER_S = 90
N_TOKENS = 48
PROMPT = [5, 17, 42, 99]


def card_memory():
    """Bytes in use on the first card, by whomever; None where nobody tells."""
    command = ["nvidia-smi", "-i", "0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        return int(told.split()[0]) << 20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


class Service:
    """`thermocline serve` for as long as a block takes."""

    def __init__(self, bin_folder, model, *flags):
        self.command = [os.path.join(bin_folder, "thermocline"), "serve", "-m", model, "--port", "0",
                        "--ctx-size", "512", "--parallel", "1", "--batch-size", "32", *flags]
        self.port = None
        self.is_told = threading.Event()  # the port, or the end of what it says

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        self.is_told.wait(READY_S)
        if self.port is None:
            self.__exit__()
            raise SystemExit("hybrid.py: the service does not start: " + " ".join(self.command))
        return self

    def read(self):
        for line in self.process.stdout:
            sys.stderr.write(line)
            found = re.search(r"serving at http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                self.is_told.set()
        self.is_told.set()

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.reader.join()

    def answer(self, n_tokens):
        """(seconds, text)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        body = {"prompt": PROMPT, "max_tokens": n_tokens, "temperature": 0, "ignore_eos": True}
        begin = time.monotonic()
        connection.request("POST", "/v1/completions", json.dumps(body),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        seconds = time.monotonic() - begin
        if answer.status != 200:
            raise SystemExit(f"hybrid.py: {answer.status} {text[:300]}")
        return seconds, json.loads(text)["choices"][0]["text"]

    def measure(self, n_tokens=N_TOKENS):
        """(tokens/s, text) of decoding: the prompt and what a request costs are in both times."""
        self.answer(n_tokens)  # warms up
        short = min(self.answer(1)[0] for _ in range(2))
        long, text = min(self.answer(1 + n_tokens) for _ in range(2))
        return rate(n_tokens, short, long), text


def rate(n_tokens, short_s, long_s):
    """Tokens/s, where an answer of n_tokens more took long_s; 0 where that was no longer."""
    return n_tokens / (long_s - short_s) if long_s > short_s else 0.0


def table(model_bytes, budget_bytes, flags, hybrid, alone):
    """What tests/gpu/figures.py reads. hybrid: (tokens/s, text, bytes in use or None); alone: two of
    these."""
    used = "" if hybrid[2] is None else f"{hybrid[2] / budget_bytes:.1%}"
    against = hybrid[0] / alone[0] if alone[0] > 0 else 0.0
    answer = "the same" if hybrid[1] == alone[1] else "differs"
    return (f"Model of {model_bytes / 1e9:.2f} GB, GPU budget {budget_bytes / 1e9:.2f} GB, one "
            f"sequence, {' '.join(flags)}\n\n"
            "| computed by | tokens/s | against the CPU | answer | of --gpu-memory |\n"
            "|---|---:|---:|---|---:|\n"
            f"| GPU and CPU | {hybrid[0]:.2f} | {against:.2f} | {answer} | {used} |\n"
            f"| CPU alone | {alone[0]:.2f} | 1.00 | | |")


def main():
    bin_folder, model, share, *flags = sys.argv[1:]
    budget = int(os.path.getsize(model) * float(share))
    with Service(bin_folder, model, "--gpu-memory", str(budget), *flags) as service:
        hybrid = (*service.measure(), card_memory())
    with Service(bin_folder, model, "--device", "cpu", *flags) as service:
        alone = service.measure()
    print(table(os.path.getsize(model), budget, flags, hybrid, alone))


if __name__ == "__main__":
    main()
