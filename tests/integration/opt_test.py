"""OPT from a checkpoint folder to tokens: the same logits as the tests' own arithmetic gives."""

import json
import math
import os
import subprocess

import opt_model
from cluster import TEST_BIN_DIR, ClusterTest, main, read_floats
from gguf_file import GgufFile

PROMPT = [5, 17, 99, 200, 2, 7, 33, 250, 17, 17, 279]


def relative_error(got, wanted):
    difference = sum((g - w) ** 2 for g, w in zip(got, wanted))
    return math.sqrt(difference / sum(w * w for w in wanted))


class OptTest(ClusterTest):
    def output_of(self, *arguments, code=0):
        got, output = self.run_program(*arguments)
        self.assertEqual(got, code, output)
        return output

    def checkpoint(self, seed=1, **options):
        model = opt_model.OptModel(seed)
        folder = self.path(f"checkpoint-{len(os.listdir(self.folder))}")
        model.write(folder, **options)
        return model, folder

    def converted(self, folder, *flags):
        path = self.path(f"{len(os.listdir(self.folder))}.gguf")
        self.output_of("convert", folder, "-o", path, *flags)
        return path

    def check_logits(self, model, path, *flags, tolerance=1e-5):
        wanted = model.logits(PROMPT)
        _, logits = self.generate(path, PROMPT, 1, *flags)
        values = read_floats(logits)
        for i, row in enumerate(wanted):
            got = values[i * opt_model.N_VOCAB:(i + 1) * opt_model.N_VOCAB]
            self.assertLess(relative_error(got, row), tolerance, f"row {i}")

    def test_logits_are_those_of_plain_arithmetic(self):
        model, folder = self.checkpoint()
        path = self.converted(folder)
        tensors = GgufFile(path).tensors
        self.assertEqual(tensors["position_embd.weight"].shape, [42, 32])
        self.assertNotIn("output.weight", tensors)
        for ffn in ("dense", "exact", "auto"):
            self.check_logits(model, path, "--ffn", ffn)
        rows = self.converted(folder, "--neuron-rows")
        self.check_logits(model, rows, "--ffn", "exact")
        self.check_logits(model, self.converted(folder, "--type", "f16"), tolerance=2e-3)

    def test_predictors_may_lie_beside_it(self):
        model, folder = self.checkpoint(seed=2)
        path = self.converted(folder)
        side = self.path("side.gguf")
        subprocess.run([os.path.join(TEST_BIN_DIR, "write_sparsity_file"), path, side,
                        "predictor_threshold=-inf", "activation_threshold=0", "predicted_loss=0",
                        "thresholded_loss=0"], check=True)
        for ffn in ("predicted", "thresholded"):
            self.check_logits(model, path, "--predictor", side, "--ffn", ffn)

    def test_tensors_may_be_named_without_their_wrapper(self):
        model, folder = self.checkpoint(seed=3, wrapper="")
        self.check_logits(model, self.converted(folder))

    def test_the_context_ends_with_the_table(self):
        _, folder = self.checkpoint()
        path = self.converted(folder)
        full = [3 + i for i in range(opt_model.N_CTX - 1)]
        self.generate(path, full, 1)
        text = self.output_of("generate", "-m", path, "-c", "41", "--prompt-tokens", "1", code=2)
        self.assertIn("n_ctx=41 positions=40", text)
        text = self.output_of("bench", "-m", path, "-p", "41", "-n", "0", "-t", "1", code=2)
        self.assertIn("n_ctx=41 positions=40", text)
        with_tokenizer = self.tiny_model("opt")
        text = self.output_of("serve", "-m", with_tokenizer, "-c", "513", "--port", "0", code=2)
        self.assertIn("n_ctx=513 positions=512", text)

    def test_other_kinds_of_opt_are_refused(self):
        _, folder = self.checkpoint()
        for field, value in (("do_layer_norm_before", False), ("word_embed_proj_dim", 16)):
            with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
                json.dump({**opt_model.CONFIG, field: value}, file)
            text = self.output_of("convert", folder, "-o", self.path("x.gguf"), code=2)
            self.assertIn(field, text)

    def test_gpt2s_files_make_the_tokenizer(self):
        _, folder = self.checkpoint()
        vocab = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
        for letter in "abcdefghijklmnopqrstuvwxyz\u0120":
            vocab[letter] = len(vocab)
        merges = ["t h", "th e", "\u0120 the"]
        for merge in merges:
            vocab[merge.replace(" ", "")] = len(vocab)
        files = {"vocab.json": json.dumps(vocab), "merges.txt": "\n".join(["#version: 0.2", *merges]),
                 "tokenizer_config.json": json.dumps(
                     {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True,
                      "bos_token": {"content": "</s>"}, "eos_token": {"content": "</s>"},
                      "unk_token": "<unk>", "pad_token": "<pad>"})}
        for name, text in files.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
        path = self.converted(folder)
        metadata = GgufFile(path).metadata
        self.assertEqual(metadata["tokenizer.ggml.pre"], "gpt-2")
        self.assertEqual(metadata["tokenizer.ggml.merges"], merges)
        self.assertEqual(metadata["tokenizer.ggml.token_type"][:5], [1, 3, 3, 3, 1])
        self.assertEqual(metadata["tokenizer.ggml.bos_token_id"], 2)
        output = self.output_of("generate", "-m", path, "-p", "the the", "-n", "1", "--json")
        self.assertEqual(json.loads(output.splitlines()[-1])["prompt"],
                         [2, vocab["the"], vocab["\u0120the"]])
        files["tokenizer_config.json"] = "{}"
        with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
            file.write("{}")
        text = self.output_of("convert", folder, "-o", self.path("x.gguf"), code=2)
        self.assertIn("those of GPT2Tokenizer are supported", text)

    def test_powerinfers_dialect(self):
        path = self.tiny_model("powerinfer-opt")
        dense, _ = self.generate(path, PROMPT, 12, "--ffn", "dense")
        exact, _ = self.generate(path, PROMPT, 12, "--ffn", "exact")
        self.assertEqual(exact["generated"], dense["generated"])
        predicted, _ = self.generate(path, PROMPT, 12, "--ffn", "predicted")
        self.assertLess(predicted["timings"]["ffn_density"], 0.9)


if __name__ == "__main__":
    main()
