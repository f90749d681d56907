#!/usr/bin/env python3
"""Speed of a service whose hot neurons are on the GPU and the others on the CPU, against the CPU alone.

    hybrid.py BIN_FOLDER MODEL SHARE      SHARE of the model's bytes is the GPU's budget, such as 0.333
"""

import http.client
import json
import os
import re
import subprocess
import sys
import time

READY_S = 120  # to load and to plan
ANSWER_S = 60
N_TOKENS = 48


class Service:
    """`thermocline serve` for as long as a block takes."""

    def __init__(self, bin_folder, model, *flags):
        self.command = [os.path.join(bin_folder, "thermocline"), "serve", "-m", model, "--port", "0",
                        "--ctx-size", "512", "--parallel", "1", "--ffn", "exact", *flags]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
        end = time.monotonic() + READY_S
        for line in self.process.stdout:
            sys.stderr.write(line)
            found = re.search(r"serving at http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                return self
            if time.monotonic() > end:
                break
        self.__exit__()
        raise SystemExit("hybrid.py: the service does not start: " + " ".join(self.command))

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def seconds_of(self, n_tokens):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        body = {"prompt": [5, 17, 42, 99], "max_tokens": n_tokens, "temperature": 0,
                "ignore_eos": True}
        begin = time.monotonic()
        connection.request("POST", "/v1/completions", json.dumps(body),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise SystemExit(f"hybrid.py: {answer.status} {text[:300]}")
        return time.monotonic() - begin

    def tokens_per_s(self):
        """Of decoding: the prompt and what a request costs are in both answers."""
        self.seconds_of(N_TOKENS)  # warms up
        short, long = (min(self.seconds_of(n) for _ in range(2)) for n in (1, 1 + N_TOKENS))
        return N_TOKENS / (long - short)


def main():
    bin_folder, model, share = sys.argv[1], sys.argv[2], float(sys.argv[3])
    budget = int(os.path.getsize(model) * share)
    speeds = {}
    for name, flags in (("GPU and CPU", ["--gpu-memory", str(budget)]),
                        ("CPU alone", ["--device", "cpu"])):
        with Service(bin_folder, model, *flags) as service:
            speeds[name] = service.tokens_per_s()
    print(f"Model of {os.path.getsize(model) / 1e9:.2f} GB, GPU budget {budget / 1e9:.2f} GB, one "
          "sequence\n\n| computed by | tokens/s | against the CPU |\n|---|---:|---:|")
    for name, speed in speeds.items():
        print(f"| {name} | {speed:.2f} | {speed / speeds['CPU alone']:.2f} |")


if __name__ == "__main__":
    main()
