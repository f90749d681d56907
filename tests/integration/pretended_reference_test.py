"""`thermocline generate` on a GPU that an emulator pretends: the CUDA backend's kernels against logits
of an independent implementation, and its greedy tokens on the demo model against the CPU's."""

import os

import cluster
import reference_test
from cluster import DEMO_MODEL, ClusterTest, main

PROGRAM = os.path.join(cluster.TEST_BIN_DIR, "pretended_gpu", "thermocline")
EXACT_TYPES = ("f32", "f16")  # what is compared on cards; the ops of all types have unit tests


class OnACard(ClusterTest):
    def generate(self, model, prompt, n, *flags):
        return super().generate(model, prompt, n, *flags, "--device", "cuda", program=PROGRAM,
                                env={"TC_PRETENDED_GPUS": "1x512"})


class ReferenceTest(OnACard, reference_test.ReferenceTest):
    def test_logits_and_greedy_tokens(self):
        n_checked = 0
        for name, model, description in reference_test.fixtures():
            if name.rsplit("-", 1)[1] not in EXACT_TYPES:
                continue
            with self.subTest(name):
                reference = reference_test.Reference(description)
                rows = self.check_logits(name, model, reference)
                self.check_tokens(model, rows, reference)
                n_checked += 1
        self.assertGreaterEqual(n_checked, 2)


class DemoTest(OnACard):
    def test_greedy_tokens_are_those_of_the_cpu(self):
        prompt = list(range(300, 308))
        for mode in ("dense", "exact"):
            with self.subTest(mode):
                on_cpu, _ = ClusterTest.generate(self, DEMO_MODEL, prompt, 12, "--ffn", mode)
                on_card, _ = self.generate(DEMO_MODEL, prompt, 12, "--ffn", mode)
                self.assertEqual(on_card["generated"], on_cpu["generated"])


if __name__ == "__main__":
    main()
