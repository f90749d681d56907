"""--cpus and --isa: where the threads of a step run, and clear words for CPUs that are not there."""

import csv
import os

from cluster import DEMO_MODEL, ClusterTest, main

ALLOWED = sorted(os.sched_getaffinity(0))
NOT_THERE = "900000"


def cpus_of_threads(pid):
    """{thread's name: the CPUs it may use}."""
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm", encoding="utf-8") as file:
            found[file.read().strip()] = sorted(os.sched_getaffinity(int(task)))
    return found


class CpusTest(ClusterTest):
    def check_pinned(self, cluster):
        """One worker whose step thread and pool have a CPU each."""
        worker, = cluster.ready().members("thermocline-worker")
        threads = cpus_of_threads(worker)
        self.assertEqual(threads["tc-step"], [ALLOWED[0]])
        for i, cpu in enumerate(ALLOWED[1:], start=1):
            self.assertEqual(threads[f"ops/{i}"], [cpu])
        self.assertNotIn(f"ops/{len(ALLOWED)}", threads)
        self.assertEqual(cluster.api.complete([5, 6, 7], 8)[0],
                         self.generate(DEMO_MODEL, [5, 6, 7], 8)[0]["generated"])
        self.stop(cluster)

    def test_a_served_worker(self):
        self.check_pinned(self.serve(DEMO_MODEL, "--cpus", ",".join(map(str, ALLOWED))))

    def test_the_served_worker_takes_the_instruction_set(self):
        cluster = self.serve(DEMO_MODEL, "--isa", "scalar").ready()
        worker, = cluster.members("thermocline-worker")
        with open(f"/proc/{worker}/cmdline", "rb") as file:
            self.assertIn(b"--isa\0scalar\0", file.read())
        self.assertEqual(cluster.api.complete([5, 6, 7], 8)[0],
                         self.generate(DEMO_MODEL, [5, 6, 7], 8, "--isa", "scalar")[0]["generated"])
        self.stop(cluster)

    def test_an_instruction_set_that_is_not_there_is_named(self):
        code, output = self.run_program("serve", "-m", DEMO_MODEL, "--isa", "abacus")
        self.assertNotEqual(code, 0, output)
        self.assertIn("--isa: ", output)
        self.assertIn("abacus", output)

    def test_a_worker_that_is_not_pinned(self):
        cluster = self.serve(DEMO_MODEL).ready()
        worker, = cluster.members("thermocline-worker")
        self.assertEqual(cpus_of_threads(worker)["tc-step"], ALLOWED)
        self.stop(cluster)

    def test_programs_without_a_cluster(self):
        last = str(ALLOWED[-1])
        answer, _ = self.generate(DEMO_MODEL, [5, 6, 7], 8, "--cpus", last)
        self.assertEqual(answer["generated"],
                         self.generate(DEMO_MODEL, [5, 6, 7], 8)[0]["generated"])
        code, output = self.run_program("bench", "-m", DEMO_MODEL, "-p", "4", "-n", "2", "-r", "1",
                                        "--probe-memory", "16M", "--cpus", last, "-o", "csv")
        self.assertEqual(code, 0, output)
        header = next(line for line in output.splitlines() if line.startswith("build,"))
        row = next(csv.DictReader([header, output.splitlines()[-1]]))
        self.assertEqual(row["threads"], "1")

    def test_what_is_not_there_is_named(self):
        few = ["-t", str(len(ALLOWED) + 1), "--cpus", ",".join(map(str, ALLOWED))]
        for program in ("generate", "bench", "serve"):
            source = ["--prompt-tokens", "1"] if program == "generate" else []
            for flags, words in ((["--cpus", NOT_THERE], f"cpu={NOT_THERE} allowed="),
                                 (["--cpus", "all"], "like 0-3,8"), (few, "more threads than CPUs")):
                code, output = self.run_program(program, "-m", DEMO_MODEL, *source, *flags)
                self.assertEqual(code, 2, output)
                self.assertIn(words, output)
                self.assertEqual(len(output.splitlines()), 1, output)


if __name__ == "__main__":
    main()
