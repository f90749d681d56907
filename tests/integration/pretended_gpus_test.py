"""Services whose GPUs an emulator pretends (tests/support/pretended_gpu): the kernels are the real
ones, run by threads of the host, and so is all that programs do with a GPU. Models are tiny: a card
takes some 50 ms for a token."""

import os
import re

from cluster import TEST_BIN_DIR, ClusterTest, main
from loss_test import LossTest
from replan_test import PROMPT, stage

PRETENDED_DIR = os.path.join(TEST_BIN_DIR, "pretended_gpu")
PROGRAM = os.path.join(PRETENDED_DIR, "thermocline")
N = 12  # tokens


def cards(n, mib=128):
    return {"TC_PRETENDED_GPUS": f"{n}x{mib}"}


class PretendedTest(LossTest):
    def model(self, **settings):
        return self.tiny_model("arcee", **{"n_layer": 2, "n_embd": 64, "n_ff": 256, "n_ctx": 256,
                                           "dtype": "F32", **settings})

    def expected(self, model, n=N, prompt=PROMPT):
        return self.generate(model, prompt, n, "--ffn", "exact")[0]["generated"]

    def serve_pretended(self, model, *flags, **options):
        return self.serve(model, "--ffn", "exact", *flags, program=PROGRAM, **options)

    def serve_joined_by(self, devices, model, *flags, env):
        """Worker i + 1 computes on the i-th device; (cluster, workers)."""
        cluster = self.serve_pretended(model, "--workers", str(len(devices)), *flags)
        key, join = cluster.join_arguments()
        workers = []
        for i, device in enumerate(devices, start=1):
            workers.append(self.start([PROGRAM, "worker", *join, "--threads", "1", "--device",
                                       device], env={**key, **env}))
            cluster.wait_line(rf"^worker {i} on \S+ joined")
        return cluster.ready(), workers

    def devices(self, cluster):
        return {worker["id"]: worker["device"] for worker in cluster.api.cluster()["workers"]}


class HybridTest(PretendedTest):
    """Keys and values of 8 MiB make the budget large beside a block of neurons, of which plans may
    leave one per layer to the CPU that the card has room for; and tokens cost little."""
    BUDGET = 21  # MiB
    LEAST = 0.98  # of the budget is held

    def test_neurons_that_do_not_fit_the_budget_are_the_cpus(self):
        """And the card holds no more than the budget, and hardly less; the coordinator knows which
        card that is, and its copies."""
        model, saved = self.model(n_ff=2048, n_ctx=16384), self.path("cluster.yaml")
        cluster = self.serve_pretended(
            model, "--gpu-memory", f"{self.BUDGET}M", "--cuda-graphs", "off", "--ctx-size", "16384",
            "--parallel", "1", "--batch-size", "16", "--save-cluster", saved,
            env=cards(1)).ready()
        held, budget, graphs = map(float, cluster.wait_line(
            r"cuda:0 emulated holds ([\d.]+) MiB of the ([\d.]+) MiB that it may use, ([\d.]+) \S+ "
            r"are kept free for graphs").groups())
        self.assertEqual((budget, graphs), (self.BUDGET, 0))
        self.assertLessEqual(held, budget)
        self.assertGreaterEqual(held, self.LEAST * budget)
        members = {worker["device"].split()[0]: worker
                   for worker in cluster.api.cluster()["workers"]}
        self.assertEqual(members.keys(), {"cuda:0", "cpu"}, cluster.output)
        for device, is_helper in (("cuda:0", False), ("cpu", True)):
            self.assertEqual(members[device]["helper"], is_helper, cluster.output)
            self.assertEqual(members[device]["stage"], 0)
            self.assertGreater(members[device]["bytes_total"], 0)
        with open(saved, encoding="utf-8") as file:
            profile = file.read()
        self.assertEqual(re.findall(r"(?m)^    gpu: (\d+)", profile), ["0"], profile)
        self.assertRegex(profile, r"(?m)^ +copy_us: 10\b")
        prompt = PROMPT[:3]
        self.assertEqual(cluster.api.complete(prompt, 3)[0], self.expected(model, 3, prompt))
        self.stop(cluster)


class FaultTest(PretendedTest):
    def check_fault(self, fault, why):
        """A card that goes in the middle of a stream, whose CPU goes on alone."""
        model = self.model()
        expected = self.expected(model)
        cluster, workers = self.serve_joined_by(
            ["cuda", "cpu"], model, *self.plan_of(stage(1, [0, 2], (2, [96, 256]))),
            env={**cards(1), "TC_PRETENDED_GPU_FAULTS": self.folder})
        stream = cluster.api.stream(PROMPT, N, return_token_ids=True)
        first = stream.next()
        with open(self.path(fault), "w", encoding="utf-8"):
            pass
        self.check((stream, first, expected))
        # Whatever the stream had needed the card for by then, this needs it.
        self.assertEqual(cluster.api.complete(PROMPT, 8)[0], expected[:8])
        self.wait_lost(cluster, 1)
        self.assertEqual(workers[0].wait(), 1)
        self.assertRegex(workers[0].output,
                         rf"thermocline worker on \S+: .*cuda:0 emulated: {why}")
        self.assertRegex(cluster.output, rf"worker 1 on \S+ .*cuda:0 emulated: {why}.*; planning "
                                         r"around it")
        self.assertEqual(list(self.devices(cluster)), [2])
        self.assertEqual(cluster.api.complete(PROMPT, N)[0], expected)
        self.stop(cluster)

    def test_a_card_that_fails(self):
        self.check_fault("fails", "the work failed: an emulated error")

    def test_a_card_that_hangs(self):
        self.check_fault("hangs", "the GPU does not answer")


class StartTest(PretendedTest):
    def test_a_budget_that_is_too_small_is_told_with_what_is_needed(self):
        """With the libraries that stand for the driver and NCCL, for whose buffers memory is kept."""
        cluster = self.serve_pretended(
            self.model(), "--gpu-memory", "200M",
            env={**cards(1, 512), "LD_LIBRARY_PATH": os.path.join(PRETENDED_DIR, "lib")})
        self.assertEqual(cluster.wait(), 1)
        self.assertRegex(
            cluster.output,
            r"thermocline worker on \S+: --gpu-memory leaves nothing on cuda:0 emulated: "
            r"budget=200.0 MiB needs_more_than=\d{3}\.\d MiB taken=\d+\.\d MiB "
            r"for_nccl=256.0 MiB total=512.0 MiB; --nccl off ")

    def test_a_card_that_is_not_there(self):
        cluster = self.serve_pretended(self.model(), "--device", "cuda:7", env=cards(2))
        self.assertEqual(cluster.wait(), 1)
        self.assertRegex(cluster.output, r"thermocline worker on \S+: no such GPU: device=7 here=2")

    def test_auto_says_in_one_line_that_a_card_is_too_old(self):
        """And computes on the CPU; who asked for the card is refused."""
        model, env = self.model(), {**cards(1), "TC_PRETENDED_GPU_CAPABILITY": "61"}
        reason = (r"this program has no kernels for a GPU that is so old: cuda:0 emulated "
                  r"capability=6\.1 least=7\.0")
        cluster, workers = self.serve_joined_by(["auto"], model, env=env)
        lines = workers[0].lines("no GPU")
        self.assertEqual(len(lines), 1, workers[0].output)
        self.assertRegex(lines[0], rf"no GPU \({reason}\): computing on cpu ")
        self.assertEqual(cluster.api.complete(PROMPT, 4)[0], self.expected(model, 4))
        self.stop(cluster)
        cluster = self.serve_pretended(model, "--device", "cuda", env=env)
        self.assertEqual(cluster.wait(), 1)
        self.assertRegex(cluster.output, rf"(?m)^thermocline worker on \S+: {reason}$")


class NoGpuTest(ClusterTest):
    """The programs that users have, where there is no GPU, or none may be seen."""
    NONE = {"CUDA_VISIBLE_DEVICES": ""}
    REASON = r"(no CUDA driver on this machine|no such GPU: .*|built without CUDA.*|looking for GPUs.*)"

    def test_cuda_is_an_error_of_one_line(self):
        model = self.tiny_model("llama")
        code, output = self.run_program("generate", "--model", model, "--prompt-tokens", "1", "-n",
                                        "1", "--device", "cuda", env=self.NONE)
        self.assertEqual(code, 1, output)
        self.assertRegex(output, rf"\Athermocline generate: {self.REASON}\Z")
        cluster = self.serve(model, "--device", "cuda", env=self.NONE)
        self.assertEqual(cluster.wait(), 1)
        self.assertRegex(cluster.output, rf"(?m)^thermocline worker on \S+: {self.REASON}$")

    def test_auto_says_in_one_line_that_it_computes_on_the_cpu(self):
        cluster = self.serve(self.tiny_model("llama"), env=self.NONE).ready()
        lines = cluster.lines("no GPU")
        self.assertEqual(len(lines), 1, cluster.output)
        self.assertRegex(lines[0], rf"no GPU \({self.REASON}\): computing on cpu ")
        self.stop(cluster)


if __name__ == "__main__":
    main()
