"""The same model and prompts through every layout: the same tokens and, with F32 links, the same
bits of every logit."""

import os

from cluster import DATA_DIR, DEMO_MODEL, ClusterTest, main, needs_mpi, read_floats

N_GENERATED = 12
# One token; a few; more than two chunks of --prefill-chunk below.
PROMPTS = [[42], [5, 17, 99, 200, 61, 7, 33, 250], [3 + (i * 37) % 250 for i in range(75)]]
CHUNKS = ["--prefill-chunk", "32", "--batch-size", "48"]


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


class LayoutTest(ClusterTest):
    def expected(self, model, *flags):
        """[(tokens, bytes of logits)] of each prompt, from one process without a cluster."""
        runs = [self.generate(model, prompt, N_GENERATED, *flags) for prompt in PROMPTS]
        return [(answer["generated"], read_bytes(path)) for answer, path in runs]

    def dumped(self, number):
        return read_bytes(os.path.join(self.dump, f"seq-{number}.f32"))

    def check_same_bits(self, cluster, expected):
        """One prompt after another. Serving stops one row earlier than `generate --logits-out`."""
        for i, (prompt, (tokens, logits)) in enumerate(zip(PROMPTS, expected), start=1):
            got, _ = cluster.api.complete(prompt, N_GENERATED)
            self.assertEqual(got, tokens)
            row_bytes = len(logits) // (len(prompt) + N_GENERATED)
            self.assertEqual(self.dumped(i), logits[:-row_bytes], f"logits of prompt {i}")
        self.stop(cluster)

    def check_layout(self, model, expected, *flags, ends, **options):
        """`ends`: of the stages' layers; by a plan, since measured speeds decide without one."""
        cluster = self.serve(model, *flags, *self.pipeline(*ends), *self.dump_flags(*CHUNKS), **options)
        self.check_ends(cluster.ready(), ends)
        self.check_same_bits(cluster, expected)

    def check_ends(self, cluster, ends):
        staged = [w for w in cluster.api.cluster()["workers"] if w["stage"] >= 0]
        self.assertEqual([w["layer_end"] for w in sorted(staged, key=lambda w: w["stage"])],
                         list(ends))


class AloneTest(LayoutTest):
    def test_a_worker_beside_the_coordinator(self):
        model = self.tiny_model("llama", n_layer=5)
        self.check_layout(model, self.expected(model), ends=[5])

    def test_three_workers_that_join(self):
        model = self.tiny_model("llama", n_layer=5)
        expected = self.expected(model)
        cluster, workers = self.serve_joined(model, 3, *self.pipeline(2, 4, 5), *self.dump_flags(*CHUNKS))
        self.check_ends(cluster.ready(), [2, 4, 5])
        self.check_same_bits(cluster, expected)
        self.assertEqual([worker.wait(5) for worker in workers], [0, 0, 0])

    def test_plans_of_every_policy_give_the_same_tokens(self):
        """Of stages and helpers."""
        model = self.tiny_model("arcee", n_layer=5)
        expected = self.expected(model, "--ffn", "exact")
        for policy in ("optimal", "frequency-greedy", "proportional", "pipeline-only", "powerinfer"):
            with self.subTest(policy):
                cluster, workers = self.serve_joined(model, 2, "--ffn", "exact", "--policy", policy)
                cluster.ready()
                for prompt, (tokens, _) in zip(PROMPTS, expected):
                    self.assertEqual(cluster.api.complete(prompt, N_GENERATED)[0], tokens)
                self.assertRegex(cluster.output, f"planning for 2 workers: policy {policy}, ")
                self.assertRegex(cluster.output, r"expected: [\d.]+ tokens/s for one stream, [\d.]+ for 4 streams together; ")
                expected_speed = cluster.api.cluster()["expected"]
                self.assertEqual(expected_speed["streams"], 4)
                self.assertGreater(expected_speed["tokens_per_s"], 0)
                self.assertIn("thermocline_expected_step_seconds", cluster.api.get("/metrics"))
                self.stop(cluster)
                for worker in workers:
                    worker.wait_gone()

    def test_one_stream_gets_no_more_workers_than_help_it(self):
        """Layers of microseconds: any message costs more than it could save."""
        model = self.tiny_model("llama", n_layer=2)
        cluster, _ = self.serve_joined(model, 3, "--parallel", "1")
        cluster.ready()
        stages = [w["stage"] for w in cluster.api.cluster()["workers"]]
        self.assertCountEqual(stages, [0, -1, -1], cluster.output)
        spares = cluster.lines(r"^spare: worker \d on \S+: no plan with it was found to be better; "
                               r"a message to it takes [\d.]+ ms, a step without it [\d.]+ ms$")
        self.assertEqual(len(spares), 2, cluster.output)
        self.stop(cluster)

    def test_powerinfer_file_dense_and_exact(self):
        model = os.path.join(DATA_DIR, "powerinfer-q4_0.gguf")
        dense = self.expected(model)
        exact = self.expected(model, "--ffn", "exact")
        self.assertEqual([t for t, _ in dense], [t for t, _ in exact])
        self.check_layout(model, exact, "--ffn", "exact", ends=[2])

    def test_sequences_together_get_the_bits_they_have_alone(self):
        model = self.tiny_model("llama", n_layer=5)
        prompts = [[7 + i, 30, 2 * i + 3] * (3 * i + 1) for i in range(8)]
        alone = [self.generate(model, prompt, N_GENERATED) for prompt in prompts]
        cluster, _ = self.serve_joined(model, 3, *self.pipeline(2, 3, 5), *self.dump_flags(*CHUNKS))
        cluster.ready()
        got = self.complete_together(cluster, prompts, N_GENERATED)
        self.assertEqual(got, [answer["generated"] for answer, _ in alone])
        self.stop(cluster)
        # Arrival decides the numbers of sequences, so the files are compared as a set.
        wanted = []
        for prompt, (_, path) in zip(prompts, alone):
            logits = read_bytes(path)
            wanted.append(logits[:-(len(logits) // (len(prompt) + N_GENERATED))])
        self.assertCountEqual([self.dumped(i + 1) for i in range(len(prompts))], wanted)


@needs_mpi
class MpiTest(LayoutTest):
    def test_two_and_three_stages(self):
        model = self.tiny_model("llama", n_layer=5)
        expected = self.expected(model)
        self.check_layout(model, expected, ends=[2, 5], ranks=3)
        self.check_layout(model, expected, ends=[2, 4, 5], ranks=4)

    def test_zmq_links_under_mpirun(self):
        model = self.tiny_model("nemotron", n_layer=5)
        self.check_layout(model, self.expected(model), "--transport", "zmq", ends=[1, 3, 5],
                          ranks=4)

    def test_frames_beyond_what_tcp_sends_at_once(self):
        """Between hosts MPI speaks TCP, where larger frames need both ends' attention."""
        model = self.tiny_model("llama", n_layer=5, n_embd=128, n_ff=256)
        prompt = [3 + (i * 37) % 250 for i in range(450)]  # 225 KiB of activations
        cluster = self.serve(model, *self.pipeline(2, 4, 5), ranks=4,
                             env={"OMPI_MCA_btl": "tcp,self"}).ready()
        tokens, _ = cluster.api.complete(prompt, N_GENERATED)
        self.assertEqual(tokens, self.generate(model, prompt, N_GENERATED)[0]["generated"])
        self.stop(cluster)

    def test_learned_positions(self):
        model = self.tiny_model("opt", n_layer=5)
        self.check_layout(model, self.expected(model, "--ffn", "exact"), "--ffn", "exact",
                          ends=[2, 4, 5], ranks=4)

    def test_an_uneven_plan(self):
        model = self.tiny_model("qwen2", n_layer=5)
        self.check_layout(model, self.expected(model), ends=[1, 2, 5], ranks=4)

    def test_quantised_weights_and_a_spare_worker(self):
        model = os.path.join(DATA_DIR, "reference/llama-q4_k_m.gguf")  # of two layers
        self.check_layout(model, self.expected(model), ends=[1, 2], ranks=4)

    def test_the_demo_model_exact(self):
        dense = self.expected(DEMO_MODEL)
        exact = self.expected(DEMO_MODEL, "--ffn", "exact")
        self.assertEqual([t for t, _ in dense], [t for t, _ in exact])
        self.check_layout(DEMO_MODEL, dense, ends=[2, 4, 5], ranks=4)
        self.check_layout(DEMO_MODEL, exact, "--ffn", "exact", ends=[2, 3, 5], ranks=4)

    def test_narrow_links(self):
        expected = self.expected(DEMO_MODEL)
        cluster = self.serve(DEMO_MODEL, "--wire-dtype", "f16", *self.pipeline(2, 4, 5),
                             *self.dump_flags(*CHUNKS), ranks=4).ready()
        for i, (prompt, (tokens, logits)) in enumerate(zip(PROMPTS, expected), start=1):
            # Fed with the same tokens, so that every row can be compared.
            cluster.api.complete(prompt + tokens, 1)
            path = self.path("wanted.f32")
            with open(path, "wb") as file:
                file.write(logits)
            wanted = read_floats(path)
            got = read_floats(os.path.join(self.dump, f"seq-{i}.f32"))
            self.assertEqual(len(got), len(wanted))
            error = sum((g - w) ** 2 for g, w in zip(got, wanted)) / sum(w * w for w in wanted)
            self.assertGreater(error, 0, "f16 links cannot be exact")
            self.assertLess(error ** 0.5, 1e-2)
        self.stop(cluster)


if __name__ == "__main__":
    main()
