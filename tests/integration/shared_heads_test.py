"""Plans whose stages share the heads of attention: the bits of one process, whatever the layout, the
link and the FFN mode, while plans change and when who holds some is lost."""

from cluster import main, needs_mpi
from loss_test import LossTest
from shared_ffn_test import CHUNKS, N_GENERATED, ROUNDING_F16, SharedFfnTest

KV_HEADS = {"n_embd": 128, "n_head": 8, "n_head_kv": 4}


def stage(lead, layers, *helpers, heads=None):
    """`helpers`: (worker, neurons or None, heads or None)."""
    result = {"lead": lead, "layers": layers}
    if helpers:
        result["helpers"] = []
    if heads:
        result["heads"] = heads
    for worker, neurons, own in helpers:
        helper = {"worker": worker}
        if neurons:
            helper["neurons"] = neurons
        if own:
            helper["heads"] = own
        result["helpers"].append(helper)
    return result


class JoinedTest(SharedFfnTest):
    def test_layouts_modes_and_types(self):
        for arch, dtype, mode, stages in (
                ("arcee", "F32", "exact", [stage(1, [0, 4], (2, None, [2, 4]))]),
                ("arcee", "Q8_0", "exact",
                 [stage(1, [0, 4], (2, [64, 192], [0, 1]), (3, None, [3, 4]), heads=[1, 3])]),
                ("nemotron", "Q4_0", "exact",
                 [stage(1, [0, 2], (3, [64, 192], [1, 4])), stage(2, [2, 4], (4, None, [0, 3]))]),
                ("powerinfer", "F32", "predicted",
                 [stage(1, [0, 4], (2, [0, 64], [0, 2]), (3, [128, 192], [3, 4]))])):
            with self.subTest(f"{arch} {dtype} {stages}"):
                model = self.tiny_model(arch, n_layer=4, n_ff=192, dtype=dtype, **KV_HEADS)
                expected = self.expected(model, "--ffn", mode)
                cluster, workers = self.serve_joined(
                    model, 4, "--ffn", mode, *self.plan_of(*stages), *self.dump_flags(*CHUNKS))
                cluster.ready()
                self.assertRegex(cluster.output, r"helped by worker \d with KV heads? \d")
                self.check(cluster, expected)
                for worker in workers:
                    worker.wait_gone()

    def test_streams_together_in_two_batches(self):
        """Pages change hands between sequences; so few that sequences give way."""
        model = self.tiny_model("llama", n_layer=4, activation="relu", **KV_HEADS)
        prompts = [[7 + i, 30, 2 * i + 3] * (3 * i + 1) for i in range(8)]
        alone = [self.generate(model, prompt, N_GENERATED, "--ffn", "exact")[0]["generated"]
                 for prompt in prompts]
        for n_pages in (64, 9):
            with self.subTest(n_pages):
                path = self.plan_of(stage(1, [0, 4], (2, [64, 128], [0, 2]), (3, None, [3, 4])),
                                    micro_batches=2, n_ctx=128,
                                    kv={"n_pages": n_pages, "page_tokens": 16})
                cluster, workers = self.serve_joined(model, 3, "--ffn", "exact", *path, *CHUNKS)
                cluster.ready()
                self.assertEqual(self.complete_together(cluster, prompts, N_GENERATED), alone)
                self.stop(cluster)
                for worker in workers:
                    worker.wait_gone()

    def test_narrow_links(self):
        model = self.tiny_model("arcee", n_layer=4, **KV_HEADS)
        expected = self.expected(model, "--ffn", "exact")
        cluster, _ = self.serve_joined(
            model, 2, "--ffn", "exact", "--wire-dtype", "f16",
            *self.plan_of(stage(1, [0, 4], (2, [64, 128], [2, 4]))), *self.dump_flags(*CHUNKS))
        cluster.ready()
        self.check(cluster, expected, ROUNDING_F16)

    def test_weights_from_the_coordinator(self):
        model = self.tiny_model("qwen2", n_layer=3, activation="relu", **KV_HEADS)
        expected = self.expected(model, "--ffn", "exact")
        cluster, _ = self.serve_joined(
            model, 2, "--ffn", "exact", "--weights-from", "coordinator",
            *self.plan_of(stage(1, [0, 3], (2, [64, 128], [1, 4]))), *self.dump_flags(*CHUNKS))
        cluster.ready()
        self.check(cluster, expected)

    def test_a_plan_that_places_heads_twice_is_refused(self):
        model = self.tiny_model("arcee", n_layer=2, **KV_HEADS)
        plan = self.plan_of(stage(1, [0, 2], (2, None, [2, 4]), heads=[0, 3]))
        cluster, _ = self.serve_joined(model, 2, *plan)
        self.assertNotEqual(cluster.wait(), 0)
        self.assertIn("heads are placed twice: from=2 to=3", cluster.output)


class ChangeTest(LossTest):
    def model(self, dtype="F32"):
        return self.tiny_model("arcee", n_layer=6, n_ff=512, n_ctx=2048, dtype=dtype, **KV_HEADS)

    def test_a_stream_over_one_layout_after_another(self):
        model = self.model("Q8_0")
        cluster, _ = self.serve_joined(
            model, 3, "--ffn", "exact", *self.plan_of(stage(1, [0, 3]), stage(2, [3, 6])))
        cluster.ready()
        begun = self.begin(cluster, model)
        for stages in ([stage(1, [0, 6], (2, [256, 512], [2, 4]), (3, None, [0, 1]))],
                       [stage(2, [0, 6], (1, [128, 320], [0, 3]), (3, [320, 512], None))],
                       [stage(3, [0, 2], (1, None, [1, 4])), stage(2, [2, 6])]):
            self.replan(cluster, *stages)
        self.check(begun)
        self.stop(cluster)

    def test_who_holds_heads_is_lost(self):
        model, cluster, workers = self.serve_three(
            stages=(stage(1, [0, 6], (2, [256, 512], [2, 4]), (3, None, [0, 1])),))
        begun = self.begin(cluster, model)
        workers[1].kill()
        self.wait_lost(cluster, 1)
        self.check_served(cluster, begun)
        self.stop(cluster)


@needs_mpi
class MpiTest(SharedFfnTest):
    def test_two_helpers_over_mpi(self):
        model = self.tiny_model("nemotron", n_layer=4, n_ff=256, **KV_HEADS)
        expected = self.expected(model, "--ffn", "exact")
        plan = self.plan_of(stage(1, [0, 4], (2, [0, 64], [0, 1]), (3, [192, 256], [2, 4])))
        cluster = self.serve(model, "--ffn", "exact", *plan, *self.dump_flags(*CHUNKS), ranks=4).ready()
        self.check(cluster, expected)


if __name__ == "__main__":
    main()
