"""A model that no worker may hold: 5.2 GiB on four workers of --memory 1.8G each.

Not among the tests that run by themselves: it needs 8 GB of disk in the folder for temporary files
and 10 GB of memory, and takes minutes.

  ctest --test-dir build/release -C big -L big --output-on-failure
"""

import os
import re
import shutil
import sys
import unittest
from pathlib import Path

from cluster import ClusterTest, main, needs_mpi, worker_of_rank

GIB = 1 << 30
BUDGET = int(1.8 * GIB)
DISK_BYTES, MEMORY_BYTES = 8 * 10 ** 9, 10 * 10 ** 9
SHAPE = "n_embd=4096,n_ff=14336,n_layer=17,n_head=32,n_head_kv=8,n_vocab=8000"
N_CTX = 512
MAKE_S, READY_S = 300, 180


def why_not():
    """Why it cannot run here, or None."""
    folder = os.environ.get("TMPDIR", "/tmp")
    free = shutil.disk_usage(folder).free
    if free < DISK_BYTES:
        return f"{folder} has {free / 1e9:.1f} GB free, {DISK_BYTES / 1e9:.0f} are needed"
    text = Path("/proc/meminfo").read_text()
    available = int(re.search(r"MemAvailable:\s*(\d+) kB", text)[1]) << 10
    if available < MEMORY_BYTES:
        return (f"{available / 1e9:.1f} GB of memory are available, "
                f"{MEMORY_BYTES / 1e9:.0f} are needed")
    return None


def field(text, name):
    """Bytes of a field of /proc/PID/status or of smaps_rollup."""
    return int(re.search(rf"^{name}:\s*(\d+) kB", text, re.MULTILINE)[1]) << 10


def file_bytes_of(pid, path):
    """How much of the file's pages the process has mapped."""
    total, is_it = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_it = line.endswith(path)
        elif is_it and line.startswith("Rss:"):
            total += int(line.split()[1]) << 10
    return total


@needs_mpi
@unittest.skipIf(why_not(), why_not())
class BigTest(ClusterTest):
    def test_a_model_larger_than_each_worker(self):
        model = self.path("six.gguf")
        code, output = self.run_program("synth", "-o", model, "--type", "f16", "--shape", SHAPE,
                                        timeout_s=MAKE_S)
        self.assertEqual(code, 0, output)
        model_bytes = os.path.getsize(model)
        self.assertGreater(model_bytes, 5 * GIB)
        cluster = self.serve(model, "--memory", "1.8G", "--threads", "1", "--ctx-size", str(N_CTX),
                             "--parallel", "2", "--ffn", "exact", ranks=5).ready(READY_S)
        # A long prompt would take minutes.
        tokens, _ = cluster.api.complete([7] * 32, 4)
        self.assertEqual(len(tokens), 4)
        print(f"model {model_bytes / GIB:.2f} GiB", file=sys.stderr)
        for rank in range(1, 5):
            pid = worker_of_rank(cluster, rank)
            status = Path(f"/proc/{pid}/status").read_text()
            peak, mapped = field(status, "VmHWM"), file_bytes_of(pid, model)
            print(f"worker {rank}: peak {peak / GIB:.3f} GiB of {BUDGET / GIB:.2f}, "
                  f"{mapped / GIB:.3f} of the file's pages", file=sys.stderr)
            self.assertLess(peak, 1.05 * BUDGET, f"worker {rank}")
            self.assertLess(mapped, 0.4 * model_bytes, f"worker {rank}")
        # What they hold together is the model, so they have to use what they may.
        owned = [worker["bytes_total"] for worker in cluster.api.cluster()["workers"]]
        self.assertGreater(sum(owned), 0.95 * model_bytes)
        self.assertLess(max(owned), BUDGET)
        self.stop(cluster, 30)


if __name__ == "__main__":
    main()
