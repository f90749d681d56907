#!/usr/bin/python3
"""Measures the demo model from its GGUF file alone, with numpy.

Nothing is shared with the training script but the corpus: the file is parsed
again, the tokenizer is built from its metadata, and the forward pass is a
second implementation in float32 of F16 weights. So what is printed here holds
for the file as others will run it.
"""
import argparse
import json
import struct
from pathlib import Path

import numpy as np

import bpe
import corpus

FILE = Path(__file__).with_name("thermocline-demo.gguf")
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f",
           7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
TENSOR_TYPES = {0: np.float32, 1: np.float16}
REFERENCE_PROMPT = "Once upon a time"
REFERENCE_TOKENS = 48
EXAMPLES = (
    "", " ", "Once upon a time", "Mira found a lantern.", "hello",
    "It's Tom's kite, isn't it? I'll say we've won, they're glad, I'm sure.",
    "two  spaces,   three and trailing  ", "a\nb\n\n  c\t d",
    "12345 7 times 8",
    '"Hello!" said the fox. "Who\'s there?"', "UPPER lower MiXeD", "...!?--",
    "caf\u00e9 na\u00efve \u4f60\u597d \U0001f98a fox", "<|end|>",
    "<|begin|><|user|>Hello!<|assistant|>Hello! Shall I tell you a story?"
    "<|end|>", "<|system|>You are a helpful assistant.<|user|>Hi",
    "a <|end|> b", "<|endless|>")
SAMPLES = (("", "Once upon a time"), ("", "One morning, a small fox named"),
           ("", "Mira found a lantern"),
           ("user", "Tell me a story about a brave hen."),
           ("user", "Hello!"), ("user", "Who are you?"))


class Reader:
    """The metadata and tensors of a GGUF file."""

    def __init__(self, path):
        self._data = Path(path).read_bytes()
        self._at = 0
        magic, _, tensors, keys = self._take("<4sIQQ")
        if magic != b"GGUF":
            raise ValueError(f"{path} is not a GGUF file")
        self.keys = {}
        for _ in range(keys):
            key, kind = self._string(), self._take("<I")[0]
            self.keys[key] = self._value(kind)
        infos = [self._info() for _ in range(tensors)]
        start = -(-self._at // 32) * 32
        self.tensors = {name: self._tensor(start + offset, shape, dtype)
                        for name, shape, dtype, offset in infos}

    def _take(self, layout):
        values = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return values

    def _string(self):
        size, = self._take("<Q")
        self._at += size
        return self._data[self._at - size:self._at].decode("utf-8")

    def _value(self, kind):
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            kind, count = self._take("<IQ")
            return [self._value(kind) for _ in range(count)]
        return self._take(SCALARS[kind])[0]

    def _info(self):
        name, dims = self._string(), self._take("<I")[0]
        shape = self._take(f"<{dims}Q")[::-1]
        kind, offset = self._take("<IQ")
        return name, shape, TENSOR_TYPES[kind], offset

    def _tensor(self, start, shape, dtype):
        size = int(np.prod(shape))
        flat = np.frombuffer(self._data, dtype, size, start)
        return flat.reshape(shape).astype(np.float32)


class Model:
    """The arcee forward pass, one token sequence at a time."""

    def __init__(self, path):
        self.file = Reader(path)
        keys = self.file.keys
        self.n_layer = keys["arcee.block_count"]
        self.n_head = keys["arcee.attention.head_count"]
        self.n_head_kv = keys["arcee.attention.head_count_kv"]
        self.head_dim = keys["arcee.rope.dimension_count"]
        self.epsilon = keys["arcee.attention.layer_norm_rms_epsilon"]
        self.rope_base = keys["arcee.rope.freq_base"]
        self.tokenizer = self._tokenizer(keys)
        self.active = np.zeros(
            (self.n_layer, keys["arcee.feed_forward_length"]))
        self.positions = 0

    @staticmethod
    def _tokenizer(keys):
        tokenizer = bpe.Tokenizer(
            pair.split(" ") for pair in keys["tokenizer.ggml.merges"])
        if tokenizer.tokens != keys["tokenizer.ggml.tokens"]:
            raise ValueError("merges and tokens of the file disagree")
        return tokenizer

    def _weight(self, name):
        return self.file.tensors[name + ".weight"]

    def _norm(self, x, name):
        scale = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.epsilon)
        return x / scale * self._weight(name)

    def _rope(self, x, start):
        """Turns the pairs (2i, 2i+1) of [position, head, head_dim]."""
        pair = np.arange(0, self.head_dim, 2) / self.head_dim
        position = np.arange(start, start + len(x))
        angle = np.outer(position, self.rope_base ** -pair)[:, None]
        cos, sin = np.cos(angle), np.sin(angle)
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = np.empty_like(x)
        turned[..., 0::2] = even * cos - odd * sin
        turned[..., 1::2] = even * sin + odd * cos
        return turned

    def _project(self, h, name):
        return (h @ self._weight(name).T).reshape(len(h), -1, self.head_dim)

    def _attend(self, h, block, cache):
        """Attention of new positions over the cached and the new ones."""
        past = cache[block]
        start = 0 if past is None else len(past[0])
        q = self._rope(self._project(h, f"blk.{block}.attn_q"), start)
        k = self._rope(self._project(h, f"blk.{block}.attn_k"), start)
        v = self._project(h, f"blk.{block}.attn_v")
        if past is not None:
            k, v = np.concatenate((past[0], k)), np.concatenate((past[1], v))
        cache[block] = k, v
        future = np.triu(np.full((len(h), len(k)), -np.inf), start + 1)
        out = np.empty_like(q)
        for head in range(self.n_head):
            shared = head * self.n_head_kv // self.n_head
            scores = q[:, head] @ k[:, shared].T / self.head_dim ** 0.5
            scores = np.exp(scores + future - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            out[:, head] = scores @ v[:, shared]
        return out.reshape(len(h), -1) @ self._weight(
            f"blk.{block}.attn_output").T

    def _feed_forward(self, h, block):
        r = np.maximum(h @ self._weight(f"blk.{block}.ffn_up").T, 0)
        self.active[block] += (r > 0).sum(axis=0)
        return (r * r) @ self._weight(f"blk.{block}.ffn_down").T

    def logits(self, ids, cache=None):
        """Logits after each id; the cache, a list, is filled for later ids."""
        if cache is None:
            cache = []
        if not cache:
            cache.extend([None] * self.n_layer)
        x = self._weight("token_embd")[ids]
        for block in range(self.n_layer):
            h = self._norm(x, f"blk.{block}.attn_norm")
            x = x + self._attend(h, block, cache).astype(np.float32)
            h = self._norm(x, f"blk.{block}.ffn_norm")
            x = x + self._feed_forward(h, block)
        self.positions += len(ids)
        return self._norm(x, "output_norm") @ self._weight("token_embd").T

    def generate(self, prompt, count, temperature=0.0, random=None):
        """Pairs (id, gap to the second-best logit) until end or count."""
        cache, ids, generated = [], list(prompt), []
        while len(generated) < count:
            logits = self.logits(ids, cache)[-1].astype(np.float64)
            second, first = np.sort(logits)[-2:]
            if temperature:
                weights = np.exp((logits - first) / temperature)
                token = int(random.choice(len(logits),
                                          p=weights / weights.sum()))
            else:
                token = int(logits.argmax())
            generated.append((token, float(first - second)))
            if token == self.tokenizer.end:
                break
            ids = [token]
        return generated


def log_likelihood(model, ids):
    """Sum of the log-probabilities of all ids after the first."""
    logits = model.logits(ids[:-1]).astype(np.float64)
    top = logits.max(-1, keepdims=True)
    norm = np.log(np.exp(logits - top).sum(-1)) + top[:, 0]
    return float((logits[np.arange(len(ids) - 1), ids[1:]] - norm).sum())


def measure(model, split, count, seed):
    """Perplexity per token and bits per byte on documents of a split."""
    total = tokens = size = 0
    context = model.file.keys["arcee.context_length"]
    for document in corpus.documents(count, seed, split):
        ids = model.tokenizer.encode_document(document)[:context + 1]
        total += log_likelihood(model, ids)
        tokens += len(ids) - 1
        size += len(model.tokenizer.decode(ids[1:]))
    return {"documents": count, "tokens": tokens,
            "perplexity": round(float(np.exp(-total / tokens)), 4),
            "bits_per_byte": round(-total / size / np.log(2), 4)}


def sparsity(model):
    """Per layer: share of active neurons, and how many were never active."""
    share = model.active / model.positions
    return [{"layer": i, "active": round(float(row.mean()), 4),
             "never_active": int((row == 0).sum())}
            for i, row in enumerate(share)]


def prompt_ids(tokenizer, role, text):
    """Ids up to where the model speaks: a text's start, or a chat request."""
    if role:
        text = f"{bpe.ROLES[role]}{text}{bpe.ROLES['assistant']}"
    return [tokenizer.begin] + tokenizer.encode(text, specials=bool(role))


def print_samples(model, temperature, seed):
    for role, text in SAMPLES:
        ids = prompt_ids(model.tokenizer, role, text)
        for heat in (0.0, temperature):
            random = np.random.default_rng(seed)
            made = [token for token, _ in
                    model.generate(ids, 400, heat, random)]
            print(f"\n[{text}] temperature {heat}\n"
                  + model.tokenizer.decode(ids + made))


def reference(model):
    """What a test of another implementation compares itself with."""
    tokenizer = model.tokenizer
    ids = prompt_ids(tokenizer, "", REFERENCE_PROMPT)
    made = model.generate(ids, REFERENCE_TOKENS)
    return {
        "greedy": {
            "prompt": REFERENCE_PROMPT, "prompt_ids": ids,
            "ids": [token for token, _ in made],
            "gaps": [round(gap, 4) for _, gap in made],
            "text": tokenizer.decode([token for token, _ in made])},
        "tokenization": [
            {"text": text, "specials": specials,
             "ids": tokenizer.encode(text, specials)}
            for text in EXAMPLES
            for specials in ((False, True) if "<|" in text else (False,))]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", nargs="?", default=FILE)
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20260)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--reference", metavar="JSON",
                        help="write the reference for other implementations")
    args = parser.parse_args()
    model = Model(args.file)
    held_out = measure(model, corpus.HELD_OUT, args.documents, args.seed)
    layers = sparsity(model)
    print("held-out combinations:", json.dumps(held_out))
    for layer in layers:
        print(json.dumps(layer))
    print("unseen seed, seen combinations:", json.dumps(
        measure(model, corpus.TRAIN, args.documents, args.seed)))
    print_samples(model, args.temperature, args.seed)
    if args.reference:
        Path(args.reference).write_text(
            json.dumps(reference(model), indent=1) + "\n")


if __name__ == "__main__":
    main()
