"""Links that are measured before a plan is made, the cluster file they are kept in, and what a file
that somebody has edited does to the plan."""

import json
import os
import re
import signal

from cluster import THERMOCLINE, ClusterTest, main, needs_mpi, wait_until

PROMPT = [5, 17, 99, 200]
N_GENERATED = 8


class LinksTest(ClusterTest):
    def setUp(self):
        super().setUp()
        self.model = self.tiny_model("arcee", n_layer=4, n_ff=512)
        self.wanted = self.generate(self.model, PROMPT, N_GENERATED, "--ffn", "exact")[0]["generated"]

    def check(self, cluster):
        """Serves with the right tokens, and ends."""
        tokens, _ = cluster.ready().api.complete(PROMPT, N_GENERATED)
        self.assertEqual(tokens, self.wanted)
        self.stop(cluster)

    def links(self, path):
        """{(from, to): (latency, rate, message)} of a saved file, all measured; its transports."""
        with open(path, encoding="utf-8") as file:
            text = file.read()
        found = re.findall(r"\{from: (\d+), to: (\d+), transport: (\w+), latency_us: (\S+) measured, "
                           r"gb_per_s: (\S+) measured, message_us: (\S+) measured\}", text)
        self.assertEqual(len(found), text.count("{from:"), text)
        return ({(int(a), int(b)): tuple(map(float, numbers)) for a, b, _, *numbers in found},
                {transport for _, _, transport, *_ in found})

    def write(self, text):
        path = self.path("edited.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def test_three_workers_measure_and_a_file_of_it_is_served_again(self):
        saved = self.path("cluster.yaml")
        flags = ["--ffn", "exact"]
        cluster, _ = self.serve_joined(self.model, 3, *flags, "--save-cluster", saved)
        self.check(cluster)
        self.assertIn("measuring links: 3 pairs", cluster.output)
        self.assertRegex(cluster.output, r"(?m)^links: zmq, .* 6 of 6 directions measured$")
        links, transports = self.links(saved)
        self.assertEqual(set(links), {(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b})
        self.assertEqual(transports, {"zmq"})
        for latency_us, gb_per_s, message_us in links.values():
            self.assertTrue(latency_us >= 0 and gb_per_s > 0 and message_us > 0, links)

        again = self.path("again.yaml")
        cluster, _ = self.serve_joined(self.model, 3, *flags, "--cluster", saved, "--save-cluster",
                                       again)
        self.check(cluster)
        self.assertNotIn("measuring links", cluster.output)
        self.assertEqual(self.links(again)[0], links)

    def test_a_shaped_link_shows_up(self):
        saved = self.path("cluster.yaml")
        cluster, _ = self.serve_joined(self.model, 2, "--ffn", "exact", "--save-cluster", saved,
                                       worker_flags=["--shape", "latency=3ms,bandwidth=50MB/s"])
        self.check(cluster)
        for latency_us, _, _ in self.links(saved)[0].values():
            self.assertGreater(latency_us, 2500)  # 3000 less half of what messages take

    def test_a_worker_that_joins_is_measured_while_streams_run(self):
        """Between steps, by the shape of its links; no stream notices but by waiting."""
        model = self.tiny_model("arcee", n_layer=4, n_ff=512, n_ctx=512)
        wanted = self.generate(model, PROMPT, 200, "--ffn", "exact")[0]["generated"]
        saved, shape = self.path("cluster.yaml"), ["--shape", "latency=3ms,bandwidth=50MB/s"]
        cluster, _ = self.serve_joined(model, 2, "--ffn", "exact", "--save-cluster", saved,
                                       "--wire-dtype", "f32", worker_flags=shape)
        cluster.ready()
        os.remove(saved)
        stream = cluster.api.stream(PROMPT, 200, return_token_ids=True)
        first = stream.next()
        key, join = cluster.join_arguments()
        self.start_worker(join, key, *shape)
        cluster.wait_line(r"^links of worker 3 on \S+ measured between steps: 4 directions$")
        wait_until(lambda: os.path.exists(saved) and "from: 3" in self.read(saved), "a new file")
        links, _ = self.links(saved)
        self.assertEqual(set(links), {(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b})
        for (a, b), (latency_us, _, _) in links.items():
            if 3 in (a, b):
                self.assertGreater(latency_us, 2500)
        events = [json.loads(event) for event in [first, *stream.rest()] if event != "[DONE]"]
        tokens = [token for event in events for choice in event["choices"]
                  for token in choice.get("token_ids") or []]
        self.assertEqual(tokens, wanted)
        self.stop(cluster)

    def test_a_worker_that_joins_with_links_of_its_own_kind_is_assumed(self):
        """Its probes fail, which is told; it stays out of the plan, and the service serves."""
        cluster, _ = self.serve_joined(self.model, 1, "--ffn", "exact", "--replan", "now")
        cluster.ready()
        key, join = cluster.join_arguments()
        self.start_worker(join, key, "--shape", "latency=1ms")
        cluster.wait_line(r"^a link was not measured and is assumed: worker 1 on \S+ and worker 2 on "
                          r"\S+ cannot talk over zmq")
        self.check(cluster)

    def read(self, path):
        with open(path, encoding="utf-8") as file:
            return file.read()

    def test_links_shaped_at_one_end_only_are_found_out(self):
        cluster = self.serve(self.model, "--workers", "2")
        key, join = cluster.join_arguments()
        for flags in ([], ["--shape", "latency=1ms"]):
            self.start_worker(join, key, *flags)
        self.assertEqual(cluster.wait(), 1, cluster.output)
        self.assertRegex(cluster.output, r"worker 1 on \S+ and worker 2 on \S+ cannot talk over zmq")

    def start_worker(self, join, key, *flags):
        return self.start([THERMOCLINE, "worker", *join, "--threads", "1", *flags], env=key)

    def test_a_worker_that_does_not_answer_ends_the_start_by_name(self):
        cluster = self.serve(self.model, "--workers", "2")
        key, join = cluster.join_arguments()
        silent = self.start_worker(join, key)
        cluster.wait_line("worker 1 on .* joined")
        silent.signal(signal.SIGSTOP)
        self.start_worker(join, key)
        cluster.wait_line("measuring links: 1 pair")
        self.assertEqual(cluster.wait(12), 1, cluster.output)
        self.assertRegex(cluster.output,
                         r"worker 1 on \S+ (and worker 2 on \S+ cannot talk over zmq: |is lost: )")

    def test_an_edited_file_steers_the_plan(self):
        near = ("workers:\n"
                "  - {id: 1, read_gb_per_s: 0.004, gather_gb_per_s: 0.004}\n"
                "  - {id: 2, read_gb_per_s: 0.004, gather_gb_per_s: 0.004}\n"
                "links:\n"
                "  - {from: 1, to: 2, latency_us: 1, gb_per_s: 10, message_us: 0}\n"
                "  - {from: 2, to: 1, latency_us: 1, gb_per_s: 10, message_us: 0}\n")
        far = near.replace("latency_us: 1,", "latency_us: 400000,")
        flags = ["--ffn", "exact", "--objective", "latency"]
        cluster, _ = self.serve_joined(self.model, 2, *flags, "--cluster", self.write(near))
        self.check(cluster)
        self.assertRegex(cluster.output, r"helped by worker \d: .* (saves|the lead alone lacks|its lead free of) ")
        cluster, _ = self.serve_joined(self.model, 2, *flags, "--cluster", self.write(far))
        self.check(cluster)
        self.assertRegex(cluster.output, r"(?m)^spare: worker \d on \S+: no plan with it was found to "
                                         r"be better; a message to it takes 400 ms")

    def test_files_that_do_not_fit(self):
        cluster, _ = self.serve_joined(self.model, 2, "--cluster",
                                       self.write("workers:\n  - {id: 1, host: elsewhere}\n"))
        self.assertEqual(cluster.wait(), 2, cluster.output)
        self.assertRegex(cluster.output, r"the cluster file is of other workers: it has 1 on "
                                         r"elsewhere; joined have 1 on \S+, 2 on \S+")
        for text, pattern in [("workers:\n  - {host: a}\n", r"line 2: workers\[0\]\.id is missing"),
                              ("- 1\n", "is not a mapping")]:
            code, output = self.run_program("serve", "--model", self.model, "--port", "0",
                                            "--cluster", self.write(text))
            self.assertEqual(code, 2, output)
            self.assertRegex(output, pattern)
        code, output = self.run_program("serve", "--model", self.model, "--shape", "latency=fast")
        self.assertEqual(code, 2, output)
        self.assertIn("--shape: not understood: latency=fast", output)

    def test_a_cluster_goes_to_stdout(self):
        cluster, _ = self.serve_joined(self.model, 2, "--ffn", "exact", "--save-cluster", "-")
        self.check(cluster)
        self.assertRegex(cluster.output, r"(?ms)^version: 1$.*^workers:$.*^links:$")

    def test_a_cluster_that_cannot_be_saved(self):
        cluster = self.serve(self.model, "--save-cluster", self.path("no/such/folder.yaml"))
        self.assertEqual(cluster.wait(), 1, cluster.output)
        self.assertIn("--save-cluster: cannot write", cluster.output)

    @needs_mpi
    def test_mpi_links_are_measured_as_mpi_links(self):
        saved = self.path("cluster.yaml")
        cluster = self.serve(self.model, "--ffn", "exact", "--save-cluster", saved, "--shape",
                             "latency=2ms", ranks=4)
        self.check(cluster)
        links, transports = self.links(saved)
        self.assertEqual(transports, {"mpi"})
        self.assertEqual(len(links), 6)
        for latency_us, _, _ in links.values():
            self.assertGreater(latency_us, 1500)
        cluster = self.serve(self.model, "--ffn", "exact", "--cluster", saved, "--transport", "zmq",
                             ranks=4)
        self.assertNotEqual(cluster.wait(), 0)
        self.assertRegex(cluster.output, r"link \d -> \d is for mpi, and links will be zmq")


if __name__ == "__main__":
    main()
