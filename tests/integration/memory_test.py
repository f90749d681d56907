"""What a plan says that each worker needs, and what it takes at its peak."""

import re
from pathlib import Path

from cluster import ClusterTest, main, needs_mpi, worker_of_rank

MIB = 1 << 20
N_CTX = 1024
SETTINGS = ["--ctx-size", str(N_CTX), "--parallel", "1"]
UNITS = {"MiB": MIB, "GiB": 1 << 30}


def stage(lead, layers, *helpers):
    result = {"lead": lead, "layers": layers}
    if helpers:
        result["helpers"] = [{"worker": worker, "neurons": neurons} for worker, neurons in helpers]
    return result


@needs_mpi
class MemoryTest(ClusterTest):
    def setUp(self):
        super().setUp()
        self.model = self.path("synth.gguf")
        code, output = self.run_program(
            "synth", "-o", self.model, "--type", "q8_0", "--shape",
            "n_embd=1024,n_ff=4096,n_layer=8,n_head=8,n_head_kv=8,n_vocab=8000")
        self.assertEqual(code, 0, output)

    def planned(self, plan, cluster_file):
        """{worker: bytes}, as `thermocline plan` says."""
        code, output = self.run_program("plan", "--model", self.model, "--ffn", "exact", *SETTINGS,
                                        "--transport", "mpi", "--cluster", cluster_file, *plan)
        self.assertEqual(code, 0, output)
        rows = re.findall(r"^\|[^|]*\|[^|]*\| +(\d+) \|[^|]*\| (?:lead|helper) *\|[^|]*\|[^|]*\|"
                          r" +([\d.]+) (\w+) \|", output, re.MULTILINE)
        return {int(worker): float(size) * UNITS[unit] for worker, size, unit in rows}

    def check(self, n_workers, *stages):
        plan = self.plan_of(*stages)
        saved = self.path("cluster.yaml")
        cluster = self.serve(self.model, "--ffn", "exact", "--threads", "1", *SETTINGS, *plan,
                             "--prefill-chunk", "512", "--save-cluster", saved,
                             ranks=n_workers + 1).ready()
        # Steps of the largest size, and every page of the KV.
        cluster.api.complete([7] * (N_CTX - 4), 4)
        peaks = {}
        for rank in range(1, n_workers + 1):
            status = Path(f"/proc/{worker_of_rank(cluster, rank)}/status").read_text()
            peaks[rank] = int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) << 10
        self.stop(cluster)
        planned = self.planned(plan, saved)
        self.assertEqual(planned.keys(), peaks.keys())
        for worker, peak in peaks.items():
            self.assertLess(abs(planned[worker] / peak - 1), 0.05,
                            f"worker {worker}: planned {planned[worker] / MIB:.1f} MiB, "
                            f"peak {peak / MIB:.1f} MiB")

    def test_a_pipeline(self):
        self.check(2, stage(1, [0, 4]), stage(2, [4, 8]))

    def test_a_lead_and_its_helpers(self):
        self.check(3, stage(1, [0, 8], (2, [1024, 2048]), (3, [2048, 4096])))


if __name__ == "__main__":
    main()
