"""How weights reach the workers: own ranges of a file, or over the wire into a cache."""

import os
import re

from cluster import DEMO_MODEL, THERMOCLINE, ClusterTest, main, needs_mpi

MIB = 1 << 20
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": MIB, "GiB": 1 << 30}
PROMPT = [1, 2, 3, 4, 5]
# Ranges are fetched in chunks of 1 MiB; two stages may both need the chunk at their border.
CHUNK = MIB


def size_of(text):
    number, unit = text.split()
    return float(number) * UNITS[unit]


class WeightsTest(ClusterTest):
    def loads(self, cluster):
        """(owned, read, peak memory) of each worker, as the terminal says."""
        size = r"(\d[\d.]* \w+)"
        found = re.findall(rf"worker \d+ on \S+ loaded {size} \(read {size}, peak memory {size}\)",
                           cluster.output)
        self.assertTrue(found, cluster.output)
        return [tuple(map(size_of, sizes)) for sizes in found]

    def from_coordinator(self, model, cache, n_workers=2):
        """Serves once with weights over the wire; (what workers fetched, tokens)."""
        cluster, workers = self.serve_joined(
            model, n_workers, "--weights-from", "coordinator", *self.pipeline(2, 5),
            worker_flags=["--cache-dir", cache])
        tokens, _ = cluster.ready().api.complete(PROMPT, 8)
        fetched = [size_of(size) for size in re.findall(r"fetched (\S+ \w+)", cluster.output)]
        self.assertEqual(len(fetched), n_workers, cluster.output)
        self.stop(cluster)
        for worker in workers:
            worker.wait_gone()
        return fetched, tokens

    def wanted(self):
        return self.generate(DEMO_MODEL, PROMPT, 8)[0]["generated"]


    def start_worker(self, join, key):
        return self.start([THERMOCLINE, "worker", *join, "--threads", "1"], env=key, cwd=self.folder)


class FileTest(WeightsTest):
    def test_each_worker_reads_only_its_own(self):
        cluster, _ = self.serve_joined(DEMO_MODEL, 3, *self.pipeline(2, 4, 5))
        cluster.ready()
        loads = self.loads(cluster)
        self.assertEqual(len(loads), 3)
        for owned, read, peak in loads:
            self.assertLessEqual(read / owned, 1.02)
            self.assertLess(owned, 0.6 * os.path.getsize(DEMO_MODEL))
            self.assertGreater(peak, owned)
        for worker in cluster.api.cluster()["workers"]:
            self.assertGreater(worker["peak_rss_bytes"], MIB)
        self.assertEqual(len(cluster.lines(r"^  \d +\S+ +cpu .* MiB$")), 3, "the node table")

    def test_a_relative_path_with_workers_elsewhere(self):
        folder, name = os.path.split(DEMO_MODEL)
        cluster = self.serve(name, "--workers", "1", cwd=folder)
        key, join = cluster.join_arguments()
        self.start_worker(join, key)
        self.assertEqual(cluster.ready().api.complete(PROMPT, 8)[0], self.wanted())

    def test_a_file_that_the_worker_cannot_read(self):
        model = self.tiny_model("arcee", n_layer=5)
        cluster = self.serve(model, "--workers", "1")
        key, join = cluster.join_arguments()
        os.unlink(model)  # the coordinator has it open
        self.start_worker(join, key)
        self.assertNotEqual(cluster.wait(10), 0)
        self.assertRegex(cluster.output, rf"serve: worker 1 on \S+ failed: no such file: {model}")

    def test_another_file_at_the_worker(self):
        model = self.tiny_model("arcee", n_layer=5, seed=1)
        cluster = self.serve(model, "--workers", "1")
        key, join = cluster.join_arguments()
        os.rename(self.tiny_model("qwen2", n_layer=5, seed=2), model)
        self.start_worker(join, key)
        self.assertNotEqual(cluster.wait(10), 0)
        self.assertRegex(cluster.output, r"worker 1 on \S+ failed: another model than .*fingerprint=")

    def test_a_retrained_file_at_the_worker(self):
        model = self.tiny_model("arcee", n_layer=5, seed=1)
        cluster = self.serve(model, "--workers", "1")
        key, join = cluster.join_arguments()
        os.unlink(model)  # the coordinator has it open
        self.tiny_model("arcee", n_layer=5, seed=2)
        self.start_worker(join, key)
        self.assertNotEqual(cluster.wait(10), 0)
        self.assertRegex(cluster.output, r"worker 1 on \S+ failed: another model than .*fingerprint=")


class WireTest(WeightsTest):
    def test_empty_warm_and_damaged_cache(self):
        cache = self.path("cache")
        wanted = self.wanted()
        fetched, tokens = self.from_coordinator(DEMO_MODEL, cache)
        self.assertEqual(tokens, wanted)
        total = os.path.getsize(DEMO_MODEL)
        self.assertGreaterEqual(sum(fetched), 0.9 * total)
        self.assertLess(max(fetched), 0.8 * total, "a worker fetched more than its own")

        warm, tokens = self.from_coordinator(DEMO_MODEL, cache)
        self.assertEqual(tokens, wanted)
        self.assertEqual(sum(warm), 0, "a warm cache needs nothing")

        (folder,) = os.listdir(cache)
        with open(os.path.join(cache, folder, "model.gguf"), "r+b") as file:
            file.seek(total // 2)
            file.write(b"damaged!")
        repaired, tokens = self.from_coordinator(DEMO_MODEL, cache)
        self.assertEqual(tokens, wanted)
        self.assertGreater(sum(repaired), 0)
        self.assertLessEqual(sum(repaired), 2 * CHUNK, "only the damaged chunk")

    def test_a_retrained_file_is_fetched_anew(self):
        cache = self.path("cache")
        for seed in (1, 2):
            model = self.tiny_model("arcee", n_layer=5, seed=seed)
            wanted = self.generate(model, PROMPT, 8)[0]["generated"]
            fetched, tokens = self.from_coordinator(model, cache)
            self.assertEqual(tokens, wanted)
            self.assertGreaterEqual(sum(fetched), 0.9 * os.path.getsize(model))

    def test_a_file_that_only_the_coordinator_has(self):
        model = self.tiny_model("arcee", n_layer=5)
        wanted = self.generate(model, PROMPT, 8)[0]["generated"]
        cluster = self.serve(model, "--workers", "1", "--weights-from", "coordinator")
        key, join = cluster.join_arguments()
        os.unlink(model)
        self.start_worker([*join, "--cache-dir", self.path("cache")], key)
        self.assertEqual(cluster.ready().api.complete(PROMPT, 8)[0], wanted)

    @needs_mpi
    def test_under_mpirun(self):
        cache = self.path("cache")
        cluster = self.serve(DEMO_MODEL, "--weights-from", "coordinator", "--cache-dir", cache,
                             *self.pipeline(2, 4, 5), ranks=4).ready()
        self.assertEqual(cluster.api.complete(PROMPT, 8)[0], self.wanted())
        self.stop(cluster)

    def test_a_folder_that_cannot_be_written(self):
        cluster, _ = self.serve_joined(DEMO_MODEL, 1, "--weights-from", "coordinator",
                                       worker_flags=["--cache-dir", "/proc/none"])
        self.assertNotEqual(cluster.wait(10), 0)
        self.assertRegex(cluster.output, r"worker 1 on \S+ failed: .*cache.*/proc/none")


if __name__ == "__main__":
    main()
