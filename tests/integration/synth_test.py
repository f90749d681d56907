"""`thermocline synth`: the files load and run, and the sparsity that was planted is there."""

import json
import os

from cluster import ClusterTest, main
from gguf_file import TYPES, GgufFile

SHAPE = "n_embd=256,n_ff=1024,n_layer=3,n_head=4,n_head_kv=2,n_vocab=512"
# The planted density is 10 %; what is measured back may differ by half a percent. A small layer has
# few neurons and the text is short, so single layers get a little more room.
MEAN_ROOM, LAYER_ROOM = 0.005, 0.008


class SynthTest(ClusterTest):
    def output_of(self, *arguments, code=0):
        got, output = self.run_program(*arguments)
        self.assertEqual(got, code, output)
        return output

    def synth(self, name, *flags):
        """(path, table): rows of numbers by the word that begins the line."""
        path = self.path(name)
        text = self.output_of("synth", "-o", path, "--shape", SHAPE, *flags)
        rows = [line.split() for line in text.splitlines()]
        return path, {row[0]: [float(v) for v in row[1:]] for row in rows
                      if row and (row[0].isdigit() or row[0] == "mean")}

    def generated(self, model, ffn="dense"):
        output = self.output_of("generate", "-m", model, "-p", "Hello you", "-n", "12", "--temp",
                                "1", "--seed", "3", "--json", "--ffn", ffn)
        return json.loads(output.splitlines()[-1])["generated"]

    def assert_density(self, table, column):
        for layer, row in table.items():
            room = MEAN_ROOM if layer == "mean" else LAYER_ROOM
            self.assertAlmostEqual(row[column], 0.1, delta=room, msg=f"layer {layer}: {row}")

    def test_plain_models_have_the_planted_density(self):
        for arch in ("arcee", "llama", "opt"):
            for dtype in ("f16", "q4_k"):
                path, table = self.synth(f"{arch}-{dtype}.gguf", "--arch", arch, "--type", dtype,
                                         "--check", "--check-tokens", "256")
                self.assertEqual(len(table), 4)
                self.assert_density(table, 1)
                file = GgufFile(path)
                self.assertEqual(file.magic, "GGUF")
                self.assertEqual(file.tensors["blk.2.ffn_up.weight"].type, TYPES[dtype.upper()])
                self.assertEqual(self.generated(path), self.generated(path))
                self.assertEqual(len(self.generated(path, "exact")), 12)

    def test_powerinfer_predictors_are_exact_in_f16(self):
        path, table = self.synth("f16.pwri", "--pwri", "--predictor", "128", "--check",
                                 "--check-tokens", "256")
        self.assert_density(table, 1)
        self.assert_density(table, 2)
        for layer, (_, _, _, recall, precision) in table.items():
            self.assertGreater(recall, 0.998, layer)
            self.assertGreater(precision, 0.998, layer)
        file = GgufFile(path)
        self.assertEqual(file.magic, "PWRI")
        self.assertEqual(file.tensors["blk.0.fc1.weight"].shape, [128, 256])
        self.assertEqual(file.tensors["blk.0.fc2.weight"].shape, [1024, 128])
        self.assertEqual(file.tensors["blk.0.ffn_down_t.weight"].shape, [1024, 256])
        for ffn in ("exact", "predicted"):
            self.assertEqual(self.generated(path, ffn), self.generated(path))

    def test_powerinfer_has_opt(self):
        path, table = self.synth("opt.pwri", "--pwri", "--arch", "opt", "--predictor", "128",
                                 "--check", "--check-tokens", "256")
        self.assert_density(table, 1)
        # LayerNorm takes off a mean that differs from row to row and that predictors do not see.
        for layer, (_, _, _, recall, precision) in table.items():
            self.assertGreater(recall, 0.9, layer)
            self.assertGreater(precision, 0.9, layer)
        self.assertEqual(GgufFile(path).tensors["blk.0.ffn_down_t.bias"].shape, [256])
        self.assertEqual(self.generated(path, "exact"), self.generated(path))
        self.assertEqual(len(self.generated(path, "predicted")), 12)

    def test_quantised_predictors_keep_the_density(self):
        _, table = self.synth("q4_0.pwri", "--pwri", "--predictor", "128", "--type", "q4_0",
                              "--check", "--check-tokens", "256")
        self.assert_density(table, 1)
        self.assert_density(table, 2)
        self.assertGreater(table["mean"][3], 0.9)

    def test_same_seed_same_file_for_any_thread_count(self):
        def content(name, *flags):
            path, _ = self.synth(name, "--type", "q8_0", *flags)
            with open(path, "rb") as file:
                return file.read()
        one = content("1.gguf", "--threads", "1")
        self.assertEqual(one, content("3.gguf", "--threads", "3"))
        self.assertNotEqual(one, content("s.gguf", "--seed", "2"))

    def test_shares_can_be_chosen(self):
        _, table = self.synth("d.gguf", "--density", "0.3", "--hot-frac", "0.4", "--hot-share",
                              "0.7")
        self.assertAlmostEqual(table["mean"][0], 0.3, delta=0.01)

    def test_what_is_wrong_is_named(self):
        for out, shape, words in ((self.path("x.gguf"), "n_heads=4", "n_heads=4"),
                                  (self.path("x.gguf"), "n_embd=100,n_head=3", "n_embd=100"),
                                  ("/no/such/folder/x.gguf", SHAPE, "/no/such/folder/x.gguf")):
            text = self.output_of("synth", "-o", out, "--shape", shape, code=2)
            self.assertIn(words, text)
        self.assertEqual(os.listdir(self.folder), [])


if __name__ == "__main__":
    main()
