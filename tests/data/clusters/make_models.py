#!/usr/bin/env python3
"""Writes the models that docs/placement.md plans for: headers and sizes, without weights.

  make_models.py FOLDER
  thermocline profile -m FOLDER/relu.gguf --import-counts FOLDER/counts --import-tokens 4096

FOLDER/dense.gguf is a llama of 73 GB, FOLDER/relu.gguf an arcee of 53 GB, both of 80 layers x 28 672
neurons in Q8_0. Their weights are holes of the file: it takes no place on a disk, and nothing but
planning can be done with it. FOLDER/counts are of neurons of relu.gguf over 4096 tokens, by layer
Beta(2 m, 2 - 2 m) with m from 0.08 to 0.16, which the second line makes its profile of.
"""
import array
import random
import struct
import sys
from pathlib import Path

N_LAYER, N_EMBD, N_FF, N_VOCAB, N_HEAD, N_HEAD_KV = 80, 8192, 28672, 32000, 64, 8
HEAD_DIM = N_EMBD // N_HEAD
N_TOKENS = 4096
ALIGNMENT = 32
F32, Q8_0 = 0, 8  # types of tensors
U32, FLOAT32, STRING = 4, 6, 8  # types of values


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def header_values(arch):
    values = [text("general.architecture") + struct.pack("<I", STRING) + text(arch)]
    sizes = {
        "block_count": N_LAYER, "embedding_length": N_EMBD, "feed_forward_length": N_FF,
        "attention.head_count": N_HEAD, "attention.head_count_kv": N_HEAD_KV, "context_length": 4096,
        "rope.dimension_count": HEAD_DIM, "vocab_size": N_VOCAB}
    values += [text(f"{arch}.{key}") + struct.pack("<II", U32, size) for key, size in sizes.items()]
    epsilon = struct.pack("<If", FLOAT32, 1e-5)
    values.append(text(f"{arch}.attention.layer_norm_rms_epsilon") + epsilon)
    values.append(text("general.alignment") + struct.pack("<II", U32, ALIGNMENT))
    return values


def tensors(has_gate):
    """(name, dimensions as GGUF has them, type)"""
    yield "token_embd.weight", (N_EMBD, N_VOCAB), Q8_0
    for layer in range(N_LAYER):
        block = f"blk.{layer}."
        n_kv = N_HEAD_KV * HEAD_DIM
        yield block + "attn_norm.weight", (N_EMBD,), F32
        yield block + "attn_q.weight", (N_EMBD, N_EMBD), Q8_0
        yield block + "attn_k.weight", (N_EMBD, n_kv), Q8_0
        yield block + "attn_v.weight", (N_EMBD, n_kv), Q8_0
        yield block + "attn_output.weight", (N_EMBD, N_EMBD), Q8_0
        yield block + "ffn_norm.weight", (N_EMBD,), F32
        if has_gate:
            yield block + "ffn_gate.weight", (N_EMBD, N_FF), Q8_0
        yield block + "ffn_up.weight", (N_EMBD, N_FF), Q8_0
        yield block + "ffn_down.weight", (N_FF, N_EMBD), Q8_0
    yield "output_norm.weight", (N_EMBD,), F32
    yield "output.weight", (N_EMBD, N_VOCAB), Q8_0


def aligned(n_bytes):
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT


def write_model(path, arch, has_gate):
    infos, end, count = b"", 0, 0
    for name, dims, dtype in tensors(has_gate):
        infos += text(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
        infos += struct.pack("<IQ", dtype, end)
        n_elems = dims[0] * (dims[1] if len(dims) > 1 else 1)
        # Q8_0 has 32 numbers in 34 bytes.
        end += aligned(n_elems * 4 if dtype == F32 else n_elems // 32 * 34)
        count += 1
    values = header_values(arch)
    head = b"GGUF" + struct.pack("<IQQ", 3, count, len(values)) + b"".join(values) + infos
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(aligned(len(head)) + end)


def write_counts(folder):
    folder.mkdir(exist_ok=True)
    draw = random.Random(7)
    for layer in range(N_LAYER):
        mean = 0.08 + 0.08 * layer / (N_LAYER - 1)
        counts = array.array("q", (
            round(draw.betavariate(2 * mean, 2 - 2 * mean) * N_TOKENS) for _ in range(N_FF)))
        head = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({N_FF},), }}"
        head += " " * (63 - (len(head) + 10) % 64) + "\n"
        (folder / f"activation_{layer}.npy").write_bytes(
            b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + counts.tobytes())


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    write_model(out / "dense.gguf", "llama", has_gate=True)
    write_model(out / "relu.gguf", "arcee", has_gate=False)
    write_counts(out / "counts")


if __name__ == "__main__":
    main()
