"""Runs the real programs for the integration tests and never leaves a process behind.

Every process that a test starts carries a mark of its own in the environment, which its children
inherit, mpirun's ranks included. Who survives a test is found by that mark, whatever became of
parents and process groups.
"""

import array
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import uuid

SOURCE_DIR = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN_DIR = os.environ.get("TC_BIN_DIR", os.path.join(SOURCE_DIR, "build/release/bin"))
TEST_BIN_DIR = os.environ.get("TC_TEST_BIN_DIR", os.path.join(SOURCE_DIR, "build/release/tests"))
DATA_DIR = os.path.join(SOURCE_DIR, "tests/data")
DEMO_MODEL = os.path.join(SOURCE_DIR, "deploy/demo/thermocline-demo.gguf")
THERMOCLINE = os.path.join(BIN_DIR, "thermocline")
KEY = "integration-test-key"

# What a test waits for at most; far above what anything takes on a machine that stalls.
PATIENCE_S = 120
LONG = 6000  # tokens: a stream that outlasts what a test does with it
SKIPPED = 77  # what ctest takes for "skipped"
_MARK = "TC_TEST_MARK"


def wait_until(condition, what, timeout_s=PATIENCE_S, interval_s=0.02):
    """The first true value of condition(); fails naming `what` when none comes."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s in vain for {what}")
        time.sleep(interval_s)


def _marked_processes(mark):
    wanted = f"{_MARK}={mark}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.append(int(entry))
        except OSError:
            pass  # it ended meanwhile, or is a zombie's
    return found


class Process:
    """A program with its output collected line by line, and all that it started."""

    def __init__(self, argv, env=None, cwd=None):
        self.mark = uuid.uuid4().hex
        self._lines = []
        self._changed = threading.Condition()
        environment = {**os.environ, **(env or {}), _MARK: self.mark}
        self._popen = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                       stdin=subprocess.DEVNULL, env=environment, cwd=cwd,
                                       start_new_session=True)
        self.pid = self._popen.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._popen.stdout:
            with self._changed:
                self._lines.append(line.decode(errors="replace").rstrip("\n"))
                self._changed.notify_all()
        self._popen.stdout.close()

    @property
    def output(self):
        with self._changed:
            return "\n".join(self._lines)

    def lines(self, pattern):
        return [line for line in self.output.split("\n") if re.search(pattern, line)]

    def wait_line(self, pattern, timeout_s=PATIENCE_S):
        """The match of the first line that has `pattern`, as soon as it is there."""
        def find():
            for line in self.output.split("\n"):
                match = re.search(pattern, line)
                if match:
                    return match
            if not self.running() and not self._reader.is_alive():
                raise AssertionError(f"ended with {self.code()} before \"{pattern}\" came:\n"
                                     f"{self.output}")
            return None
        try:
            return wait_until(find, f"the line \"{pattern}\"", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output}") from None

    def running(self):
        return self._popen.poll() is None

    def code(self):
        return self._popen.poll()

    def wait(self, timeout_s=PATIENCE_S):
        """The exit code, with all output read."""
        try:
            code = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s} s:\n{self.output}") from None
        self._reader.join(5)  # what it has started may hold the pipe open
        return code

    def signal(self, number):
        os.kill(self.pid, number)

    def members(self, name=None):
        """Process ids of this program and all it started, by program name if given."""
        pids = _marked_processes(self.mark)
        if name is None:
            return pids
        return [pid for pid in pids if program_of(pid) == name]

    def wait_gone(self, timeout_s=PATIENCE_S):
        """Until no process of it is left."""
        wait_until(lambda: self._popen.poll() is not None and not self.members(),
                   f"the end of all processes; left: {self._described()}", timeout_s)

    def _described(self):
        return [(pid, program_of(pid)) for pid in self.members()]

    def kill(self):
        """Ends it and all it started at once; harmless when nothing is left."""
        for _ in range(3):
            for pid in self.members():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not self.members():
                break
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()
        self._reader.join(5)


def program_of(pid):
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""


def worker_of_rank(process, rank):
    """Process id of an MPI rank."""
    for pid in process.members("thermocline-worker"):
        with open(f"/proc/{pid}/environ", "rb") as file:
            if f"OMPI_COMM_WORLD_RANK={rank}".encode() in file.read().split(b"\0"):
                return pid
    raise AssertionError(f"no worker of rank {rank}:\n{process.output}")


def mpirun(n_ranks):
    return ["mpirun", "-n", str(n_ranks), "--oversubscribe", "--bind-to", "none",
            "--mca", "mpi_yield_when_idle", "1"]


MPI_ENVIRONMENT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def has_mpi():
    return shutil.which("mpirun") is not None and os.environ.get("TC_HAVE_MPI", "1") == "1"


class Api:
    """A client of a serving cluster."""

    def __init__(self, port):
        self.port = port

    def call(self, method, path, body=None, timeout_s=PATIENCE_S):
        """(status, headers, parsed body or text)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read().decode()
            kind = response.getheader("Content-Type", "")
            parsed = json.loads(text) if kind.startswith("application/json") else text
            return response.status, dict(response.getheaders()), parsed
        finally:
            connection.close()

    def get(self, path):
        status, _, body = self.call("GET", path)
        if status != 200:
            raise AssertionError(f"GET {path}: {status} {body}")
        return body

    def cluster(self):
        return self.get("/v1/cluster")

    def complete(self, prompt, n, **options):
        """Token ids and the whole answer of one completion, greedy unless told otherwise."""
        body = {"prompt": prompt, "max_tokens": n, "temperature": 0, "ignore_eos": True,
                "return_token_ids": True, **options}
        status, _, answer = self.call("POST", "/v1/completions", body)
        if status != 200:
            raise AssertionError(f"completion: {status} {answer}")
        return answer["choices"][0]["token_ids"], answer

    def stream(self, prompt, n, **options):
        return Stream(self.port, {"prompt": prompt, "max_tokens": n, "temperature": 0,
                                  "ignore_eos": True, "stream": True, **options})


class Stream:
    """An open stream of server-sent events."""

    def __init__(self, port, body):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self._connection.request("POST", "/v1/completions", json.dumps(body),
                                 {"Content-Type": "application/json"})
        self._response = self._connection.getresponse()
        if self._response.status != 200:
            raise AssertionError(f"stream: {self._response.status} {self._response.read()}")

    def next(self):
        """The next event's data as text; None at the end of the stream."""
        for line in self._response:
            line = line.decode().rstrip("\r\n")
            if line.startswith("data: "):
                return line.removeprefix("data: ")
        return None

    def rest(self):
        """Every event that still comes."""
        events = []
        while (event := self.next()) is not None:
            events.append(event)
        self.drop()
        return events

    def drop(self):
        """As a client does that goes away without a word."""
        self._response.close()
        self._connection.close()


class Cluster(Process):
    """`thermocline serve` in some layout, on a port of its own."""

    def __init__(self, model, *flags, ranks=0, env=None, cwd=None, program=THERMOCLINE):
        launch = mpirun(ranks) if ranks else []
        argv = [*launch, program, "serve", "--model", model, "--port", "0", *flags]
        super().__init__(argv, {**MPI_ENVIRONMENT, **(env or {})}, cwd)
        self.api = None

    def ready(self, timeout_s=PATIENCE_S):
        """Waits until it serves; then `api` is its client."""
        match = self.wait_line(r"serving at http://127\.0\.0\.1:(\d+)", timeout_s)
        self.api = Api(int(match.group(1)))
        return self

    def join_arguments(self):
        """Environment and arguments for `thermocline worker`, as the coordinator prints them."""
        match = self.wait_line(r"THERMOCLINE_CLUSTER_KEY='(.*)' thermocline worker --join (\S+)")
        return {"THERMOCLINE_CLUSTER_KEY": match.group(1)}, ["--join", match.group(2)]


class ClusterTest(unittest.TestCase):
    """A test whose processes all end with it."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="tc-integration-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, argv, **options):
        process = Process(argv, **options)
        self.addCleanup(process.kill)
        return process

    def serve(self, model, *flags, **options):
        """Starts a cluster without waiting for it."""
        cluster = Cluster(model, *flags, **options)
        self.addCleanup(cluster.kill)
        return cluster

    def serve_joined(self, model, n_workers, *flags, worker_flags=(), env=None):
        """A cluster whose workers join over TCP, worker 1 first; (cluster, workers)."""
        cluster = self.serve(model, "--workers", str(n_workers), *flags)
        key, join = cluster.join_arguments()
        workers = []
        for i in range(n_workers):
            workers.append(self.start([THERMOCLINE, "worker", *join, "--threads", "1",
                                       *worker_flags], env={**key, **(env or {})}))
            cluster.wait_line(rf"^worker {i + 1} on \S+ joined")
        return cluster, workers

    def run_program(self, *arguments, timeout_s=PATIENCE_S, program=THERMOCLINE, **options):
        """(exit code, output) of `thermocline ...`."""
        process = self.start([program, *arguments], **options)
        return process.wait(timeout_s), process.output

    def generate(self, model, prompt, n, *flags, **options):
        """(parsed JSON, path of the logits) of `thermocline generate`."""
        logits = self.path(f"generate-{uuid.uuid4().hex[:8]}.f32")
        code, output = self.run_program(
            "generate", "--model", model, "--prompt-tokens", ",".join(map(str, prompt)), "-n",
            str(n), "--temperature", "0", "--ignore-eos", "--json", "--logits-out", logits, *flags,
            **options)
        self.assertEqual(code, 0, output)
        return json.loads(output.splitlines()[-1]), logits

    def plan_of(self, *stages, **fields):
        """The flags that serve a plan written here."""
        path = self.path("plan.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"stages": stages, **fields}, file)
        return ["--plan", path]

    def pipeline(self, *ends):
        """The flags for whole layers [0, ends[0]) on worker 1, [ends[0], ends[1]) on worker 2, ..."""
        begins = [0, *ends[:-1]]
        return self.plan_of(*({"lead": i, "layers": [begin, end]}
                              for i, (begin, end) in enumerate(zip(begins, ends), start=1)))

    def dump_flags(self, *more):
        """The flags that write every row of logits to the folder `dump`."""
        self.dump = os.path.join(self.folder, f"dump-{len(os.listdir(self.folder))}")
        os.mkdir(self.dump)
        return ["--dump-logits", self.dump, *more]

    def complete_together(self, cluster, prompts, n):
        """The tokens of all prompts, asked for at the same time."""
        got = [None] * len(prompts)

        def complete(i):
            got[i], _ = cluster.api.complete(prompts[i], n)
        threads = [threading.Thread(target=complete, args=(i,)) for i in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return got

    def tiny_model(self, arch, **settings):
        """A random model of the given sizes, written by our own test program."""
        path = self.path(f"{arch}.gguf")
        program = os.path.join(TEST_BIN_DIR, "write_tiny_model")
        subprocess.run([program, arch, path, *[f"{k}={v}" for k, v in settings.items()]],
                       check=True)
        return path

    def long_model(self):
        """A model with so long a context that a stream of LONG tokens takes seconds."""
        return self.tiny_model("llama", n_layer=4, n_embd=128, n_ff=256, n_ctx=2 * LONG)

    def stop(self, cluster, timeout_s=PATIENCE_S):
        """SIGTERM and the end of everything."""
        cluster.signal(signal.SIGTERM)
        cluster.wait_gone(timeout_s)


def read_floats(path):
    values = array.array("f")
    with open(path, "rb") as file:
        values.frombytes(file.read())
    if sys.byteorder == "big":
        values.byteswap()
    return values


def reserved_port():
    """A socket that is bound to a port and its port: the system gives it to nobody else, connections
    are refused, and a server that is told to can listen there."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder, holder.getsockname()[1]


def free_port_held():
    """A listening socket and its port."""
    listener, port = reserved_port()
    listener.listen()
    return listener, port


def needs_mpi(test):
    return unittest.skipUnless(has_mpi(), "mpirun is not installed, or the build is without MPI")(
        test)


def main():
    """unittest.main() that tells ctest when every test of a file was skipped."""
    program = unittest.main(exit=False, verbosity=2)
    result = program.result
    if result.wasSuccessful() and result.testsRun > 0 and len(result.skipped) >= result.testsRun:
        print("skipped: " + "; ".join(sorted({reason for _, reason in result.skipped})))
        sys.exit(SKIPPED)
    sys.exit(0 if result.wasSuccessful() else 1)
