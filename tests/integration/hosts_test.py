#!/usr/bin/env python3
"""Three and four hosts serve a model that none of them may hold whole.

  hosts_test.py BIN_FOLDER WRITE_TINY_MODEL [unittest arguments]

Exit 77 means skipped: not root, or no namespaces here.
"""
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import uuid
from pathlib import Path

import netns_hosts
from netns_hosts import wait_until

MIB = 1 << 20
# What a worker may use beside its weights and KV: programs and libraries (35 MiB), activations of
# a whole step and the buffers of its links.
OVERHEAD_BYTES = 96 * MIB
# 392 MiB of weights; three workers must share them.
SHAPE = {"n_layer": 12, "n_embd": 1024, "n_ff": 4096, "n_head": 16, "n_head_kv": 16,
         "n_vocab": 2048, "n_ctx": 512, "dtype": "F16"}
WORKER_MEMORY = "260M"
KV_BYTES_PER_LAYER = 512 * 2 * 1024 * 4  # --ctx-size tokens, keys and values, n_embd, F32
PORT = 8080
PROMPT = "Once upon a time"
N_TOKENS = 12
N_LONG = 300  # tokens: a stream that takes seconds
READY_SECONDS = 120
# The coordinator gives up a silent worker after 5 s and an mpirun that waits for it 4 s later; a
# worker that was cut off ends itself after 10. The rest is for a busy machine.
LOSS_SECONDS = 60


class Service:
    """thermocline serve by mpirun on some hosts: the coordinator and a worker on the first."""

    def __init__(self, name, *flags, n_hosts=3):
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=SCRATCH))
        self.hosts = netns_hosts.Hosts(n_hosts, self.folder)
        self.log_path = self.folder / "log"
        self._command = [BIN / "thermocline", "serve", "--model", MODEL, "--port", PORT,
                         "--ctx-size", "512", "--parallel", "1", "--memory", WORKER_MEMORY,
                         "--threads", "1", *flags]
        if "--plan" not in flags:
            self._command += ["--plan", self._plan_of_thirds()]
        self.launched = None

    def __enter__(self):
        return self

    def __exit__(self, failure, *unused):
        self.hosts.end()
        if failure is not None:
            print(self.log(), file=sys.stderr)

    def _plan_of_thirds(self):
        third = SHAPE["n_layer"] // 3
        plan = self.folder / "plan.json"
        plan.write_text(json.dumps({"stages": [
            {"lead": i + 1, "layers": [i * third, (i + 1) * third]} for i in range(3)]}))
        return plan

    def start(self):
        ranks = [2] + [1] * (len(self.hosts.all) - 1)
        self.launched = self.hosts.launch(ranks, self._command, self.log_path)
        wait_until(self._is_ready, READY_SECONDS, "ready")

    def log(self):
        return self.log_path.read_text(errors="replace")

    def _is_ready(self):
        if self.launched.poll() is not None:
            raise AssertionError(f"it ended with {self.launched.returncode}")
        return self.curl("/health/ready", "-f").returncode == 0

    def curl_command(self, path, *options):
        return self.hosts.first.command("curl", "-sS", "--max-time", "60",
                                        f"http://127.0.0.1:{PORT}{path}", *options)

    def curl(self, path, *options):
        return subprocess.run(self.curl_command(path, *options), capture_output=True, text=True)

    def complete(self, n_tokens):
        body = {"prompt": PROMPT, "max_tokens": n_tokens, "temperature": 0, "ignore_eos": True}
        return json.loads(self.curl("/v1/completions", "-d", json.dumps(body)).stdout)

    def stream(self, n_tokens):
        """A completion under way; its first token has arrived."""
        body = {"prompt": PROMPT, "max_tokens": n_tokens, "temperature": 0, "ignore_eos": True,
                "stream": True}
        client = subprocess.Popen(self.curl_command("/v1/completions", "-N", "-d", json.dumps(body)),
                                  stdout=subprocess.PIPE, text=True)
        client.first = client.stdout.readline()
        assert client.first.startswith("data: {")
        return client

    def workers(self):
        """One dictionary per worker, as the service tells them."""
        return json.loads(self.curl("/cluster").stdout)["workers"]

    def peak_rss(self, host):
        """Of the worker on that host, as the kernel tells it."""
        pid, = host.processes("thermocline-worker")
        return int(re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) << 10

    def processes(self):
        return [pid for host in self.hosts.all for name in ("thermocline-coordinator",
                                                            "thermocline-worker", "mpirun", "orted")
                for pid in host.processes(name)]


class JoinedService(Service):
    """The same without mpirun: a worker on each host joins by itself."""

    def __init__(self, name, *flags, n_hosts=3, memory=WORKER_MEMORY):
        super().__init__(name, n_hosts=n_hosts)
        key = uuid.uuid4().hex + uuid.uuid4().hex[:8]
        address = f"{self.hosts.first.address}:4455"
        self._command = [BIN / "thermocline", "serve", "--model", MODEL, "--port", PORT,
                         "--ctx-size", "512", "--parallel", "1", "--workers", n_hosts, "--key", key,
                         "--cluster-address", address, *flags]
        self._join = [BIN / "thermocline", "worker", "--join", f"tcp://{address}", "--key", key,
                      "--memory", memory, "--threads", "1"]

    def start(self):
        self.launched = self.hosts.start(self.hosts.first, self._command, self.log_path)
        for host in self.hosts.all:
            self.join(host)
        wait_until(self._is_ready, READY_SECONDS, "ready")

    def join(self, host):
        return self.hosts.start(host, self._join, self.folder / f"{host.name}.log")

    def workers_lost(self):
        return json.loads(self.curl("/cluster").stdout)["plan"]["workers_lost"]


def text_of(events):
    """What a stream's events say together."""
    text = ""
    for line in events.splitlines():
        if line.startswith("data: {"):
            text += json.loads(line.removeprefix("data: "))["choices"][0]["text"]
    return text


def in_bytes(number, unit):
    return float(number) * {"B": 1, "KiB": 1 << 10, "MiB": MIB, "GiB": 1 << 30}[unit]


class HostsTest(unittest.TestCase):
    def check_completion(self, service):
        answer = service.complete(N_TOKENS)
        self.assertEqual(answer["choices"][0]["text"], EXPECTED_TEXT)
        self.assertEqual(answer["usage"]["completion_tokens"], N_TOKENS)

    def check_node_table(self, service):
        for host in service.hosts.all:
            self.assertRegex(service.log(), rf"(?m)^  [123]  +{host.name} .* MiB +\d+\.\d MiB$")

    def check_shares(self, service):
        by_host = {worker["host"]: worker for worker in service.workers()}
        self.assertEqual(sorted(by_host), [host.name for host in service.hosts.all])
        for host in service.hosts.all:
            worker = by_host[host.name]
            n_layers = worker["layer_end"] - worker["layer_begin"]
            share = worker["bytes_total"] + n_layers * KV_BYTES_PER_LAYER + OVERHEAD_BYTES
            peak = service.peak_rss(host)
            self.assertGreater(peak, worker["bytes_total"], host.name)
            self.assertLess(peak, share, host.name)
            self.assertLess(peak, 0.8 * MODEL.stat().st_size, host.name)

    def check_reads(self, service, at_most):
        """Read bytes / owned bytes of each worker."""
        loaded = re.findall(r"worker (\d) on \S+ loaded ([\d.]+) (\w+) \(read ([\d.]+) (\w+),",
                            service.log())
        self.assertEqual(sorted(line[0] for line in loaded), ["1", "2", "3"])
        for _, owned, owned_unit, read, read_unit in loaded:
            self.assertLessEqual(in_bytes(read, read_unit), at_most * in_bytes(owned, owned_unit))

    def check_stop(self, service):
        service.launched.terminate()
        service.launched.wait(LOSS_SECONDS)
        wait_until(lambda: not service.processes(), LOSS_SECONDS, "no process left")

    def test_mpi_links(self):
        with Service("mpi") as service:
            service.start()
            self.check_completion(service)
            self.check_node_table(service)
            self.check_shares(service)
            self.check_reads(service, 1.02)
            self.assertIn("MPI links are not authenticated", service.log())
            self.check_stop(service)

    def test_zmq_links(self):
        with Service("zmq", "--transport", "zmq") as service:
            service.start()
            self.check_completion(service)
            self.check_node_table(service)
            self.check_shares(service)
            self.check_stop(service)

    def test_weights_from_the_coordinator(self):
        with Service("weights", "--weights-from", "coordinator") as service:
            for host in service.hosts.all[1:]:
                host.hide(MODEL.parent)
            service.start()
            self.check_completion(service)
            self.check_shares(service)
            # Whole chunks of 1 MiB are fetched, so a little more than is owned.
            self.check_reads(service, 1.1)
            self.check_stop(service)

    def test_four_hosts_share_neurons(self):
        """Two stages, each with a helper that holds three quarters of its neurons."""
        n_ff, half = SHAPE["n_ff"], SHAPE["n_layer"] // 2
        plan = SCRATCH / "plan.json"
        plan.write_text(json.dumps({"stages": [
            {"lead": 1, "layers": [0, half],
             "helpers": [{"worker": 3, "neurons": [n_ff // 4, n_ff]}]},
            {"lead": 2, "layers": [half, 2 * half],
             "helpers": [{"worker": 4, "neurons": [0, 3 * n_ff // 4]}]}]}))
        for transport in ("mpi", "zmq"):
            with Service(transport, "--transport", transport, "--plan", plan,
                         n_hosts=4) as service:
                service.start()
                self.check_completion(service)
                self.check_shares(service)
                helpers = [w["host"] for w in service.workers() if w["helper"]]
                self.assertEqual(sorted(helpers), [host.name for host in service.hosts.all[2:]])
                self.check_stop(service)

    def check_loss(self, service, client, lost):
        """The stream and the service end soon, with one line that names the lost host."""
        begin = time.monotonic()
        rest, _ = client.communicate(timeout=LOSS_SECONDS)
        self.assertRegex(rest, r'data: \{"error":')
        service.launched.wait(LOSS_SECONDS)
        self.assertLess(time.monotonic() - begin, LOSS_SECONDS)
        self.assertNotEqual(service.launched.returncode, 0)
        lines = [line for line in service.log().splitlines()
                 if line.startswith("thermocline serve: ")]
        self.assertEqual(len(lines), 1)
        self.assertRegex(lines[0], rf"worker \d on {lost.name}\b")
        wait_until(lambda: not service.hosts.first.processes("thermocline-worker"), LOSS_SECONDS,
                   "no process left on the first host")

    def test_a_host_without_power(self):
        with Service("power", "--replan", "off") as service:
            service.start()
            client = service.stream(n_tokens=400)
            lost = service.hosts.all[2]
            lost.power_off()
            self.check_loss(service, client, lost)

    def test_a_cut_cable(self):
        with Service("cable", "--transport", "zmq", "--replan", "off") as service:
            service.start()
            client = service.stream(n_tokens=400)
            lost = service.hosts.all[1]
            lost.unplug()
            self.check_loss(service, client, lost)
            wait_until(lambda: not lost.processes("thermocline-worker"), LOSS_SECONDS,
                       "no worker left on the host that was cut off")

    def test_a_cut_cable_is_planned_around(self):
        """The others hold the model, so the stream goes on, with the tokens that it would have had."""
        with JoinedService("around", "--wire-dtype", "f32", "--replan", "auto",
                           memory="400M") as service:
            service.start()
            expected = service.complete(N_LONG)["choices"][0]["text"]
            staged = {worker["host"] for worker in service.workers() if worker["stage"] >= 0}
            lost = next(host for host in service.hosts.all[1:] if host.name in staged)
            client = service.stream(N_LONG)
            lost.unplug()
            rest, _ = client.communicate(timeout=2 * LOSS_SECONDS)
            self.assertEqual(text_of(client.first + rest), expected)
            self.assertIn("data: [DONE]", rest)
            self.assertEqual(service.workers_lost(), 1)
            self.assertRegex(service.log(), rf"worker \d on {lost.name} .*; planning around it")
            # Back at the switch it is another worker, and its links are measured.
            wait_until(lambda: not lost.processes("thermocline-worker"), LOSS_SECONDS,
                       "no worker left on the host that was cut off")
            lost.plug()
            service.join(lost)
            wait_until(lambda: re.search(rf"links of worker \d on {lost.name} measured between steps: "
                                         r"4 directions", service.log()), LOSS_SECONDS, "links")
            self.check_completion(service)
            self.check_stop(service)

    def test_a_killed_worker(self):
        with Service("killed") as service:
            service.start()
            client = service.stream(n_tokens=400)
            lost = service.hosts.all[1]
            pid, = lost.processes("thermocline-worker")
            subprocess.run(["kill", "-KILL", str(pid)], check=True)
            client.communicate(timeout=LOSS_SECONDS)
            service.launched.wait(LOSS_SECONDS)
            self.assertRegex(service.log(), rf"\b{lost.name}\b.*(signal 9|Killed|lost)")
            wait_until(lambda: not service.processes(), LOSS_SECONDS, "no process left")


def expected_text():
    """What one process without a cluster makes of the prompt."""
    done = subprocess.run([BIN / "thermocline", "generate", "--model", MODEL, "--prompt", PROMPT,
                           "-n", str(N_TOKENS), "--temperature", "0", "--ignore-eos", "--json"],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["text"]


if __name__ == "__main__":
    reason = netns_hosts.why_not()
    if reason:
        print("skipped:", reason)
        sys.exit(77)
    BIN, writer = (Path(argument).resolve() for argument in sys.argv[1:3])
    SCRATCH = Path(tempfile.mkdtemp(prefix="thermocline-hosts-"))
    try:
        MODEL = SCRATCH / "shared" / "model.gguf"
        MODEL.parent.mkdir()
        settings = [f"{key}={value}" for key, value in SHAPE.items()]
        subprocess.run([writer, "llama", MODEL, *settings], check=True)
        EXPECTED_TEXT = expected_text()
        unittest.main(argv=[sys.argv[0], "-v", *sys.argv[3:]])
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
