"""`thermocline plan` from the command line, and what it plans through a cluster."""

import json
import os
import re

from cluster import DEMO_MODEL, ClusterTest, main, needs_mpi

CLUSTER = """
workers:
  - {id: 1, host: here, threads: 1, memory: 1G, read_gb_per_s: 0.004}
  - {id: 2, host: there, threads: 1, memory: 1G, read_gb_per_s: 0.002}
links:
  - {from: 1, to: 2, latency_us: 1, gb_per_s: 10, message_us: 0}
"""


class PlanTest(ClusterTest):
    def plan(self, model, *flags):
        return self.run_program("plan", "--model", model, *flags)

    def cluster_file(self, text=CLUSTER):
        path = self.path(f"{len(os.listdir(self.folder))}-cluster.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def test_rows_of_8_bits_are_planned_and_explained(self):
        model, plan = self.tiny_model("arcee", n_layer=4, n_ff=512), self.path("plan.json")
        flags = ("--ffn", "exact", "--active", "0.2", "--streams", "1")
        fp8 = self.cluster_file(CLUSTER.replace("host: there", "host: there, gpu_rows: fp8-e4m3"))
        code, output = self.plan(model, "--cluster", fp8, *flags, "--explain", "-o", plan)
        self.assertEqual(code, 0, output)
        self.assertRegex(output, r"\| neuron rows +\|")
        self.assertRegex(output, r"\| fp8-e4m3, [\d.]+ KiB less +\|")
        self.assertRegex(output, r"\| as-is +\|")
        with open(plan, encoding="utf-8") as file:
            stage = json.load(file)["stages"][0]
        members = {member.get("lead", member.get("worker")): member
                   for member in [stage, *stage["helpers"]]}
        self.assertNotIn("saved_bytes", members[1])
        self.assertGreater(members[2]["saved_bytes"], 0)
        code, output = self.plan(model, "--cluster", self.cluster_file(), *flags, "--plan", plan)
        self.assertNotEqual(code, 0, output)
        self.assertIn("states other savings by rows in 8 bits than its worker has", output)

    def test_an_assumed_hop_of_a_gpu_costs_both_copies(self):
        """From the card at 1 GB/s and to it at 2 GB/s, beside 8 GB/s and 1 us through shared memory."""
        card = "{upload_gb_per_s: 2, download_gb_per_s: 1, copy_us: 100}"
        cluster = ("workers:\n"
                   f"  - {{id: 1, host: box, threads: 1, memory: 1G, gpu: 0, gpus: [{card}]}}\n"
                   f"  - {{id: 2, host: box, threads: 1, memory: 1G, gpus: [{card}]}}\n")
        saved = self.path("saved.yaml")
        code, output = self.plan(self.tiny_model("arcee", n_layer=4, n_ff=512), "--cluster", self.cluster_file(cluster),
                                 "--transport", "mpi", "--save-cluster", saved)
        self.assertEqual(code, 0, output)
        with open(saved, encoding="utf-8") as file:
            links = [line for line in file if "from:" in line]
        rates = [float(re.search(r"gb_per_s: ([\d.]+) assumed", line).group(1)) for line in links]
        self.assertEqual([round(rate, 3) for rate in rates], [round(1 / (1 / 8 + 1), 3), round(1 / (1 / 8 + 1 / 2), 3)])
        for line in links:
            self.assertIn("latency_us: 101 assumed", line)
            self.assertIn('note: "with the copies from and to GPUs"', line)

    def test_a_plan_is_explained_drawn_and_served(self):
        """The planned workers are so slow that sharing pays even for a tiny model."""
        model = self.tiny_model("arcee", n_layer=4, n_ff=512)
        plan, page, saved = self.path("plan.json"), self.path("plan.html"), self.path("saved.yaml")
        code, output = self.plan(model, "--cluster", self.cluster_file(), "--ffn", "exact",
                                 "--active", "0.2", "--streams", "1", "--compare", "-o", plan, "--html", page,
                                 "--save-cluster", saved)
        self.assertEqual(code, 0, output)
        self.assertRegex(output, r"\| +helper \|")
        self.assertRegex(output, r"saves [\d.]+ ms of a step, net of the [\d.]+ ms that its links take")
        self.assertRegex(output, r"one stream: [\d.]+ tokens/s\na step of 1 sequence ")
        self.assertRegex(output, r"gap [\d.]+ %")
        for policy in ("frequency-greedy", "proportional", "pipeline-only", "powerinfer"):
            self.assertIn(policy, output)
        with open(page, encoding="utf-8") as file:
            html = file.read()
        self.assertIn("<svg", html)
        self.assertIn("worker 2 there", html)
        self.assertRegex(html, r"worker 2, layer 3: [\d.]+ KiB")
        with open(saved, encoding="utf-8") as file:
            self.assertIn("assumed", file.read())
        with open(plan, encoding="utf-8") as file:
            stages = json.load(file)["stages"]
        self.assertEqual(len(stages), 1)
        self.assertEqual(len(stages[0]["helpers"]), 1)

        code, judged = self.plan(model, "--cluster", self.cluster_file(), "--ffn", "exact",
                                 "--active", "0.2", "--streams", "1", "--plan", plan, "--explain")
        self.assertEqual(code, 0, judged)
        told = r"one stream: [\d.]+ tokens/s\na step of 1 sequence takes [\d.]+ ms"
        self.assertEqual(re.search(told, judged)[0], re.search(told, output)[0])
        self.assertEqual(len(re.findall(r"\| exact +\|", judged)), 4, judged)
        self.assertRegex(judged, r"\| +head \|")
        interval = r"\d+-\d+ \(\d+ %, \d+ %\)"
        self.assertRegex(judged, rf"\n\| 0(-3)? +\| {interval} +\| {interval} +\|\n")
        self.assertRegex(judged, r"\nworker \d helps in 4 of 4 layers: 0-3\n")
        self.assertNotIn("helps in 4", output)

        prompt = [5, 17, 99, 200]
        wanted = self.generate(model, prompt, 12, "--ffn", "exact")[0]["generated"]
        cluster, _ = self.serve_joined(model, 2, "--ffn", "exact", "--plan", plan)
        tokens, _ = cluster.ready().api.complete(prompt, 12)
        self.assertEqual(tokens, wanted)
        self.stop(cluster)

    def profile(self, model):
        """Which neurons of a random model fire is chance, so their order is not the file's."""
        text = self.path("profile.txt")
        with open(text, "w", encoding="utf-8") as file:
            file.write("a walk through the woods, a look at the sea. " * 40)
        code, output = self.run_program("profile", "-m", model, "--text", text, "--window",
                                        "32", "--tokens", "256")
        self.assertEqual(code, 0, output)
        return model.removesuffix(".gguf") + ".profile.gguf"

    def test_a_plan_with_neuron_tables_needs_no_profile(self):
        """Lead and helper tell the checksum of the order in which they took their rows; another
        than that of the plan's tables ends the service."""
        model = self.tiny_model("arcee", n_layer=4, n_ff=512)
        profile = self.profile(model)
        plan, bare = self.path("plan.json"), self.path("bare.json")
        flags = ["--cluster", self.cluster_file(), "--ffn", "exact", "--streams", "1"]
        code, output = self.plan(model, *flags, "--with-neuron-tables", "-o", plan)
        self.assertEqual(code, 0, output)
        self.assertIn("neuron tables: the plan has those of its 4 layers", output)
        self.assertEqual(self.plan(model, *flags, "-o", bare)[0], 0)
        os.remove(profile)
        with open(plan, encoding="utf-8") as file:
            written = json.load(file)
        self.assertEqual(len(written["neuron_tables"]), 4)
        self.assertNotEqual(written["neuron_tables"][0], [[0, 512]])
        self.assertTrue(written["stages"][0]["helpers"])
        code, output = self.plan(model, *flags, "--plan", bare)
        self.assertEqual(code, 0, output)
        self.assertRegex(output, r"warning: the plan was made with another order of neurons "
                                 r"\([0-9a-f]{16}\) than is used here \(the model file's\)")

        prompt = [5, 17, 99, 200]
        wanted = self.generate(model, prompt, 12, "--ffn", "exact")[0]["generated"]
        cluster, _ = self.serve_joined(model, 2, "--ffn", "exact", "--plan", plan)
        self.assertEqual(cluster.ready().api.complete(prompt, 12)[0], wanted)
        self.assertNotIn("another order of neurons", cluster.output)
        status, _, answer = cluster.api.call("POST", "/v1/cluster/replan", written)
        self.assertEqual((status, answer["status"]), (200, "unchanged"), answer)
        table = written["neuron_tables"][2]
        table[0] = table[1]
        status, _, answer = cluster.api.call("POST", "/v1/cluster/replan", written)
        self.assertEqual(status, 400, answer)
        self.assertIn("neuron_tables[2] has neuron", answer["error"]["message"])
        with open(bare, encoding="utf-8") as file:
            status, _, answer = cluster.api.call("POST", "/v1/cluster/replan", json.load(file))
        self.assertEqual((status, answer["status"]), (200, "unchanged"), answer)
        self.stop(cluster)

        cluster, _ = self.serve_joined(model, 2, "--ffn", "exact", "--plan", bare)
        self.assertEqual(cluster.ready().api.complete(prompt, 12)[0], wanted)
        self.assertIn("the plan was made with another order of neurons", cluster.output)
        self.stop(cluster)

    @needs_mpi
    def test_a_plan_leaves_the_transport_to_who_serves_it(self):
        model = self.tiny_model("llama", n_layer=4)
        plan = self.path("plan.json")
        code, output = self.plan(model, "--workers", "2", "--policy", "pipeline-only",
                                 "--objective", "throughput", "-o", plan)
        self.assertEqual(code, 0, output)
        cut = r"the cut after it saves [\d.]+ ms of a round of 4 streams, costs [\d.]+ ms of a token of one, "
        self.assertRegex(output, cut)
        with open(plan, encoding="utf-8") as file:
            first, last = json.load(file)["stages"]
        self.assertRegex(first["reason"], cut)
        self.assertNotIn("the cut after it", last["reason"])
        wanted = self.generate(model, [5, 17], 8)[0]["generated"]
        cluster = self.serve(model, "--plan", plan, ranks=3).ready()
        self.assertRegex(cluster.output, "plan: 2 stages, joined by mpi links")
        self.assertEqual(cluster.api.complete([5, 17], 8)[0], wanted)
        self.stop(cluster)
        code, output = self.plan(model, "--workers", "2", "--transport", "zmq", "-o", plan)
        self.assertEqual(code, 0, output)
        with open(plan, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["link"], "zmq")

    def test_how_links_travel_is_told_and_written(self):
        """Worker 1 has a host of its own; 2 and 3 share one, and 3 is reached by ZeroMQ."""
        cluster = self.cluster_file("""
workers:
  - {id: 1, host: a, threads: 1, memory: 1G, read_gb_per_s: 0.004}
  - {id: 2, host: b, threads: 1, memory: 1G, read_gb_per_s: 0.004}
  - {id: 3, host: b, threads: 1, memory: 1G, read_gb_per_s: 0.004}
links:
  - {from: 1, to: 2, transport: mpi}
""")
        given = self.path("given.json")
        with open(given, "w", encoding="utf-8") as file:
            json.dump({"stages": [{"lead": 1, "layers": [0, 2]}, {"lead": 2, "layers": [2, 4], "helpers": [
                {"worker": 3, "neurons": [256, 512]}]}]}, file)
        model = self.tiny_model("arcee", n_layer=4, n_ff=512)
        plan, page = self.path("plan.json"), self.path("plan.html")
        code, output = self.plan(model, "--cluster", cluster, "--plan", given, "--wire-dtype", "auto",
                                 "--explain", "-o", plan, "--html", page)
        self.assertEqual(code, 0, output)
        self.assertIn("stage 0, worker 1, on to the next over mpi (F16): ", output)
        self.assertIn("  helped by worker 3: ", output)
        self.assertIn("joined by mpi (F16) and zmq (F32) links", output)
        with open(page, encoding="utf-8") as file:
            self.assertIn(" over mpi (F16)</text>", file.read())
        with open(plan, encoding="utf-8") as file:
            written = json.load(file)
        self.assertEqual(written["stages"][0]["wire"], "F16")
        self.assertNotIn("link", written["stages"][0])  # left to who serves it
        self.assertNotIn("wire", written["stages"][1]["helpers"][0])

    def test_over_a_long_wire_the_answer_is_not_to_split(self):
        page = self.path("plan.html")
        code, output = self.plan(DEMO_MODEL, "--workers", "3", "--memory", "1G", "--link", "wan",
                                 "--html", page)
        self.assertEqual(code, 0, output)
        with open(page, encoding="utf-8") as file:
            self.assertRegex(file.read(), r"Spare workers.*worker 2 node2.*worker 3 node3.*In words")
        self.assertNotRegex(output, r"\| +helper \|")
        self.assertIn("spare: worker 2 (node2), 3 (node3)", output)

    def test_of_a_given_plan_nobody_says_it_is_best(self):
        plan = self.path("one.json")
        with open(plan, "w", encoding="utf-8") as file:
            json.dump({"stages": [{"lead": 1, "layers": [0, 5]}]}, file)
        code, output = self.plan(DEMO_MODEL, "--workers", "2", "--memory", "1G", "--plan", plan)
        self.assertEqual(code, 0, output)
        self.assertIn("spare: worker 2 (node2): the plan names it nowhere", output)

    def test_a_given_plan_is_worth_what_the_streams_in_its_kv_get(self):
        plan = self.path("small.json")
        with open(plan, "w", encoding="utf-8") as file:
            json.dump({"kv": {"n_pages": 40}, "stages": [{"lead": 1, "layers": [0, 5]}]}, file)
        flags = ["--workers", "1", "--memory", "1G", "--plan", plan, "--depth", "200"]
        code, few = self.plan(DEMO_MODEL, *flags, "--streams", "8", "--compare")
        self.assertEqual(code, 0, few)
        self.assertIn("its KV cache holds 3 of the 8 streams asked for; speeds are of 3\n", few)
        self.assertIn("of 3 streams |", few)
        code, all_held = self.plan(DEMO_MODEL, *flags, "--streams", "3")
        self.assertEqual(code, 0, all_held)
        self.assertNotIn("its KV cache holds", all_held)
        told = r"3 streams: [\d.]+ tokens/s together\n.*\nplan value, .*: [\d.]+ ms"
        self.assertEqual(re.search(told, few)[0], re.search(told, all_held)[0])

    def test_the_plan_to_stdout_is_json_alone(self):
        code, output = self.plan(DEMO_MODEL, "--workers", "1", "-o", "-")
        self.assertEqual(code, 0, output)
        # Both streams are one here; the plan is what stands between the braces.
        plan = json.loads(output[output.index("{\n"):output.rindex("}") + 1])
        self.assertEqual(plan["stages"][0]["lead"], 1)

    def test_the_cluster_to_stdout_is_yaml_alone(self):
        code, output = self.plan(DEMO_MODEL, "--workers", "2", "--save-cluster", "-")
        self.assertEqual(code, 0, output)
        self.assertIn("workers:\n  - id: 1", output)
        self.assertFalse(os.path.exists("-"))

    def test_it_plans_for_what_serve_plans_for(self):
        """For the same streams and contexts, and of the same cluster it expects the same."""
        saved = self.path("saved.yaml")
        cluster, _ = self.serve_joined(DEMO_MODEL, 2, "--save-cluster", saved)
        cluster.ready()
        expected = cluster.api.cluster()["expected"]
        streams = r"(\d+ streams?) with (\d+) tokens in the context"
        served = re.search(streams, cluster.output)
        self.stop(cluster)
        self.assertEqual(served.groups(), ("4 streams", "256"))
        code, output = self.plan(DEMO_MODEL, "--cluster", saved)
        self.assertEqual(code, 0, output)
        self.assertEqual(re.search(streams, output).groups(), served.groups())
        one, four = re.search(r"one stream: ([\d.]+) tokens/s; 4 streams: ([\d.]+) ", output).groups()
        self.assertAlmostEqual(float(one) / expected["one_stream_tokens_per_s"], 1, 2)
        self.assertAlmostEqual(float(four) / expected["tokens_per_s"], 1, 2)
        code, output = self.plan(DEMO_MODEL, "--workers", "2", "--streams", "1", "--depth", "7")
        self.assertEqual(re.search(streams, output).groups(), ("1 stream", "7"))
        code, output = self.run_program("serve", "--model", DEMO_MODEL, "--depth", "513")
        self.assertEqual(code, 2, output)
        self.assertIn("--depth is above the longest context: depth=513 n_ctx=512", output)

    def test_a_speed_that_nobody_gave_is_told_and_saved_as_assumed(self):
        saved = self.path("saved.yaml")
        code, output = self.plan(DEMO_MODEL, "--cluster", self.cluster_file(
            CLUSTER.replace(", read_gb_per_s: 0.002", "")), "--save-cluster", saved)
        self.assertEqual(code, 0, output)
        self.assertIn("assumed: 20.0 GB/s of memory for worker 2; ", output)
        with open(saved, encoding="utf-8") as file:
            self.assertIn("read_gb_per_s: 20 assumed", file.read())

    def test_wishes_that_cannot_be_are_named(self):
        twice = "workers:\n  - {id: 1, memory: 1G}\n  - {id: 1, memory: 1G}\n"
        negative = CLUSTER.replace("latency_us: 1,", "latency_us: -1,")
        open(self.path("empty.json"), "w", encoding="utf-8").close()
        for flags, wanted in [
                ([], "plan for which cluster"),
                (["--workers", "2", "--memory", "much"], "much"),
                (["--workers", "2", "--link", "string"], "no such kind of link: string; there are"),
                (["--workers", "2", "--objective", "cheap"], "--objective is not latency"),
                (["--workers", "2", "--plan", "/nowhere.json"], "cannot read /nowhere.json"),
                (["--workers", "2", "--plan", self.cluster_file()], "cluster.yaml"),
                (["--workers", "2", "--policy", "best"], "--policy is not optimal"),
                (["--workers", "2", "--depth", "513"],
                 "--depth is above the longest context: depth=513 n_ctx=512"),
                (["--workers", "2", "--ctx-size", "64", "--depth", "65"], "depth=65 n_ctx=64"),
                (["--workers", "2", "--active", "3"], "--active is not within 0..1"),
                (["--workers", "2", "--ffn", "predicted"], "predict"),
                (["--cluster", "/nowhere.yaml"], "cannot read /nowhere.yaml"),
                (["--cluster", self.cluster_file(twice)], "worker 1 stands twice"),
                (["--cluster", self.cluster_file(""), ], "cluster.yaml: the file is empty"),
                (["--cluster", self.cluster_file(), "--memory", "4G"], "leave out --memory"),
                (["--cluster", self.cluster_file(), "--read-gb-per-s", "9"],
                 "leave out --read-gb-per-s"),
                (["--workers", "2", "-o", "-", "--html", "-"], "only one of --output"),
                (["--workers", "2", "--plan", self.path("empty.json")], "empty.json: the plan is empty"),
                (["--workers", "2", "--plan", self.folder], ": it is a folder, not a file"),
                (["--workers", "2", "--plan", "/dev/zero"], "/dev/zero: it is neither a file nor"),
                (["--cluster", self.folder], ": it is a folder, not a file"),
                (["--cluster", "/dev/zero"], "/dev/zero: it is neither a file nor a pipe"),
        ]:
            code, output = self.plan(DEMO_MODEL, *flags)
            self.assertEqual(code, 2, output)
            self.assertIn(wanted, output)
        code, output = self.plan(DEMO_MODEL, "--cluster", self.cluster_file(negative))
        self.assertEqual(code, 2, output)
        self.assertIn("cluster.yaml: line 6: links[0].latency_us is negative: -1", output)

    def test_memory_that_is_short_is_told_by_how_much(self):
        code, output = self.plan(DEMO_MODEL, "--workers", "2", "--memory", "31M")
        self.assertNotEqual(code, 0)
        self.assertRegex(output, r"workers offer 62\.0 MiB: [\d.]+ MiB are missing; "
                                 r"--memory \d+M of each of 2 workers is enough ")
        enough = re.search(r"--memory (\d+M) of each", output)[1]
        code, output = self.plan(DEMO_MODEL, "--workers", "2", "--memory", enough)
        self.assertEqual(code, 0, output)


if __name__ == "__main__":
    main()
