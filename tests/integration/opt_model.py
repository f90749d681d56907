"""A small random OPT model: its checkpoint folder, and its logits by the plainest arithmetic.

Source of the graph: the model's paper (Zhang et al. 2022, sec. 2) and the names and config fields of
its published checkpoints. Weights are rounded to F32 once; everything after is in double.
"""

import json
import math
import os
import random
import struct

from safetensors_file import write_safetensors

N_EMBD, N_FF, N_HEAD, N_LAYER, N_VOCAB, N_CTX = 32, 96, 4, 3, 300, 40
HEAD_DIM = N_EMBD // N_HEAD
# Rows of the table of positions before that of position 0.
OFFSET = 2
EPS = 1e-5

CONFIG = {"architectures": ["OPTForCausalLM"], "hidden_size": N_EMBD, "ffn_dim": N_FF,
          "num_hidden_layers": N_LAYER, "num_attention_heads": N_HEAD, "vocab_size": N_VOCAB,
          "max_position_embeddings": N_CTX, "word_embed_proj_dim": N_EMBD,
          "do_layer_norm_before": True, "activation_function": "relu", "bos_token_id": 2,
          "eos_token_id": 2, "pad_token_id": 1}


class OptModel:
    """self.tensors: {name in the checkpoint: (shape, flat list of weights)}."""

    def __init__(self, seed):
        self._random = random.Random(seed)
        self.tensors = {}
        decoder = "model.decoder."
        self._matrix(decoder + "embed_tokens.weight", N_VOCAB, N_EMBD, 1)
        self._matrix(decoder + "embed_positions.weight", N_CTX + OFFSET, N_EMBD, 1)
        for i in range(N_LAYER):
            layer = f"{decoder}layers.{i}."
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                self._linear(layer + "self_attn." + name, N_EMBD, N_EMBD)
            self._linear(layer + "fc1", N_FF, N_EMBD)
            self._linear(layer + "fc2", N_EMBD, N_FF)
            self._norm(layer + "self_attn_layer_norm")
            self._norm(layer + "final_layer_norm")
        self._norm(decoder + "final_layer_norm")

    def _add(self, name, shape, deviation, mean=0.0):
        count = math.prod(shape)
        values = [self._random.gauss(mean, deviation) for _ in range(count)]
        self.tensors[name] = (shape, struct.unpack(f"<{count}f", struct.pack(f"<{count}f", *values)))

    def _matrix(self, name, rows, cols, deviation):
        self._add(name, [rows, cols], deviation)

    def _linear(self, name, rows, cols):
        self._matrix(name + ".weight", rows, cols, 1.2 / math.sqrt(cols))
        self._add(name + ".bias", [rows], 0.3)

    def _norm(self, name):
        self._add(name + ".weight", [N_EMBD], 0.1, 1.0)
        self._add(name + ".bias", [N_EMBD], 0.1)

    def write(self, folder, wrapper="model."):
        """The checkpoint; `wrapper` is what its tensors' names begin with."""
        os.mkdir(folder)
        data = {name.replace("model.", wrapper, 1):
                ("F32", shape, struct.pack(f"<{len(values)}f", *values))
                for name, (shape, values) in self.tensors.items()}
        # Stored though it is tied, as some writers do.
        data["lm_head.weight"] = data[wrapper + "decoder.embed_tokens.weight"]
        write_safetensors(os.path.join(folder, "model.safetensors"), data)
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump(CONFIG, file)

    # --- the model, one row of numbers at a time ---

    def _row(self, name, i):
        (_, cols), values = self.tensors[name]
        return values[i * cols:(i + 1) * cols]

    def _project(self, name, x):
        (rows, cols), weights = self.tensors[name + ".weight"]
        _, bias = self.tensors[name + ".bias"]
        return [bias[r] + sum(w * v for w, v in zip(weights[r * cols:(r + 1) * cols], x))
                for r in range(rows)]

    def _normalise(self, name, x):
        mean = sum(x) / len(x)
        scale = 1 / math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + EPS)
        _, weight = self.tensors[name + ".weight"]
        _, bias = self.tensors[name + ".bias"]
        return [(v - mean) * scale * w + b for v, w, b in zip(x, weight, bias)]

    @staticmethod
    def _attend(queries, keys, values, t):
        out = []
        for begin in range(0, N_EMBD, HEAD_DIM):
            head = slice(begin, begin + HEAD_DIM)
            scores = [sum(q * k for q, k in zip(queries[t][head], keys[s][head]))
                      / math.sqrt(HEAD_DIM) for s in range(t + 1)]
            top = max(scores)
            shares = [math.exp(score - top) for score in scores]
            for d in range(begin, begin + HEAD_DIM):
                out.append(sum(share * values[s][d] for s, share in enumerate(shares))
                           / sum(shares))
        return out

    def _layer(self, i, rows):
        layer = f"model.decoder.layers.{i}."
        normal = [self._normalise(layer + "self_attn_layer_norm", x) for x in rows]
        q, k, v = ([self._project(f"{layer}self_attn.{name}_proj", x) for x in normal]
                   for name in "qkv")
        out = []
        for t, x in enumerate(rows):
            attended = self._project(layer + "self_attn.out_proj", self._attend(q, k, v, t))
            x = [a + b for a, b in zip(x, attended)]
            hidden = self._project(layer + "fc1", self._normalise(layer + "final_layer_norm", x))
            changed = self._project(layer + "fc2", [max(h, 0.0) for h in hidden])
            out.append([a + b for a, b in zip(x, changed)])
        return out

    def logits(self, tokens):
        """One row for each token."""
        decoder = "model.decoder."
        rows = [[a + b for a, b in zip(self._row(decoder + "embed_tokens.weight", token),
                                       self._row(decoder + "embed_positions.weight", OFFSET + p))]
                for p, token in enumerate(tokens)]
        for i in range(N_LAYER):
            rows = self._layer(i, rows)
        rows = [self._normalise(decoder + "final_layer_norm", x) for x in rows]
        return [[sum(w * v for w, v in zip(self._row(decoder + "embed_tokens.weight", i), x))
                 for i in range(N_VOCAB)] for x in rows]
