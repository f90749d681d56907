"""`thermocline bench` and `thermocline inspect` on tiny models, in every output format."""

import csv
import io
import json
import os
import shutil
import subprocess
import unittest

from cluster import BIN_DIR, DATA_DIR, DEMO_MODEL, THERMOCLINE, ClusterTest, main

BENCH_OPS = os.path.join(BIN_DIR, "thermocline-bench-ops")

# The bandwidth is not what these tests are about.
SMALL_PROBE = ["--probe-memory", "16M"]
PATIENCE_S = 100


def run(*arguments):
    return subprocess.run([THERMOCLINE, *arguments], stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, timeout=PATIENCE_S, check=False)


class BenchTest(ClusterTest):
    def bench(self, model, *flags):
        """stdout of a run that must succeed."""
        done = run("bench", "-m", model, "-r", "2", *SMALL_PROBE, *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.progress = done.stderr
        return done.stdout

    def refused(self, code, message, *arguments):
        done = run(*arguments)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertIn(message, done.stderr)
        self.assertEqual(done.stdout, "")

    def test_json_has_every_combination_and_sample(self):
        model = self.tiny_model("arcee")
        report = json.loads(self.bench(
            model, "-p", "20", "-n", "6", "-t", "1,2", "-b", "1,4", "--ffn", "dense,exact",
            "--ctx", "0,40", "--cache-type", "f32,f16", "--batch-size", "16", "-o", "json"))
        cases = report["cases"]
        # 2 threads, 2 modes, 2 cache types, 2 depths, a prompt and 2 batches.
        self.assertEqual(len(cases), 2 * 2 * 2 * 2 * 3)
        self.assertEqual(len({json.dumps([c[k] for k in ("test", "batch", "threads", "ffn",
                                                         "cache_type")]) for c in cases}), 48)
        for case in cases:
            self.check_case(case)
        exact = [c for c in cases if c["ffn"] == "exact" and c["test"] == "tg6"]
        self.assertTrue(all(0.2 < c["density"] < 1 for c in exact if c["batch"] == 1))
        self.assertTrue(all(c["density"] == 1 for c in cases if c["ffn"] == "dense"))
        self.assertIn("round 2/2", self.progress)

    def check_case(self, case):
        speed = case["tokens_per_s"]
        self.assertEqual(len(speed["samples"]), 2)
        self.assertLessEqual(speed["min"], speed["median"])
        self.assertLessEqual(speed["median"], speed["max"])
        self.assertGreater(speed["min"], 0)
        tokens = 2 * (case["n_prompt"] + case["batch"] * case["n_gen"])
        self.assertEqual(case["tokens"], tokens)
        self.assertAlmostEqual(case["bytes_per_token"] * tokens,
                               case["weight_bytes"] + case["kv_bytes"], delta=1)
        self.assertGreater(case["stream_bytes_per_s"]["min"], 0)
        self.assertGreater(case["stream_share"]["min"], 0)
        self.assertGreater(case["peak_rss_bytes"], 0)

    def test_tokens_do_not_depend_on_threads_or_cache_order(self):
        """Equal seeds read equal neurons: tokens are sampled, but not at random."""
        model = self.tiny_model("arcee")
        flags = ["-p", "0", "-n", "12", "--ffn", "exact", "-o", "json"]

        def active(*more):
            return [c["density"] for c in json.loads(self.bench(model, *flags, *more))["cases"]]
        first = active("-t", "1,2")
        self.assertEqual(first[0], first[1])
        self.assertEqual(active("-t", "1"), first[:1])
        self.assertNotEqual(active("-t", "1", "--seed", "2"), first[:1])

    def test_every_mode_of_a_model_with_predictors(self):
        report = json.loads(self.bench(
            os.path.join(DATA_DIR, "powerinfer-q4_0.gguf"), "-p", "0", "-n", "8",
            "--ffn", "dense,exact,predicted,auto", "-o", "json"))
        cases = {case["ffn"]: case for case in report["cases"]}
        self.assertEqual(cases["predicted"]["ffn_ran"], "ffn predicted")
        self.assertTrue(cases["auto"]["ffn_ran"].startswith("ffn auto: "), cases["auto"])
        self.assertLess(cases["predicted"]["density"], 0.5)
        self.assertLess(cases["predicted"]["bytes_per_token"], cases["dense"]["bytes_per_token"])

    def test_per_op_times_add_up_to_the_step(self):
        model = os.path.join(DATA_DIR, "powerinfer-q4_0.gguf")
        flags = ["-p", "0", "-n", "8", "-t", "1", "--ffn", "predicted", "--per-op"]
        case = json.loads(self.bench(model, *flags, "-o", "json"))["cases"][0]
        ops = {op["op"]: op for op in case["ops"]}
        for wanted in ("matmul fc1", "matmul fc2", "select_at_least", "neurons ffn_gate",
                       "matmul output", "attention"):
            self.assertIn(wanted, ops)
        self.assertAlmostEqual(sum(op["share"] for op in ops.values()), 1)
        self.assertEqual(case["steps"], 2 * 8)
        self.assertAlmostEqual(sum(op["bytes_per_step"] for op in ops.values()),
                               case["bytes_per_token"], delta=1)
        self.assertTrue(0 < case["predictor_share"] < 1, case["predictor_share"])
        self.assertIn("| neurons ffn_gate ", self.bench(model, *flags))
        self.refused(2, "--per-op", "bench", "-m", model, *flags, "-o", "csv")

    def test_csv(self):
        text = self.bench(DEMO_MODEL, "-p", "8", "-n", "4", "-o", "csv")
        rows = list(csv.DictReader(io.StringIO(text)))
        self.assertEqual([row["test"] for row in rows], ["pp8", "tg4"])
        for row in rows:
            self.assertNotIn(None, row, text)
            self.assertGreater(float(row["tokens_per_s_mean"]), 0)
            self.assertEqual(row["ratio"], "")

    def test_markdown_against_another_command(self):
        count = self.path("count")
        command = f"echo {{model}} {{threads}} {{batch}} >> {count}; echo '{{n_gen}}0.0 t/s'"
        text = self.bench(DEMO_MODEL, "-p", "0", "-n", "4", "-t", "1", "-b", "2",
                          "--against", command)
        self.assertIn("| against t/s |", text)
        self.assertIn(" 40.00 |", text)
        with open(count, encoding="utf-8") as file:
            self.assertEqual(file.read(), f"{DEMO_MODEL} 1 2\n" * 2)  # once per repetition
        report = json.loads(self.bench(
            DEMO_MODEL, "-p", "0", "-n", "4", "--against", "echo speed 8 of 9",
            "--against-pattern", "speed ([0-9]+)", "-o", "json"))
        case = report["cases"][0]
        self.assertEqual(case["against"]["tokens_per_s"]["samples"], [8, 8])
        self.assertAlmostEqual(case["against"]["ratio_of_medians"],
                               case["tokens_per_s"]["median"] / 8)

    def test_against_errors_show_the_output(self):
        def against(*flags):
            return ["bench", "-m", DEMO_MODEL, "-p", "0", "-n", "1", *SMALL_PROBE, *flags]
        self.refused(1, "no such thing", *against("--against", "echo no such thing; exit 4"))
        self.refused(2, "just words", *against("--against", "echo just words"))
        self.refused(2, "unknown placeholder {n-gen}", *against("--against", "x {n-gen}"))
        self.refused(1, "did not end within 1 s",
                     *against("--against", "sleep 60", "--against-timeout", "1"))

    def test_a_mode_that_cannot_be_had_does_not_end_the_list(self):
        model = self.tiny_model("llama", n_ctx=64)
        text = self.bench(model, "-p", "0", "-n", "2", "--ffn", "exact,dense,predicted", "-t",
                          "1,64", "--ctx", "0,80")
        rows = [line for line in text.splitlines() if line.startswith("|")]
        self.assertEqual({row.count("|") for row in rows}, {16})
        self.assertEqual(len(rows), 2 + 4)
        for note in (f"not available: exact of {model}: FFN mode exact needs",
                     f"not available: predicted of {model}: ", "threads=64 cores=",
                     "positions=82 trained=64"):
            self.assertIn(note, text)
            self.assertIn(note, self.progress)

    def test_bad_input_of_bench(self):
        llama = self.tiny_model("llama")
        self.refused(2, "no such file", "bench", "-m", self.path("none.gguf"))
        self.refused(2, "exact", "bench", "-m", llama, "--ffn", "exact", *SMALL_PROBE)
        self.refused(2, "too many positions", "bench", "-m", llama, "-n", "1M", "-b", "4096",
                     "--ctx", "1M")
        self.refused(2, "--threads", "bench", "-m", llama, "-t", "1,x")
        self.refused(2, "--output", "bench", "-m", llama, "-o", "yaml")
        self.refused(2, "--model", "bench")


class BenchOpsTest(ClusterTest):
    @unittest.skipUnless(os.path.exists(BENCH_OPS), "built without Google Benchmark")
    def test_the_help_tells_our_flag_and_the_librarys(self):
        done = subprocess.run([BENCH_OPS, "--help"], check=False, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("--threads=", done.stdout)
        self.assertIn("--benchmark_filter=", done.stdout)


class InspectTest(ClusterTest):
    def inspect(self, *arguments):
        done = run("inspect", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_text(self):
        text = self.inspect(DEMO_MODEL, "--threads", "1", "--tensors")
        for wanted in ("arcee", "gpt2 (gpt-2)", "blk.4.ffn_down.weight", "Roofline: decode, dense",
                       "Roofline: prefill, dense", "matmul ffn_up", "memory", "tokens/s"):
            self.assertIn(wanted, text)

    def test_json_counts_what_bench_counts(self):
        model = self.tiny_model("arcee", dtype="Q8_0")
        report = json.loads(self.inspect(model, "--json", "--no-measure", "--active", "0.5"))
        self.assertNotIn("machine", report)
        steps = report["model"]["steps"]
        self.assertEqual(set(steps), {"decode_dense", "decode_exact", "prefill_dense",
                                      "prefill_exact"})
        self.assertLess(steps["decode_exact"]["bytes"], steps["decode_dense"]["bytes"])
        done = run("bench", "-m", model, "-p", "0", "-n", "1", "-r", "1", "-o", "json",
                   *SMALL_PROBE)
        counted = json.loads(done.stdout)["cases"][0]["bytes_per_token"]
        norms = sum(op["bytes"] for op in steps["decode_dense"]["ops"] if "norm" in op["op"])
        self.assertEqual(steps["decode_dense"]["bytes"] - norms, counted)

    def test_measures_the_machine(self):
        report = json.loads(self.inspect(DEMO_MODEL, "--json", "--ctx", "100", "-t", "1"))
        self.assertGreater(report["machine"]["bytes_per_s"], 1e6)
        step = report["model"]["steps"]["decode_dense"]
        self.assertGreater(step["tokens_per_s"], 0)
        self.assertAlmostEqual(step["seconds"], sum(op["seconds"] for op in step["ops"]))

    def test_powerinfer_files(self):
        report = json.loads(self.inspect(os.path.join(DATA_DIR, "powerinfer-q4_0.gguf"), "--json",
                                         "--no-measure"))
        self.assertTrue(report["format"].startswith("PWRI"))
        self.assertTrue(report["model"]["predictors"])
        self.assertEqual(set(report["model"]["steps"]), {"decode_dense", "prefill_dense"})
        text = self.inspect(os.path.join(DATA_DIR, "powerinfer-q4_0.gguf"), "--no-measure",
                            "--active", "0.1")
        for wanted in ("decode, predicted", "decode, exact", "matmul fc1", "neurons ffn_gate"):
            self.assertIn(wanted, text)
        self.assertGreater(report["layers"][0]["predictor_bytes"], 0)

    def test_a_model_that_cannot_run_is_shown_all_the_same(self):
        path = self.tiny_model("llama")
        with open(path, "rb") as file:
            data = file.read()
        stranger = self.path("stranger.gguf")
        with open(stranger, "wb") as file:
            file.write(data.replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight"))
        text = self.inspect(stranger)
        self.assertIn("This version cannot run it", text)
        self.assertIn("ffn_xx.weight", text)

    def test_a_profile_that_cannot_be_used_is_a_note(self):
        model = self.tiny_model("arcee")
        shutil.copyfile(model, model.removesuffix(".gguf") + ".profile.gguf")  # is no profile
        for flags in ([], ["--active", "0.1"]):
            text = self.inspect(model, "--no-measure", *flags)
            self.assertIn("The profile beside it is not used", text)
            self.assertIn("not a profile", text)
            self.assertIn("decode, dense", text)
            self.assertNotIn("This version cannot run it", text)
            self.assertEqual("decode, exact" in text, bool(flags))
        report = json.loads(self.inspect(model, "--no-measure", "--json"))
        self.assertIn("not a profile", report["model"]["profile_not_used"])
        self.assertIn("decode_dense", report["model"]["steps"])

    def test_bad_files(self):
        short = self.path("short.gguf")
        with open(DEMO_MODEL, "rb") as source, open(short, "wb") as file:
            file.write(source.read(100_000))
        for path, message in ((short, "short.gguf"), (__file__, "not a GGUF file"),
                              (self.path("none"), "no such file"), (self.folder, self.folder)):
            done = run("inspect", path)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(message, done.stderr)


if __name__ == "__main__":
    main()
