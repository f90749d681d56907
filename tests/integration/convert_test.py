"""`thermocline convert` between types and layouts, and from checkpoints that the tests write."""

import json
import os
import shutil
import struct

from cluster import DATA_DIR, ClusterTest, main
from gguf_file import TYPES, GgufFile
from safetensors_file import write_safetensors

PROMPT = [40, 71, 19, 230, 5]
# The largest relative error of a matrix by target type; the tiny models' weights are uniform.
ERROR_BOUND = {"q8_0": 0.6, "q4_0": 8, "q4_k": 7, "q5_k": 4, "q6_k": 2, "f16": 0.05, "bf16": 0.3,
               "f32": 0}


def columns(n_rows, n_cols, data, size):
    """The bytes of a matrix turned: one row per column."""
    elements = [data[i:i + size] for i in range(0, len(data), size)]
    return b"".join(elements[r * n_cols + c] for c in range(n_cols) for r in range(n_rows))


class ConvertTest(ClusterTest):
    def convert(self, source, *flags, code=0):
        """(path of the result, what the program printed)."""
        out = self.path(f"out-{len(os.listdir(self.folder))}.gguf")
        return out, self.output_of("convert", source, "-o", out, *flags, code=code)

    def output_of(self, *arguments, code=0):
        got, output = self.run_program(*arguments)
        self.assertEqual(got, code, output)
        return output

    def generated(self, model, ffn="dense"):
        output = self.output_of("generate", "-m", model, "-n", "8", "--json", "--ignore-eos",
                                "--ffn", ffn, "--prompt-tokens", ",".join(map(str, PROMPT)))
        return json.loads(output.splitlines()[-1])["generated"]


class TypesTest(ConvertTest):
    def test_every_type_is_written_and_runs(self):
        source = self.tiny_model("llama", n_embd=256, n_ff=512)
        before = GgufFile(source)
        for name, bound in ERROR_BOUND.items():
            path, table = self.convert(source, "--type", name)
            after = GgufFile(path)
            self.assertEqual(list(after.tensors), list(before.tensors))
            for tensor_name, tensor in after.tensors.items():
                kept = len(tensor.shape) == 1
                self.assertEqual(tensor.type, TYPES["F32" if kept else name.upper()], tensor_name)
                self.assertEqual(tensor.shape, before.tensors[tensor_name].shape)
            errors = [line.split()[8] for line in table.splitlines() if ".weight" in line]
            largest = max(float(error.rstrip("%")) for error in errors)
            self.assertLessEqual(largest, bound, table)
            self.assertEqual(len(self.generated(path)), 8)
        same, _ = self.convert(source, "--type", "f32")
        self.assertEqual(self.generated(same), self.generated(source))

    def test_metadata_is_kept(self):
        source = self.tiny_model("qwen2", n_vocab=300)
        path, _ = self.convert(source, "--type", "q8_0")
        before, after = GgufFile(source).metadata, GgufFile(path).metadata
        self.assertEqual(after.pop("general.file_type"), 7)
        self.assertEqual(after.pop("general.quantization_version"), 2)
        self.assertEqual(after, before)

    def test_rows_that_are_no_whole_blocks_fall_back_and_say_so(self):
        source = self.tiny_model("arcee", n_embd=64, n_ff=96)
        path, table = self.convert(source, "--type", "q4_k")
        self.assertEqual(GgufFile(path).tensors["blk.0.ffn_up.weight"].type, TYPES["Q8_0"])
        self.assertIn("rows of 64 are not whole Q4_K blocks of 256", table)

    def test_dry_run_writes_nothing(self):
        source = self.tiny_model("llama")
        text = self.output_of("convert", source, "--type", "q8_0", "--dry-run")
        self.assertIn("Q8_0", text)

    def test_powerinfer_files_stay_powerinfer_files(self):
        source = self.tiny_model("powerinfer")
        path, _ = self.convert(source, "--type", "q4_0")
        after = GgufFile(path)
        self.assertEqual(after.magic, "PWRI")
        self.assertEqual(after.tensors["blk.1.fc1.weight"].type, TYPES["Q4_0"])
        self.assertEqual(len(self.generated(path, "exact")), 8)


class NeuronRowsTest(ConvertTest):
    def test_float_rows_are_the_columns_and_give_the_same_text(self):
        for arch in ("llama", "qwen2", "arcee", "nemotron"):
            for dtype, size in (("F32", 4), ("F16", 2), ("BF16", 2)):
                settings = {"dtype": dtype, "n_ff": 96}
                if arch in ("llama", "qwen2"):
                    settings["activation"] = "relu"
                source = self.tiny_model(arch, **settings)
                path, _ = self.convert(source, "--neuron-rows")
                down = GgufFile(source).tensors["blk.1.ffn_down.weight"]
                rows = GgufFile(path).tensors["blk.1.ffn_down_t.weight"]
                self.assertEqual(rows.shape, down.shape[::-1])
                self.assertEqual(rows.data, columns(*down.shape, down.data, size), (arch, dtype))
                expected = self.generated(source, "exact")
                self.assertEqual(self.generated(path, "exact"), expected)
                self.assertEqual(self.generated(path, "dense"), expected)

    def test_quantised_rows_say_what_they_lost(self):
        path, table = self.convert(os.path.join(DATA_DIR, "arcee-q4_0.gguf"), "--neuron-rows")
        line = next(line for line in table.splitlines() if line.startswith("ffn_down_t"))
        self.assertRegex(line, r"Q4_0 +Q8_0 .* 0\.[3-7]\d*% ")
        self.assertEqual(len(self.generated(path)), 8)

    def test_a_second_turn_is_refused(self):
        path, _ = self.convert(self.tiny_model("arcee"), "--neuron-rows")
        _, text = self.convert(path, "--neuron-rows", code=2)
        self.assertIn("neuron rows already", text)


class BadInputTest(ConvertTest):
    def test_weights_that_are_no_numbers_are_named(self):
        source = self.tiny_model("llama")
        with open(source, "rb") as file:
            data = bytearray(file.read())
        up = GgufFile(source).tensors["blk.1.ffn_up.weight"].data
        at = data.find(up) + 3 * 64 * 4 + 5 * 4
        data[at:at + 4] = struct.pack("<f", float("nan"))
        with open(source, "wb") as file:
            file.write(data)
        out, text = self.convert(source, "--type", "q8_0", code=2)
        self.assertIn("weight is not finite: blk.1.ffn_up.weight row=3 column=5", text)
        self.assertFalse(os.path.exists(out))
        self.assertEqual(len(os.listdir(self.folder)), 1, "the temporary file is gone")

    def test_wrong_words_are_told(self):
        source = self.tiny_model("llama")
        for flags, words in ((["--type", "q3"], "unknown weight type"),
                             (["--threads", "-1"], "--threads")):
            _, text = self.convert(source, *flags, code=2)
            self.assertIn(words, text)
        text = self.output_of("convert", source, "-o", source, code=2)
        self.assertIn("output is the input", text)
        text = self.output_of("convert", source, code=2)
        self.assertIn("-o OUT.gguf", text)
        text = self.output_of("convert", self.folder, "-o", "x.gguf", code=2)
        self.assertIn("config.json", text)


# --- checkpoints, made from tiny GGUF models ---

LAYER_NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
               "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
               "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
               "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
WHOLE_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm",
               "output": "lm_head"}
CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "arcee": "ArceeForCausalLM",
           "nemotron": "NemotronForCausalLM"}
N_EMBD, N_FF, N_HEAD, N_HEAD_KV, N_VOCAB = 64, 128, 4, 2, 300
HEAD_DIM = N_EMBD // N_HEAD


def checkpoint_name(name):
    stem, suffix = name.rsplit(".", 1)
    if not stem.startswith("blk."):
        return f"{WHOLE_NAMES[stem]}.{suffix}"
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[part]}.{suffix}"


def split_heads(rows):
    """Rows (x0, y0, x1, y1, ...) of each head as (x0, x1, ..., y0, y1, ...)."""
    out = []
    for begin in range(0, len(rows), HEAD_DIM):
        head = rows[begin:begin + HEAD_DIM]
        out += head[0::2] + head[1::2]
    return out


def config_of(arch):
    config = {"architectures": [CLASSES[arch]], "hidden_size": N_EMBD, "intermediate_size": N_FF,
              "num_hidden_layers": 2, "num_attention_heads": N_HEAD,
              "num_key_value_heads": N_HEAD_KV, "max_position_embeddings": 512,
              "vocab_size": N_VOCAB, "rope_theta": 10000.0, "bos_token_id": 1,
              "eos_token_id": [2, 3], "rms_norm_eps": 1e-5, "norm_eps": 1e-5,
              "hidden_act": "relu2" if arch in ("arcee", "nemotron") else "silu"}
    return config


class CheckpointTest(ConvertTest):
    def checkpoint(self, arch, model):
        """A folder with the model's weights in two files, as its framework would store them."""
        folder = self.path(f"{arch}-checkpoint")
        os.mkdir(folder)
        tensors = {}
        for name, tensor in GgufFile(model).tensors.items():
            kind = {0: "F32", 1: "F16", 30: "BF16"}[tensor.type]
            data = tensor.data
            if arch in ("llama", "arcee") and (".attn_q." in name or ".attn_k." in name):
                size = len(data) // tensor.shape[0]
                rows = [data[i:i + size] for i in range(0, len(data), size)]
                data = b"".join(split_heads(rows))
            if arch == "nemotron" and name.endswith("norm.weight"):
                values = struct.unpack(f"<{len(data) // 4}f", data)
                data = struct.pack(f"<{len(values)}f", *(v - 1 for v in values))
            tensors[checkpoint_name(name)] = (kind, tensor.shape, data)
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = ("F32", [2], bytes(8))
        names = list(tensors)
        for part, chosen in enumerate((names[:5], names[5:])):
            write_safetensors(os.path.join(folder, f"model-{part + 1}-of-2.safetensors"),
                              {name: tensors[name] for name in chosen})
        self.write_json(folder, "config.json", config_of(arch))
        return folder

    def write_json(self, folder, name, value):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            json.dump(value, file)

    def test_weights_are_those_of_the_model(self):
        for arch in CLASSES:
            for dtype in ("F32", "BF16"):
                model = self.tiny_model(arch, n_vocab=N_VOCAB, dtype=dtype)
                folder = self.checkpoint(arch, model)
                path, _ = self.convert(folder)
                wanted, got = GgufFile(model), GgufFile(path)
                self.assertEqual(sorted(got.tensors), sorted(wanted.tensors))
                for name, tensor in wanted.tensors.items():
                    self.assertEqual(got.tensors[name].shape, tensor.shape, name)
                    if arch == "nemotron" and name.endswith("norm.weight"):
                        for a, b in zip(got.floats(name), wanted.floats(name)):
                            self.assertAlmostEqual(a, b, 6)
                    else:
                        self.assertEqual(got.tensors[name].data, tensor.data, (arch, name))
                self.assertEqual(self.generated(path), self.generated(model))
                shutil.rmtree(folder)

    def test_a_tied_head_is_left_out(self):
        model = self.tiny_model("llama", n_vocab=N_VOCAB)
        folder = self.checkpoint("llama", model)
        self.write_json(folder, "config.json", {**config_of("llama"), "tie_word_embeddings": True})
        path, _ = self.convert(folder, "--type", "q8_0")
        self.assertNotIn("output.weight", GgufFile(path).tensors)

    def test_llama_scaling_becomes_rope_freqs(self):
        model = self.tiny_model("llama", n_vocab=N_VOCAB)
        folder = self.checkpoint("llama", model)
        scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                   "high_freq_factor": 4.0, "original_max_position_embeddings": 256}
        self.write_json(folder, "config.json", {**config_of("llama"), "rope_scaling": scaling})
        path, _ = self.convert(folder)
        divisors = GgufFile(path).floats("rope_freqs.weight")
        self.assertEqual((divisors[0], divisors[-1], len(divisors)), (1, 8, HEAD_DIM // 2))
        self.assertEqual(len(self.generated(path)), 8)

    def test_sentencepiece_comes_along(self):
        model = self.tiny_model("llama", n_vocab=600)
        folder = self.checkpoint("llama", model)
        shutil.copy(os.path.join(DATA_DIR, "spm_tiny.model"),
                    os.path.join(folder, "tokenizer.model"))
        self.write_json(folder, "config.json", {**config_of("llama"), "vocab_size": 600})
        self.write_json(folder, "added_tokens.json", {"<|im_end|>": 570})
        self.write_json(folder, "tokenizer_config.json",
                        {"eos_token": {"content": "<|im_end|>"}, "add_bos_token": True,
                         "chat_template": "{{ messages }}"})
        path, _ = self.convert(folder)
        metadata = GgufFile(path).metadata
        self.assertEqual(metadata["tokenizer.ggml.model"], "llama")
        self.assertEqual(len(metadata["tokenizer.ggml.tokens"]), 600)
        self.assertEqual(metadata["tokenizer.ggml.tokens"][570], "<|im_end|>")
        self.assertEqual(metadata["tokenizer.ggml.token_type"][-1], 5)
        self.assertEqual(metadata["tokenizer.ggml.eos_token_id"], 570)
        self.assertEqual(metadata["tokenizer.chat_template"], "{{ messages }}")
        self.assert_encodes(path)

    def test_byte_level_bpe_comes_along(self):
        model = self.tiny_model("qwen2", n_vocab=600)
        folder = self.checkpoint("qwen2", model)
        with open(os.path.join(DATA_DIR, "bpe_tiny.json"), encoding="utf-8") as file:
            tiny = json.load(file)
        vocab = {text: i for i, text in enumerate(tiny["tokens"])}
        split = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
                 " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
        tokenizer = {
            "added_tokens": [{"id": 590, "content": "<|end|>", "special": True},
                             {"id": 591, "content": "<tool>", "special": False}],
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": split}},
                {"type": "ByteLevel", "use_regex": False}]},
            "model": {"type": "BPE", "vocab": vocab,
                      "merges": [merge.split(" ") for merge in tiny["merges"]]}}
        self.write_json(folder, "tokenizer.json", tokenizer)
        self.write_json(folder, "tokenizer_config.json", {"eos_token": "<|end|>"})
        self.write_json(folder, "config.json", {**config_of("qwen2"), "vocab_size": 600})
        path, _ = self.convert(folder)
        metadata = GgufFile(path).metadata
        self.assertEqual(metadata["tokenizer.ggml.pre"], "qwen2")
        self.assertEqual(metadata["tokenizer.ggml.merges"], tiny["merges"])
        self.assertEqual(metadata["tokenizer.ggml.eos_token_id"], 590)
        self.assertEqual([metadata["tokenizer.ggml.token_type"][i] for i in (590, 591, 592)],
                         [3, 4, 5])
        self.assert_encodes(path)
        tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\w+"
        self.write_json(folder, "tokenizer.json", tokenizer)
        _, text = self.convert(folder, code=2)
        self.assertIn("unsupported pre-tokenizer expression in tokenizer.json: \\\\w+", text)

    def assert_encodes(self, path):
        output = self.output_of("generate", "-m", path, "-p", "the old machine", "-n", "2", "--json")
        prompt = json.loads(output.splitlines()[-1])["prompt"]
        self.assertGreater(len(prompt), 2)
        self.assertLess(len(prompt), 16)

    def test_a_checkpoint_with_holes_makes_no_file(self):
        folder = self.checkpoint("llama", self.tiny_model("llama", n_vocab=N_VOCAB))
        os.remove(os.path.join(folder, "model-2-of-2.safetensors"))
        out, text = self.convert(folder, code=2)
        self.assertIn("tensor is missing", text)
        self.assertFalse(os.path.exists(out))

    def test_what_is_not_supported_is_named(self):
        model = self.tiny_model("llama", n_vocab=N_VOCAB)
        folder = self.checkpoint("llama", model)
        self.write_json(folder, "config.json", {**config_of("llama"),
                                                "architectures": ["GPTBigCodeForCausalLM"]})
        _, text = self.convert(folder, code=2)
        self.assertIn("GPTBigCodeForCausalLM", text)
        self.write_json(folder, "config.json", config_of("llama"))
        write_safetensors(os.path.join(folder, "more.safetensors"),
                          {"model.vision.weight": ("F32", [1], bytes(4))})
        _, text = self.convert(folder, code=2)
        self.assertIn("model.vision.weight", text)
        with open(os.path.join(folder, "more.safetensors"), "wb") as file:
            file.write(struct.pack("<Q", 1 << 40))
        _, text = self.convert(folder, code=2)
        self.assertIn("more.safetensors", text)


if __name__ == "__main__":
    main()
