"""`thermocline profile` on the demo model: counts, predictors, thresholds, guard, imports, errors."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

from cluster import DATA_DIR, DEMO_MODEL, SOURCE_DIR, TEST_BIN_DIR, THERMOCLINE
from gguf_file import GgufFile

TIMEOUT_S = 100


def corpus(split, count, seed):
    """Documents of the demo model's corpus, as the model reads them."""
    command = [sys.executable, os.path.join(SOURCE_DIR, "deploy/demo/corpus.py"), str(count),
               "--seed", str(seed), "--split", split, "--marked"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class ProfileTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="thermocline-profile-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.text = cls.write("text.txt", corpus("train", 80, 1).encode())
        cls.held_out = cls.write("held-out.txt", corpus("held-out", 12, 2).encode())

    @classmethod
    def write(cls, name, data):
        path = os.path.join(cls.folder, name)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def model(self, name):
        """A copy of the demo model, so that files beside it are this test's."""
        path = os.path.join(self.folder, name + ".gguf")
        shutil.copyfile(DEMO_MODEL, path)
        return path

    def tiny(self, name, arch, *keys):
        path = os.path.join(self.folder, name)
        subprocess.run([os.path.join(TEST_BIN_DIR, "write_tiny_model"), arch, path, *keys],
                       check=True, capture_output=True)
        return path

    def run_profile(self, *args):
        return subprocess.run([THERMOCLINE, "profile", *args], check=False, capture_output=True,
                              text=True, timeout=TIMEOUT_S)

    def profile(self, *args):
        done = self.run_profile(*args, "--quiet", "-t", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def refuse(self, *args):
        """The message of a run that must end with 2."""
        done = self.run_profile(*args, "--quiet")
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        self.assertTrue(done.stderr.startswith("thermocline profile: "), done.stderr)
        return done.stderr

    def losses(self, output):
        """FFN mode -> relative loss, from the guard's table."""
        rows = re.findall(r"^(\w+) +[\d.]+ +([+-][\d.]+)%", output, re.MULTILINE)
        return {mode: float(loss) / 100 for mode, loss in rows}

    def test_counts_agree_with_the_model_card(self):
        model = self.model("counted")
        page = os.path.join(self.folder, "counted.html")
        output = self.profile("-m", model, "--text", self.text, "--held-out", self.held_out,
                              "--tokens", "6144", "--html", page)
        densities = re.findall(r"^ +(\d) +([\d.]+)% ", output, re.MULTILINE)
        # deploy/demo/README.md, "Active neurons": measured by another implementation.
        for (layer, got), wanted in zip(densities, [11.2, 7.7, 9.6, 10.8, 11.6], strict=True):
            self.assertAlmostEqual(float(got), wanted, delta=1, msg=layer)
        self.assertLess(abs(self.losses(output)["exact"]), 1e-4)
        self.assertTrue(os.path.exists(os.path.join(self.folder, "counted.profile.gguf")))
        self.check_page(page)

    def check_page(self, path):
        with open(path, encoding="utf-8") as file:
            page = file.read()
        self.assertNotRegex(page, r"<script|https?://|<link|<img|@import|url\(")
        charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
        self.assertGreaterEqual(len(charts), 4)
        for chart in charts:
            ElementTree.fromstring(chart)
        self.assertIn("prefers-color-scheme: dark", page)

    def test_trained_predictors_meet_the_recall_and_are_read_back(self):
        model = self.model("trained")
        output = self.profile("-m", model, "--text", self.text, "--held-out", self.held_out,
                              "--tokens", "8192", "--train-predictor", "--train-steps", "200",
                              "--predictor-budget", "0.12")
        rows = re.findall(r"^ +\d +(\d+) Q8_0 .*?%  +([\d.]+)% +[\d.]+% +([\d.]+)% +([\d.]+)% +\d",
                          output, re.MULTILINE)
        self.assertEqual(len(rows), 5, output)
        for _, recall, active, predicted in rows:
            self.assertGreaterEqual(float(recall), 98.5)
            self.assertLess(float(active), float(predicted))
            self.assertLess(float(predicted), 90)  # predicting everything would be no predictor
        self.assertLess(self.losses(output)["predicted"], 0.01)
        again = self.profile("-m", model, "--text", self.held_out, "--held-out", self.held_out,
                             "--perplexity-only", "--ffn", "predicted")
        self.assertAlmostEqual(self.losses(again)["predicted"], self.losses(output)["predicted"],
                               delta=1e-5)
        generated = subprocess.run(
            [THERMOCLINE, "generate", "-m", model, "-p", "Once upon a time", "-n", "8", "--ffn",
             "predicted"], check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
        self.assertEqual(generated.returncode, 0, generated.stderr)

    def test_low_rank_and_thresholds_need_no_training(self):
        model = self.model("lowrank")
        output = self.profile("-m", model, "--text", self.text, "--held-out", self.held_out,
                              "--tokens", "6144", "--train-predictor", "--predictor-kind",
                              "lowrank", "--threshold-target", "0.005", "--recall", "0.98")
        losses = self.losses(output)
        self.assertEqual(list(losses), ["dense", "exact", "predicted", "thresholded"])
        self.assertLess(losses["predicted"], 0.01)
        self.assertLess(losses["thresholded"], 0.015)
        calibrated = re.search(r"thresholds: ([\d.]+) %.*loss ([+-][\d.]+) %", output)
        self.assertGreater(float(calibrated[1]), 88)  # of the neurons 10 % fire at all
        self.assertLessEqual(float(calibrated[2]), 0.5)

    def sparsity(self, model):
        return GgufFile(model.removesuffix(".gguf") + ".predictor.gguf")

    def test_one_run_keeps_what_another_made(self):
        model = self.model("merged")
        text = ["-m", model, "--text", self.text, "--held-out", self.held_out, "--tokens", "4096"]
        lowrank = ["--train-predictor", "--predictor-kind", "lowrank", "--recall", "0.98"]
        thresholds_key = "thermocline.sparsity.activation.thresholds"
        predicted_key = "thermocline.sparsity.guard.predicted.ppl_loss"
        allowed_key = "thermocline.sparsity.guard.allowed_loss"
        self.profile(*text, *lowrank)
        trained = self.sparsity(model)
        self.assertNotIn(thresholds_key, trained.metadata)
        output = self.profile(*text, "--threshold-target", "0.02")
        self.assertIn("with the predictors it had (--replace drops them)", output)
        both = self.sparsity(model)
        # Measured again beside the thresholds.
        self.assertAlmostEqual(both.metadata[predicted_key], trained.metadata[predicted_key],
                               delta=1e-5)
        self.assertEqual({n: t.data for n, t in both.tensors.items()},
                         {n: t.data for n, t in trained.tensors.items()})
        self.assertAlmostEqual(both.metadata[allowed_key], 0.02)
        output = self.profile(*text, *lowrank, "--seed", "2")
        self.assertIn("with the thresholds it had", output)
        again = self.sparsity(model)
        self.assertEqual(again.metadata[thresholds_key], both.metadata[thresholds_key])
        # What the thresholds were allowed to lose still holds.
        self.assertAlmostEqual(again.metadata[allowed_key], 0.02)
        output = self.profile(*text, *lowrank, "--replace")
        self.assertNotIn("it had", output)
        self.assertNotIn(thresholds_key, self.sparsity(model).metadata)

    def test_losses_of_powerinfers_predictors_are_recorded(self):
        model = self.tiny("own.gguf", "powerinfer", "n_layer=2", "exact_predictor=1")
        text = self.write("own.txt", b"A plain text of some bytes. " * 400)
        base = ["-m", model, "--text", text, "--tokens", "3000", "--held-out", "0.3"]
        self.assertIn("nothing to measure", self.refuse(
            "-m", self.tiny("none.gguf", "llama"), "--text", text, "--guard"))
        output = self.profile(*base, "--guard")
        # Exact predictors lose nothing.
        self.assertLess(abs(self.losses(output)["predicted"]), 1e-4)
        self.assertNotIn("layer density", output)
        self.assertEqual(sorted(n for n in os.listdir(self.folder) if n.startswith("own.")),
                         ["own.gguf", "own.predictor.gguf", "own.txt"])
        file = self.sparsity(model)
        self.assertEqual(file.tensors, {})
        self.assertIn("thermocline.sparsity.guard.predicted.ppl_loss", file.metadata)
        output = self.profile(*base, "--threshold-target", "0.5")
        self.assertIn("with the measured loss it had", output)
        self.assertEqual(self.sparsity(model).tensors, {})
        self.assertEqual(list(self.losses(output)), ["dense", "exact", "predicted", "thresholded"])
        # A model whose predictors name nothing that fires is refused once that is known.
        poor = self.tiny("poor.gguf", "powerinfer", "n_layer=2", "activation=relu", "seed=7")
        run = [THERMOCLINE, "generate", "-m", poor, "-p", "A", "-n", "1", "--ffn", "predicted"]
        self.assertEqual(subprocess.run(run, check=False, capture_output=True).returncode, 0)
        output = self.profile("-m", poor, "--text", text, "--tokens", "3000", "--held-out", "0.3",
                              "--allowed-loss", "0", "--guard")
        self.assertGreater(self.losses(output)["predicted"], 0)
        done = subprocess.run(run, check=False, capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("was measured to lose more perplexity than allowed", done.stderr)

    def test_outputs_are_checked_before_the_work(self):
        model = self.model("outputs")
        base = ["-m", model, "--text", self.text]
        for flags, words in ((["-o", "/no/such/folder/p.gguf"], "--output: cannot be written"),
                             (["--html", self.folder], "--html: not a regular file"),
                             (["-o", model], "--output is the input of --model"),
                             (["--html", self.text], "--html is the input of --text"),
                             (["--train-predictor", "--predictor", "/no/such/folder/s.gguf"],
                              "--predictor: cannot be written"),
                             (["--guard", "--train-predictor"], "--guard cannot be combined"),
                             (["--perplexity-only", "--train-predictor"],
                              "--perplexity-only cannot be combined with --train-predictor")):
            self.assertIn(words, self.refuse(*base, *flags))

    def test_swiglu_models_get_thresholds(self):
        model = self.tiny("swiglu.gguf", "llama", "n_layer=2", "n_ff=100", "n_embd=64")
        text = self.write("plain.txt", b"A plain text of some bytes. " * 400)
        output = self.profile("-m", model, "--text", text, "--threshold-target", "0.02",
                              "--tokens", "3000")
        sparsity, loss = re.search(r"thresholds: ([\d.]+) %.*loss ([+-][\d.]+) %", output).groups()
        self.assertLessEqual(float(loss), 2)
        losses = self.losses(output)
        self.assertEqual(list(losses), ["dense", "thresholded"])
        # What the thresholds leave is what counts as active.
        for density in re.findall(r"(?m)^ +\d +([\d.]+)% ", output):
            self.assertAlmostEqual(float(density), 100 - float(sparsity), delta=3)

    def test_powerinfers_counts_are_imported(self):
        model = self.tiny("counts.gguf", "arcee", "n_layer=4", "n_ff=6", "n_embd=8", "n_head=2",
                          "n_head_kv=1", "n_vocab=8")
        counts = os.path.join(DATA_DIR, "activation_counts")
        output = self.profile("-m", model, "--import-counts", counts, "--import-tokens", "30")
        # Layer 0 counts 0 3 6 9 12 15 of 30 tokens and 6 neurons.
        self.assertRegex(output, r"(?m)^ +0 +25\.0% +0\.389 +50\.0% +1 ")
        self.assertEqual(len(re.findall(r"(?m)^ +\d +[\d.]+% ", output)), 4)
        guessed = self.profile("-m", model, "--import-counts", counts)
        self.assertIn("taken as the largest count, 18", guessed)
        self.assertIn("counts exceed the tokens they were taken over: largest=18 tokens=17",
                      self.refuse("-m", model, "--import-counts", counts, "--import-tokens", "17"))
        deeper = self.tiny("deeper.gguf", "arcee", "n_layer=5", "n_ff=6", "n_embd=8", "n_head=2",
                           "n_head_kv=1", "n_vocab=8")
        self.assertIn("no counts of a layer", self.refuse("-m", deeper, "--import-counts", counts))
        wider = self.tiny("wider.gguf", "arcee", "n_layer=4", "n_ff=7", "n_embd=8", "n_head=2",
                          "n_head_kv=1", "n_vocab=8")
        self.assertIn("counts=6 n_ff=7", self.refuse("-m", wider, "--import-counts", counts))

    def test_bad_input_is_named(self):
        model = self.model("bad")
        latin = self.write("latin.txt", b"Once upon a time in a caf\xe9 " * 400)
        self.assertIn("text is not UTF-8: " + latin + " offset_bytes=25 byte=233",
                      self.refuse("-m", model, "--text", latin))
        short = self.write("short.txt", b"Once upon a time.")
        self.assertIn("text is too short: tokens=", self.refuse("-m", model, "--text", short))
        self.assertIn("cannot read /nowhere",
                      self.refuse("-m", model, "--text", "/nowhere"))
        self.assertIn("either --text FILE or --import-counts DIR", self.refuse("-m", model))
        self.assertIn("--recall out of range: value=2 min=0.5 max=1",
                      self.refuse("-m", model, "--text", self.text, "--recall", "2"))

    def test_flags_without_effect_are_refused(self):
        model = self.model("effect")
        base = ["-m", model, "--text", self.text]
        for flags, words in ((["--ffn", "exact"], "--ffn is of --perplexity-only"),
                             (["--ffn", "all", "--guard"], "--ffn is of --perplexity-only"),
                             (["--threshold-target", "-1"],
                              "--threshold-target out of range: value=-1 min=0"),
                             (["--guard", "--threshold-target", "-1"],
                              "--guard cannot be combined with --threshold-target"),
                             (["--allowed-loss", "-1"], "--allowed-loss out of range: value=-1")):
            self.assertIn(words, self.refuse(*base, *flags))
        self.assertFalse(os.path.exists(os.path.join(self.folder, "effect.profile.gguf")))

    def test_a_profile_that_cannot_be_used_is_replaced(self):
        model = self.model("replaced")
        profile = model.removesuffix(".gguf") + ".profile.gguf"
        text = ["-m", model, "--text", self.text, "--held-out", self.held_out, "--tokens", "1024",
                "--no-guard"]
        self.profile(*text)
        with open(profile, "rb") as file:
            whole = file.read()
        prints = GgufFile(profile).metadata["thermocline.profile.model_fingerprint"].encode()
        foreign = whole.replace(prints, prints[::-1])
        self.assertNotEqual(foreign, whole)
        for bad, words in ((foreign, "profile of another model"),
                           (whole[:len(whole) // 2], "tensor outside file")):
            with open(profile, "wb") as file:
                file.write(bad)
            run = [THERMOCLINE, "generate", "-m", model, "-p", "Once", "-n", "2"]
            done = subprocess.run(run, check=False, capture_output=True, text=True)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("remove it, or run `thermocline profile` again", done.stderr)
            self.assertIn(words, done.stderr)
            self.assertEqual(done.stderr.count("replaced.profile.gguf"), 1, done.stderr)
            self.profile(*text)
            with open(profile, "rb") as file:
                self.assertEqual(file.read(), whole)
            subprocess.run(run, check=True, capture_output=True)

    def test_a_broken_sparsity_file_is_named_once(self):
        model = self.model("short")
        with open(model, "rb") as source, \
                open(model.removesuffix(".gguf") + ".predictor.gguf", "wb") as file:
            file.write(source.read(500_000))
        done = subprocess.run([THERMOCLINE, "generate", "-m", model, "-p", "Once", "-n", "2"],
                              check=False, capture_output=True, text=True)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("tensor outside file", done.stderr)
        self.assertEqual(done.stderr.count("short.predictor.gguf"), 1, done.stderr)

    def test_damaged_weights_are_named(self):
        path = self.model("damaged")
        with open(path, "r+b") as file:
            data = file.read()
            # F16 of all ones is not a number; embeddings lie before, further layers behind.
            file.seek(len(data) // 2)
            file.write(b"\xff" * 64)
        self.assertRegex(self.refuse("-m", path, "--text", self.text, "--tokens", "1024"),
                         r"blk\.[1-4]\.\w+\.weight: a weight is infinite or not a number: row=\d+")


if __name__ == "__main__":
    unittest.main(verbosity=2)
