"""Plans whose stages share their neurons: the bits of one process, whatever the layout, the link and
the FFN mode; and what happens when a helper dies."""

import os
import signal

from cluster import DEMO_MODEL, ClusterTest, main, needs_mpi, read_floats

N_GENERATED = 12
PROMPTS = [[42], [5, 17, 99, 200, 61, 7, 33, 250], [3 + (i * 37) % 250 for i in range(75)]]
CHUNKS = ["--prefill-chunk", "32", "--batch-size", "48"]
# Of the logits' deviation, over links of 16 bits through five layers.
ROUNDING_F16 = 2e-2


def stage(lead, layers, *helpers):
    """`helpers`: (worker, neurons)."""
    result = {"lead": lead, "layers": layers}
    if helpers:
        result["helpers"] = [{"worker": worker, "neurons": neurons} for worker, neurons in helpers]
    return result


class SharedFfnTest(ClusterTest):
    def expected(self, model, *flags):
        return [self.generate(model, prompt, N_GENERATED, *flags) for prompt in PROMPTS]

    def check(self, cluster, expected, rounding=0):
        """Fed with the same tokens as one process, so that all logits can be compared."""
        for i, (prompt, (answer, path)) in enumerate(zip(PROMPTS, expected), start=1):
            tokens = answer["generated"]
            cluster.api.complete(prompt + tokens, 1)
            got = read_floats(os.path.join(self.dump, f"seq-{i}.f32"))
            wanted = read_floats(path)
            if rounding == 0:
                self.assertTrue(got == wanted, f"logits of prompt {i}")
                continue
            self.assertEqual(len(got), len(wanted))
            error = sum((g - w) ** 2 for g, w in zip(got, wanted)) / sum(w * w for w in wanted)
            self.assertLess(error ** 0.5, rounding, f"logits of prompt {i}")
        if rounding == 0:
            for prompt, (answer, _) in zip(PROMPTS, expected):
                tokens, _ = cluster.api.complete(prompt, N_GENERATED)
                self.assertEqual(tokens, answer["generated"])
        self.stop(cluster)


class JoinedTest(SharedFfnTest):
    def test_a_helper_and_what_the_cluster_says_of_it(self):
        model = self.tiny_model("arcee", n_layer=5)
        expected = self.expected(model, "--ffn", "exact")
        plan = self.plan_of(stage(1, [0, 5], (2, [64, 128])))
        cluster, workers = self.serve_joined(model, 2, "--ffn", "exact", *plan,
                                             *self.dump_flags(*CHUNKS))
        cluster.ready()
        workers_now = {w["id"]: w for w in cluster.api.cluster()["workers"]}
        self.assertEqual([workers_now[i]["helper"] for i in (1, 2)], [False, True])
        self.assertEqual([workers_now[i]["stage"] for i in (1, 2)], [0, 0])
        self.assertIn("helped by worker 2", cluster.output)
        self.check(cluster, expected)
        self.assertEqual([worker.wait(5) for worker in workers], [0, 0])

    def test_quantised_models(self):
        """Whose activations are rounded to 8 bits, so that another bit of a sum would be another step."""
        layouts = ([stage(1, [0, 4], (2, [64, 320]))],
                   [stage(1, [0, 4], (2, [0, 64]), (3, [64, 192]), (4, [256, 320]))],
                   [stage(1, [0, 1], (3, [128, 320])), stage(2, [1, 4], (4, [0, 192]))])
        for dtype, stages in zip(("F16", "Q8_0", "Q4_0"), layouts):
            with self.subTest(f"{dtype} {stages}"):
                model = self.tiny_model("arcee", n_layer=4, n_ff=320, dtype=dtype)
                expected = self.expected(model, "--ffn", "exact")
                cluster, workers = self.serve_joined(
                    model, 4, "--ffn", "exact", *self.plan_of(*stages), *self.dump_flags(*CHUNKS))
                cluster.ready()
                self.check(cluster, expected)
                for worker in workers:
                    worker.wait_gone()

    def test_stages_and_helpers_and_streams_together(self):
        model = self.tiny_model("llama", n_layer=5, activation="relu")
        prompts = [[7 + i, 30, 2 * i + 3] * (3 * i + 1) for i in range(6)]
        alone = [self.generate(model, prompt, N_GENERATED, "--ffn", "exact")[0]["generated"]
                 for prompt in prompts]
        plan = self.plan_of(stage(1, [0, 2], (3, [[64, 128], [0, 64]])),
                         stage(2, [2, 5], (4, [0, 64])))
        cluster, _ = self.serve_joined(model, 4, "--ffn", "exact", *plan, *CHUNKS)
        cluster.ready()
        got = self.complete_together(cluster, prompts, N_GENERATED)
        self.assertEqual(got, alone)
        self.stop(cluster)

    def test_predicted_mode_with_helpers(self):
        """Each member predicts its own neurons, from the same x."""
        model = self.tiny_model("powerinfer", n_layer=5, n_ff=256)
        expected = self.expected(model, "--ffn", "predicted")
        plan = self.plan_of(stage(1, [0, 5], (2, [64, 192]), (3, [192, 256])))
        cluster, _ = self.serve_joined(model, 3, "--ffn", "predicted", *plan,
                                       *self.dump_flags(*CHUNKS))
        cluster.ready()
        self.check(cluster, expected)

    def test_predicted_stages_with_helpers_and_streams(self):
        model = self.tiny_model("powerinfer", n_layer=4)
        prompts = [[7 + i, 30, 2 * i + 3] * (3 * i + 1) for i in range(4)]
        alone = [self.generate(model, prompt, N_GENERATED, "--ffn", "predicted")[0]["generated"]
                 for prompt in prompts]
        plan = self.plan_of(stage(1, [0, 2], (3, [64, 128])), stage(2, [2, 4], (4, [0, 64])))
        cluster, _ = self.serve_joined(model, 4, "--ffn", "predicted", *plan, *CHUNKS)
        cluster.ready()
        self.assertEqual(self.complete_together(cluster, prompts, N_GENERATED), alone)
        self.stop(cluster)

    def test_predicted_streams_over_narrow_links(self):
        """What a link rounds of a stream does not depend on who else is in the batch."""
        model = self.tiny_model("powerinfer", n_layer=4)
        prompts = [[7 + i, 30, 2 * i + 3] * (3 * i + 1) for i in range(4)]
        plan = self.plan_of(stage(1, [0, 2], (3, [64, 128])), stage(2, [2, 4], (4, [0, 64])))
        cluster, _ = self.serve_joined(model, 4, "--ffn", "predicted", "--wire-dtype", "f16", *plan,
                                       *CHUNKS)
        cluster.ready()
        alone = [cluster.api.complete(prompt, N_GENERATED)[0] for prompt in prompts]
        self.assertEqual(self.complete_together(cluster, prompts, N_GENERATED), alone)
        self.stop(cluster)

    def test_stages_and_helpers_over_narrow_links(self):
        model = self.tiny_model("arcee", n_layer=5)
        expected = self.expected(model, "--ffn", "exact")
        plan = self.plan_of(stage(1, [0, 3], (3, [48, 128])), stage(2, [3, 5], (4, [0, 50])))
        cluster, _ = self.serve_joined(model, 4, "--ffn", "exact", "--wire-dtype", "f16", *plan,
                                       *self.dump_flags(*CHUNKS))
        cluster.ready()
        self.check(cluster, expected, ROUNDING_F16)

    def test_a_plan_that_places_neurons_twice_is_refused(self):
        model = self.tiny_model("arcee", n_layer=2)
        plan = self.plan_of({**stage(1, [0, 2], (2, [48, 128])), "neurons": [0, 64]})
        cluster, _ = self.serve_joined(model, 2, *plan)
        self.assertNotEqual(cluster.wait(), 0)
        self.assertIn("neurons are placed twice: from=48 to=64", cluster.output)

    def test_a_helper_that_dies_ends_the_service_with_its_name(self):
        model = self.tiny_model("arcee", n_layer=4, n_embd=128, n_ff=256, n_ctx=4096)
        plan = self.plan_of(stage(1, [0, 4], (2, [0, 128])))
        cluster, workers = self.serve_joined(model, 2, "--replan", "off", *plan)
        cluster.ready()
        stream = cluster.api.stream([1, 2, 3], 4000)
        stream.next()
        workers[1].signal(signal.SIGKILL)
        self.assertNotEqual(cluster.wait(), 0)
        stream.drop()
        self.assertRegex(cluster.output, r"worker 2 on \S+ is (lost|gone|leaving)")


@needs_mpi
class MpiTest(SharedFfnTest):
    def test_two_helpers_over_mpi(self):
        model = self.tiny_model("nemotron", n_layer=5, n_ff=256)
        expected = self.expected(model, "--ffn", "exact")
        plan = self.plan_of(stage(1, [0, 5], (2, [0, 64]), (3, [192, 256])))
        cluster = self.serve(model, "--ffn", "exact", *plan, *self.dump_flags(*CHUNKS), ranks=4).ready()
        self.check(cluster, expected)

    def test_the_demo_model_with_two_shared_stages(self):
        expected = self.expected(DEMO_MODEL, "--ffn", "exact")
        half = [384, 768]
        plan = self.plan_of(stage(1, [0, 2], (2, half)), stage(3, [2, 5], (4, half)))
        cluster = self.serve(DEMO_MODEL, "--ffn", "exact", *plan, *self.dump_flags(*CHUNKS),
                             ranks=5).ready()
        self.check(cluster, expected)

    def test_narrow_links(self):
        expected = self.expected(DEMO_MODEL, "--ffn", "exact")
        plan = self.plan_of(stage(1, [0, 5], (2, [384, 768])))
        cluster = self.serve(DEMO_MODEL, "--ffn", "exact", "--wire-dtype", "f16", *plan,
                             *self.dump_flags(*CHUNKS), ranks=3).ready()
        self.check(cluster, expected, ROUNDING_F16)

    def test_weights_from_the_coordinator(self):
        model = self.tiny_model("arcee", n_layer=3)
        expected = self.expected(model)
        plan = self.plan_of(stage(1, [0, 3], (2, [64, 128])))
        cluster = self.serve(model, "--ffn", "dense", "--weights-from", "coordinator", *plan,
                             *self.dump_flags(*CHUNKS), ranks=3).ready()
        self.check(cluster, expected)


if __name__ == "__main__":
    main()
