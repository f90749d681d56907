"""The FFN modes through the programs: the same tokens where nothing may be lost, and clear words
where a mode cannot be had."""

import json
import os
import re
import subprocess

from cluster import DATA_DIR, TEST_BIN_DIR, ClusterTest, main

PROMPT = [5, 17, 99, 200, 61, 7, 33, 250]
N_GENERATED = 24
POWERINFER = os.path.join(DATA_DIR, "powerinfer-q4_0.gguf")
# Enough neurons for a planted density of 10 % to be measured back to half a percent.
WIDE = {name: os.path.join(DATA_DIR, f"powerinfer-wide-{name}.gguf") for name in ("f16", "q4_0")}


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


class ModesTest(ClusterTest):
    def tokens(self, model, *flags):
        return self.generate(model, PROMPT, N_GENERATED, *flags)[0]["generated"]

    def densities(self, model, mode, *flags):
        """Of 400 tokens drawn almost evenly: the shares of neurons added, and named."""
        code, output = self.run_program(
            "generate", "--model", model, "--prompt-tokens", ",".join(map(str, PROMPT)), "-n",
            "400", "--temperature", "50", "--seed", "1", "--ignore-eos", "--json", "--ffn", mode,
            *flags)
        self.assertEqual(code, 0, output)
        timings = json.loads(output.splitlines()[-1])["timings"]
        return timings["ffn_density"], timings["ffn_named_density"]

    def write_sparsity(self, model, path=None, **settings):
        """Predictors that name every neuron, unless `settings` say otherwise."""
        path = path or self.path("side.gguf")
        settings = {"predictor_threshold": "-inf", **settings}
        subprocess.run([os.path.join(TEST_BIN_DIR, "write_sparsity_file"), model, path,
                        *[f"{k}={v}" for k, v in settings.items()]], check=True)
        return path

    def check_refused(self, pattern, model, *flags):
        code, output = self.run_program("generate", "--model", model, "--prompt-tokens", "1",
                                        *flags)
        self.assertEqual(code, 2, output)
        self.assertRegex(output, pattern)
        code, output = self.run_program("serve", "--model", model, "--port", "0", *flags)
        self.assertEqual(code, 2, output)
        self.assertRegex(output, pattern)

    def check_cluster(self, model, *flags, plan_ends=(2,), **worker_options):
        """Two workers' logits are those of one process."""
        answer, logits = self.generate(model, PROMPT, N_GENERATED, *flags)
        dump = self.path("dump")
        os.mkdir(dump)
        cluster, _ = self.serve_joined(model, len(plan_ends), *flags, "--dump-logits", dump,
                                       *self.pipeline(*plan_ends), **worker_options)
        got, _ = cluster.ready().api.complete(PROMPT, N_GENERATED)
        self.assertEqual(got, answer["generated"])
        wanted = read_bytes(logits)
        row_bytes = len(wanted) // (len(PROMPT) + N_GENERATED)
        self.assertEqual(read_bytes(os.path.join(dump, "seq-1.f32")), wanted[:-row_bytes])
        self.stop(cluster)
        return cluster


class PowerInferTest(ModesTest):
    def test_every_mode_gives_the_same_tokens(self):
        models = [self.tiny_model("powerinfer", exact_predictor=1),
                  self.tiny_model("powerinfer-bamboo", exact_predictor=1), POWERINFER]
        for model in models:
            wanted = self.tokens(model, "--ffn", "dense")
            for mode in ["exact", "predicted", "auto"]:
                with self.subTest(model=model, mode=mode):
                    self.assertEqual(self.tokens(model, "--ffn", mode), wanted)

    def test_the_planted_density_is_measured_back(self):
        # 1024 neurons in each of 2 layers over 399 tokens: other seeds differ by some 0.001.
        for name, model in WIDE.items():
            with self.subTest(name):
                side = self.write_sparsity(model, kind="", activation_threshold=1e-30,
                                           thresholded_loss=0)
                for mode, flags in (("exact", []), ("thresholded", ["--predictor", side])):
                    added, named = self.densities(model, mode, *flags)
                    self.assertAlmostEqual(added, 0.10, delta=0.005, msg=mode)
                    self.assertEqual(named, 0, mode)
                self.assertEqual(self.densities(model, "dense"), (1.0, 0.0))

    def test_predictors_name_the_planted_density(self):
        # Of those named, the tokens' own gates rule some out, so fewer are added. Predictors of 4
        # bits blur scores near 0, where most neurons lie: they name too many rather than too few.
        for name, room_above in (("f16", 0.005), ("q4_0", 0.01)):
            with self.subTest(name):
                added, named = self.densities(WIDE[name], "predicted")
                self.assertGreater(named, 0.10 - 0.005)
                self.assertLess(named, 0.10 + room_above)
                self.assertLess(added, named)
                self.assertGreater(added, 0.085)

    def test_wide_files_give_the_same_tokens_in_every_lossless_mode(self):
        for name, model in WIDE.items():
            wanted = self.tokens(model, "--ffn", "dense")
            side = self.write_sparsity(model, kind="", activation_threshold=1e-30,
                                       thresholded_loss=0)
            for mode, flags in (("exact", []), ("thresholded", ["--predictor", side])):
                with self.subTest(model=name, mode=mode):
                    self.assertEqual(self.tokens(model, "--ffn", mode, *flags), wanted)

    def test_predictors_travel_with_the_plan(self):
        model = self.tiny_model("powerinfer", n_layer=3, exact_predictor=1)
        cluster = self.check_cluster(model, "--ffn", "predicted", plan_ends=[1, 3])
        self.assertRegex(cluster.output, "ffn predicted")

    def test_what_was_measured_is_obeyed(self):
        model = self.tiny_model("powerinfer", n_layer=2, exact_predictor=1)
        note = "nobody has measured"
        code, output = self.run_program("generate", "--model", model, "--prompt-tokens", "1",
                                        "--ffn", "predicted")
        self.assertEqual(code, 0, output)
        self.assertIn(note, output)
        wanted = self.tokens(model, "--ffn", "predicted")
        side = self.path("side.gguf")
        self.write_sparsity(model, side, kind="", predicted_loss=0.0625, allowed_loss=0.01)
        flags = ["--ffn", "predicted", "--predictor", side]
        self.check_refused("more perplexity than allowed: .*side.gguf loss=0.0625 allowed=0.01",
                           model, *flags)
        self.assertEqual(self.tokens(model, *flags, "--allow-loss", "0.07"), wanted)
        self.write_sparsity(model, side, kind="", predicted_loss=0.005, allowed_loss=0.01)
        code, output = self.run_program("generate", "--model", model, "--prompt-tokens", "1",
                                        *flags)
        self.assertEqual(code, 0, output)
        self.assertNotIn(note, output)
        # A record of losses is not needed by workers, so it need not be sent to them.
        cluster, _ = self.serve_joined(model, 1, *flags, "--weights-from", "coordinator",
                                       worker_flags=["--cache-dir", self.path("cache")])
        got, _ = cluster.ready().api.complete(PROMPT, N_GENERATED)
        self.assertEqual(got, wanted)
        self.stop(cluster)

    def test_predictors_come_over_the_wire(self):
        model = self.tiny_model("powerinfer", n_layer=3, exact_predictor=1)
        dense, _ = self.serve_joined(model, 1, "--ffn", "dense", "--weights-from", "coordinator",
                                     worker_flags=["--cache-dir", self.path("cache")])
        dense.ready()
        self.stop(dense)
        # The rest comes now: what a cache lacks is fetched.
        cluster, _ = self.serve_joined(model, 1, "--ffn", "predicted", "--weights-from",
                                       "coordinator",
                                       worker_flags=["--cache-dir", self.path("cache")])
        got, _ = cluster.ready().api.complete(PROMPT, N_GENERATED)
        self.assertEqual(got, self.tokens(model, "--ffn", "predicted"))
        self.stop(cluster)


class SparsityFileTest(ModesTest):
    def test_a_file_beside_the_model_is_found(self):
        model = self.tiny_model("llama", n_layer=2)
        self.check_refused("no predictor: make one by thermocline profile", model, "--ffn",
                           "predicted")
        self.write_sparsity(model, self.path("llama.predictor.gguf"), predicted_loss=0.001,
                            allowed_loss=0.01)
        self.assertEqual(self.tokens(model, "--ffn", "predicted"),
                         self.tokens(model, "--ffn", "dense"))
        code, output = self.run_program("generate", "--model", model, "--prompt-tokens", "1,2,3",
                                        "-n", "4")
        self.assertEqual(code, 0, output)
        self.assertRegex(output, r"\| ffn auto: .*density")

    def test_a_cluster_runs_it(self):
        model = self.tiny_model("llama", n_layer=3)
        side = self.write_sparsity(model, predictor_threshold=0.1, activation_threshold=0.2,
                                   predicted_loss=0, thresholded_loss=0)
        for mode in ["predicted", "thresholded"]:
            with self.subTest(mode=mode):
                self.check_cluster(model, "--ffn", mode, "--predictor", side, plan_ends=[1, 3])
                os.rename(self.path("dump"), self.path(f"dump-{mode}"))

    def test_modes_that_lose_too_much(self):
        model = self.tiny_model("qwen2", n_layer=2)
        side = self.write_sparsity(model, activation_threshold=0, predicted_loss=0.0625,
                                   allowed_loss=0.01)
        flags = ["--predictor", side]
        self.check_refused("more perplexity than allowed.*loss=0.0625 allowed=0.01", model,
                           "--ffn", "predicted", *flags)
        self.check_refused("no measured loss.*side.gguf", model, "--ffn", "thresholded", *flags)
        dense = self.tokens(model, "--ffn", "dense")
        for mode, loss in [("predicted", "0.07"), ("thresholded", "inf")]:
            got = self.tokens(model, "--ffn", mode, "--allow-loss", loss, *flags)
            self.assertEqual(got, dense)

    def test_files_that_do_not_fit(self):
        model = self.tiny_model("llama", n_layer=2)
        self.check_refused("this llama model has silu: use --ffn dense", model, "--ffn", "exact")
        self.check_refused("no/such/file", model, "--predictor", "/no/such/file")
        self.check_refused("not a sparsity file", model, "--predictor", model)
        self.check_refused("--allow-loss must be 0 or more: loss=-1", model, "--allow-loss", "-1")
        other = self.tiny_model("arcee", n_layer=2)
        self.check_refused("made for another model", model, "--predictor",
                           self.write_sparsity(other))

    def test_wishes_out_of_range_are_refused_by_every_program(self):
        """By the same words, which name the flag and all that it takes."""
        model = self.tiny_model("llama", n_layer=2)
        programs = [["generate", "--model", model, "-p", "a"],
                    ["plan", "--model", model, "--workers", "2"],
                    ["serve", "--model", model, "--port", "0"]]
        kv = 'unknown --kv-cache-dtype "q8"; one of f32 f16 auto'
        for program in [*programs, ["bench", "-m", model]]:
            for loss in ["-1", "nan"]:
                code, output = self.run_program(*program, "--allow-loss", loss)
                self.assertEqual(code, 2, output)
                self.assertIn(f"--allow-loss must be 0 or more: loss={loss}", output)
        for program in programs:
            code, output = self.run_program(*program, "--kv-cache-dtype", "q8")
            self.assertEqual(code, 2, output)
            self.assertIn(kv, output)
        code, output = self.run_program("bench", "-m", model, "--kv-cache-dtype", "q8")
        self.assertEqual(code, 2, output)
        self.assertIn('unknown --cache-type "q8"; one of f32 f16', output)

    def test_auto_goes_on_without_a_file_that_is_not_sent(self):
        model = self.tiny_model("llama", n_layer=2)
        side = self.write_sparsity(model, self.path("llama.predictor.gguf"), predicted_loss=0)
        fact = "--weights-from coordinator sends the model file only, not .*llama.predictor"
        for flags in [["--predictor", side], ["--ffn", "predicted"]]:
            code, output = self.run_program("serve", "--model", model, "--port", "0", *flags,
                                            "--weights-from", "coordinator")
            self.assertEqual(code, 2, output)
            self.assertRegex(output, fact)
        cluster, _ = self.serve_joined(model, 1, "--weights-from", "coordinator",
                                       worker_flags=["--cache-dir", self.path("cache")])
        self.assertRegex(cluster.ready().output, fact)
        self.assertTrue(cluster.lines(r"ffn auto \(dense\)"), cluster.output)
        self.stop(cluster)


class AutoTest(ModesTest):
    def test_auto_changes_no_bit_of_a_relu_model(self):
        model = self.tiny_model("arcee", n_layer=3)
        exact, exact_logits = self.generate(model, PROMPT, N_GENERATED, "--ffn", "exact")
        auto, auto_logits = self.generate(model, PROMPT, N_GENERATED)
        self.assertEqual(auto["generated"], exact["generated"])
        self.assertEqual(read_bytes(auto_logits), read_bytes(exact_logits))
        self.check_cluster(model, plan_ends=[1, 3])

    def test_auto_leaves_other_models_as_they_are(self):
        model = self.tiny_model("llama", n_layer=2)
        _, dense = self.generate(model, PROMPT, N_GENERATED, "--ffn", "dense")
        _, auto = self.generate(model, PROMPT, N_GENERATED)
        self.assertEqual(read_bytes(auto), read_bytes(dense))

    def test_the_worker_says_what_was_chosen(self):
        model = self.tiny_model("arcee", n_layer=3)
        cluster, workers = self.serve_joined(model, 1)
        cluster.ready().api.complete(PROMPT, N_GENERATED)
        self.assertTrue(cluster.lines(r"^model .*, ffn auto \(dense or exact\)"), cluster.output)
        self.stop(cluster)
        self.assertEqual(workers[0].wait(5), 0)
        self.assertTrue(re.search(r"ffn auto: .* density=0\.\d", workers[0].output),
                        workers[0].output)


if __name__ == "__main__":
    main()
