#!/usr/bin/env python3
"""Services of two workers, a process and a card each: whether the cards meet by NCCL, and whether the
tokens are those of the way by the host.

    TC_BIN_DIR=BIN_FOLDER two_cards.py cuda|cpu

With `cpu` the same services of two workers on the CPU, which have nothing to meet by.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../integration"))

from cluster import BIN_DIR, DEMO_MODEL, THERMOCLINE, Cluster, Process, has_mpi  # noqa: E402

# Of the demo model: 5 layers, 768 neurons, 3 KV heads.
LAYOUTS = {
    "one stage": [{"lead": 1, "layers": [0, 5],
                   "helpers": [{"worker": 2, "neurons": [384, 768], "heads": [2, 3]}]}],
    "two stages": [{"lead": 1, "layers": [0, 3]}, {"lead": 2, "layers": [3, 5]}],
}
HOST = "the host"
SAME = "the same"
PROMPT = [5, 17, 42, 99]
N_TOKENS = 32
# (launched, --nccl, layout); the first is what the others are compared with. Small activations would
# not go by NCCL where that is slower: `always` does not ask.
RUNS = [("joined", "off", "one stage"), ("joined", "auto", "one stage"),
        ("joined", "always", "two stages"), ("mpirun", "auto", "one stage")]


def met_by(layout, output):
    """What the workers have logged: 'NCCL ...' when all of them say that they met."""
    if layout == "two stages":
        found = re.search(r"activations of cuda:\d+ .* go to worker \d+ by (NCCL)", output)
        return found.group(1) if found else HOST
    versions = dict(re.findall(r"is in a group stage=0 rank=(\d+) gpus=2 nccl=(\S+)", output))
    return f"NCCL {versions['0']}" if versions.keys() == {"0", "1"} else HOST


def about_ways(output):
    """Lines that say who is in no group, and why."""
    return [line for line in output.split("\n") if re.search("NCCL|group|by way of", line)]


def is_wanted(device, nccl, met, tokens):
    meets = device == "cuda" and nccl != "off"
    return met.startswith("NCCL") == meets and tokens == SAME


def programs_have_mpi():
    worker = os.path.join(BIN_DIR, "thermocline-worker")
    linked = subprocess.run(["ldd", worker], capture_output=True, text=True, check=False)
    return has_mpi() and "libmpi" in linked.stdout


class TwoWorkers:
    """A service and its workers, all ended with the block; then `output` is what they have said."""

    def __init__(self, device, launched, nccl, layout):
        self.device, self.launched, self.layout = device, launched, layout
        self.compute = ["--threads", "1", "--nccl", nccl]
        self.processes = []
        self.kept = contextlib.ExitStack()

    def __enter__(self):
        try:
            self.folder = self.kept.enter_context(tempfile.TemporaryDirectory(prefix="tc-two-cards."))
            self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def started(self, process):
        self.processes.append(process)
        self.kept.callback(process.kill)
        return process

    def start(self):
        plan = os.path.join(self.folder, "plan.json")
        with open(plan, "w", encoding="utf-8") as file:
            json.dump({"stages": LAYOUTS[self.layout]}, file)
        flags = ["--plan", plan, "--replan", "off", "--ffn", "exact", "--ctx-size", "256",
                 "--parallel", "1", *self.compute]
        if self.launched == "mpirun":  # a worker takes the card of its number on the host
            self.cluster = self.started(Cluster(DEMO_MODEL, *flags, "--device", self.device, ranks=3))
        else:
            self.cluster = self.started(Cluster(DEMO_MODEL, *flags, "--workers", "2"))
            self.join()
        self.cluster.ready()

    def join(self):
        key, join = self.cluster.join_arguments()
        for i in range(2):
            device = f"cuda:{i}" if self.device == "cuda" else self.device
            self.started(Process([THERMOCLINE, "worker", *join, *self.compute, "--device", device],
                                 env=key))
            self.cluster.wait_line(rf"^worker {i + 1} on \S+ joined")

    def tokens(self):
        return self.cluster.api.complete(PROMPT, N_TOKENS)[0]

    def __exit__(self, error, *_):
        with self.kept:
            if error is None:
                self.cluster.signal(signal.SIGTERM)
                for process in self.processes:
                    process.wait_gone()
        self.output = "\n".join(process.output for process in self.processes)
        if error is not None:
            print(self.output, file=sys.stderr)


def main():
    device = sys.argv[1]
    # So that a part that is cut off ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print("| launched | --nccl | layout | met by | tokens |\n|---|---|---|---|---|")
    expected, failed = None, False
    for launched, nccl, layout in RUNS:
        about = f"| {launched} | {nccl} | {layout} |"
        if launched == "mpirun" and not programs_have_mpi():
            print(f"{about} not run: no MPI here, or none in the programs | |")
            continue
        with TwoWorkers(device, launched, nccl, layout) as service:
            tokens = service.tokens()
        expected = expected or tokens
        met, answer = met_by(layout, service.output), SAME if tokens == expected else "differ"
        print(f"{about} {met} | {answer} |", flush=True)
        if not is_wanted(device, nccl, met, answer):
            print(f"{about} {tokens}, expected {expected}", *about_ways(service.output), sep="\n",
                  file=sys.stderr)
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
