#!/usr/bin/python3
"""Trains the demo model on the corpus and writes it as GGUF.

The model is a small transformer of the "arcee" architecture, whose feed
forward block is down(relu(up h) ** 2). Two things are trained at once: the
next token, and that few neurons are active for any one token. For the second,
each layer adds weight * mean(r) / sqrt(mean(r ** 2)), r = relu(up h), to the
loss. That ratio falls with the share of active neurons and does not change
when r is scaled, so it cannot be satisfied by merely making r small; and the
weight is steered per layer until the wanted share is met.

Matrix products run in bfloat16 (the CPU's matrix units), weights, residual
stream and optimizer state are float32.
"""
import argparse
import itertools
import json
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

import bpe
import corpus
import gguf_writer as gguf

BF16 = torch.bfloat16
HERE = Path(__file__).parent
TOKENIZER_DOCUMENTS = 20000
BLOCK_DOCUMENTS = 1024
EXERCISE_BLOCKS = 6
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}"
    "{{ '<|system|>' + message['content'] }}"
    "{% elif message['role'] == 'user' %}"
    "{{ '<|user|>' + message['content'] }}"
    "{% else %}"
    "{{ '<|assistant|>' + message['content'] + eos_token }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")


@dataclass(frozen=True)
class Shape:
    """The model's sizes; named as in GGUF tools."""

    n_vocab: int = 2048
    n_ctx: int = 512
    n_embd: int = 192
    n_ff: int = 768
    n_layer: int = 5
    n_head: int = 6
    n_head_kv: int = 3
    epsilon: float = 1e-5
    rope_base: float = 10000.0

    @property
    def head_dim(self):
        return self.n_embd // self.n_head


def linear(x, weight):
    return F.linear(x.to(BF16), weight.to(BF16))


def rms_norm(x, weight, epsilon):
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)
    return (x * scale * weight).to(BF16)


class SquaredRelu(torch.autograd.Function):
    """relu(u) ** 2 with the sums of r = relu(u) and r ** 2, in few passes.

    Spelled with single operations this costs a quarter of a training step.
    """

    @staticmethod
    def forward(ctx, u):
        r = torch.relu(u)
        squared = r * r
        ctx.save_for_backward(r)
        return squared, r.sum(), squared.sum()

    @staticmethod
    def backward(ctx, grad, grad_sum, grad_square_sum):
        r, = ctx.saved_tensors
        grad = (grad + grad_square_sum).mul_(r).mul_(2).add_(grad_sum)
        return torch.ops.aten.threshold_backward(grad, r, 0)


class Block(torch.nn.Module):
    """One layer: attention, then the sparse feed forward block."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        d, hd = shape.n_embd, shape.head_dim
        self.attn_norm = torch.nn.Parameter(torch.ones(d))
        self.attn_q = _matrix(shape.n_head * hd, d)
        self.attn_k = _matrix(shape.n_head_kv * hd, d)
        self.attn_v = _matrix(shape.n_head_kv * hd, d)
        self.attn_output = _matrix(d, shape.n_head * hd, scale=0.1)
        self.ffn_norm = torch.nn.Parameter(torch.ones(d))
        self.ffn_up = _matrix(shape.n_ff, d)
        self.ffn_down = _matrix(d, shape.n_ff, scale=0.1)

    def _heads(self, x, weight, count, rope):
        """Projects to `count` heads, [batch, head, position, head_dim]."""
        batch, length, _ = x.shape
        y = linear(x, weight).view(batch, length, count, -1)
        if rope is not None:
            cos, sin = rope
            even, odd = y[..., 0::2], y[..., 1::2]
            y = torch.stack((even * cos - odd * sin, even * sin + odd * cos),
                            dim=-1).flatten(-2)
        return y.transpose(1, 2)

    def attend(self, x, rope, mask):
        batch, length, _ = x.shape
        s = self.shape
        q = self._heads(x, self.attn_q, s.n_head, rope)
        k = self._heads(x, self.attn_k, s.n_head_kv, rope)
        v = self._heads(x, self.attn_v, s.n_head_kv, None)
        # the heads that share keys become further rows of one product
        q = q.reshape(batch * s.n_head_kv, -1, s.head_dim) * s.head_dim ** -0.5
        k = k.reshape(batch * s.n_head_kv, length, s.head_dim)
        v = v.reshape(batch * s.n_head_kv, length, s.head_dim)
        scores = torch.baddbmm(mask, q, k.transpose(1, 2))
        y = (scores.softmax(-1) @ v).view(batch, s.n_head, length, s.head_dim)
        y = y.transpose(1, 2).reshape(batch, length, -1)
        return linear(y, self.attn_output).float()

    def forward(self, x, rope, mask):
        """The layer's output, its sparsity penalty and active share."""
        h = rms_norm(x, self.attn_norm, self.shape.epsilon)
        x = x + self.attend(h, rope, mask)
        h = rms_norm(x, self.ffn_norm, self.shape.epsilon)
        squared, total, square_total = SquaredRelu.apply(
            linear(h, self.ffn_up))
        x = x + linear(squared, self.ffn_down).float()
        size = squared.numel()
        penalty = (total.float() / size
                   * (square_total.float() / size + 1e-9).rsqrt())
        sample = squared.detach()[0]
        return x, penalty, (sample > 0).float().mean()


class Model(torch.nn.Module):
    """Embedding, layers, final norm; the output shares the embedding."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.token_embd = _matrix(shape.n_vocab, shape.n_embd)
        self.output_norm = torch.nn.Parameter(torch.ones(shape.n_embd))
        self.blk = torch.nn.ModuleList(
            Block(shape) for _ in range(shape.n_layer))
        pair = torch.arange(0, shape.head_dim, 2) / shape.head_dim
        angle = torch.outer(torch.arange(shape.n_ctx),
                            shape.rope_base ** -pair)
        self.cos, self.sin = angle.cos().to(BF16), angle.sin().to(BF16)
        self.mask = torch.full((shape.n_ctx, shape.n_ctx),
                               -math.inf).triu(1).to(BF16)

    def forward(self, ids):
        length = ids.shape[1]
        rope = self.cos[:length, None], self.sin[:length, None]
        sharing = self.shape.n_head // self.shape.n_head_kv
        mask = self.mask[:length, :length].repeat(sharing, 1)
        x = F.embedding(ids, self.token_embd)
        penalties, shares = [], []
        for block in self.blk:
            x, penalty, share = block(x, rope, mask)
            penalties.append(penalty)
            shares.append(share)
        x = rms_norm(x, self.output_norm, self.shape.epsilon)
        logits = linear(x, self.token_embd).float()
        return logits, torch.stack(penalties), torch.stack(shares)


def _matrix(rows, columns, scale=1.0):
    return torch.nn.Parameter(torch.randn(rows, columns) * 0.05 * scale)


def make_tokenizer(shape, seed):
    """Merges from documents and exercises: the latter so that the words for
    who somebody is, each rare by itself, become single tokens."""
    teller = corpus.Teller(seed)
    texts = [text for draw in (teller.document, teller.exercise)
             for _ in range(TOKENIZER_DOCUMENTS) for _, text in draw()]
    count = shape.n_vocab - 256 - len(bpe.SPECIALS)
    return bpe.Tokenizer(bpe.learn_merges(texts, count))


def batches(encoded, shape, tokens, order):
    """Rows of similar length, padded with -1; about `tokens` ids per batch."""
    rows = sorted((ids[:shape.n_ctx + 1] for ids in encoded), key=len)
    made = []
    while rows:
        width = -(-(len(rows[-1]) - 1) // 32) * 32
        taken = [rows.pop() for _ in range(min(len(rows), tokens // width))]
        padded = [row + [-1] * (width + 1 - len(row)) for row in taken]
        made.append(torch.tensor(padded))
    order.shuffle(made)
    return made


def training_batches(tokenizer, shape, tokens, seed):
    """Endless batches of fresh documents, block after block from the seed.

    The first blocks are exercises in copying names; see corpus.py.
    """
    for block in itertools.count():
        name = f"{seed}.{block}"
        teller = corpus.Teller(name)
        draw = (teller.exercise if block < EXERCISE_BLOCKS
                else teller.document)
        documents = [draw() for _ in range(BLOCK_DOCUMENTS)]
        encoded = [tokenizer.encode_document(d) for d in documents]
        yield from batches(encoded, shape, tokens, random.Random(name))


def next_token_loss(model, batch):
    """Loss over a batch, with the layers' penalties and active shares."""
    inputs, targets = batch[:, :-1].clamp(min=0), batch[:, 1:]
    logits, penalties, shares = model(inputs)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(),
                           ignore_index=-1)
    return loss, penalties, shares


class SparsityControl:
    """Steers each layer's penalty weight towards the wanted active share."""

    def __init__(self, blocks, active):
        self.goal = active
        self.weights = torch.full((blocks,), 1e-3)
        self.share = torch.full((blocks,), 0.5)

    def update(self, shares, progress):
        """The target falls from one half to the goal while training starts."""
        target = self.goal + (0.5 - self.goal) * max(0, 1 - progress / 0.25)
        self.share.lerp_(shares.float(), 0.05)
        self.weights *= torch.exp(0.2 * (self.share / target - 1).clamp(-1, 1))
        self.weights.clamp_(1e-4, 0.5)


class Trainer:
    """The training loop with its checkpoint."""

    def __init__(self, args):
        torch.manual_seed(args.seed)
        self.args = args
        self.shape = Shape()
        self.tokenizer = make_tokenizer(self.shape, args.seed)
        self.model = Model(self.shape)
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        vectors = [p for p in self.model.parameters() if p.dim() == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.05},
             {"params": vectors, "weight_decay": 0.0}],
            lr=args.rate, betas=(0.9, 0.97), foreach=True)
        self.control = SparsityControl(self.shape.n_layer, args.active)
        self.step, self.elapsed = 0, 0.0
        self.pool = ThreadPoolExecutor(args.threads)

    def progress(self):
        if self.args.steps:
            return self.step / self.args.steps
        return self.elapsed / (60 * self.args.minutes)

    def rate(self):
        """Warm-up over 100 steps, then a cosine down to a fiftieth."""
        cosine = 0.5 * (1 + math.cos(math.pi * min(1, self.progress())))
        warm = min(1, (self.step + 1) / 100)
        return self.args.rate * warm * (0.02 + 0.98 * cosine)

    def _gradients(self, batch):
        loss, penalties, shares = next_token_loss(self.model, batch)
        total = loss + (self.control.weights * penalties).sum()
        grads = torch.autograd.grad(total, list(self.model.parameters()))
        return loss.item(), shares, grads

    def train_step(self, batch):
        """One optimizer step; the rows are dealt out to the threads.

        Each thread works on its rows alone and they meet once per step, so
        that a machine busy with other things slows training in proportion
        and not at every operation.
        """
        count = min(self.args.threads, len(batch))
        parts = [batch[i::count] for i in range(count)]
        losses, shares, grads = zip(*self.pool.map(self._gradients, parts))
        self.control.update(torch.stack(shares).mean(0), self.progress())
        for parameter, *shared in zip(self.model.parameters(), *grads):
            parameter.grad = sum(shared) / count
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.step()
        self.step += 1
        return sum(losses) / count

    def run(self):
        stream = training_batches(self.tokenizer, self.shape,
                                  self.args.tokens, self.args.seed)
        stream = itertools.islice(stream, self.step, None)
        mean, seen, since = None, 0, time.time()
        while self.progress() < 1:
            start = time.time()
            batch = next(stream)
            loss = self.train_step(batch)
            mean = loss if mean is None else 0.98 * mean + 0.02 * loss
            seen += int((batch >= 0).sum())
            self.elapsed += time.time() - start
            if self.step % 50 == 0:
                rate = seen / (time.time() - since)
                self._log(mean, rate)
                seen, since = 0, time.time()
            if self.step % 250 == 0:
                self.save()
        self.save()

    def _log(self, loss, rate):
        active = " ".join(f"{share:.3f}" for share in self.control.share)
        print(f"step {self.step} at {self.progress():.1%} loss {loss:.4f} "
              f"active {active} {rate:.0f} tokens/s", flush=True)

    def save(self):
        """Keeps what a later call needs to go on, and the model as GGUF."""
        torch.save({"model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "weights": self.control.weights,
                    "share": self.control.share,
                    "step": self.step, "elapsed": self.elapsed},
                   self.args.checkpoint)
        export(self.model, self.tokenizer, self.args.out)

    def load(self):
        state = torch.load(self.args.checkpoint)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.control.weights = state["weights"]
        self.control.share = state["share"]
        self.step, self.elapsed = state["step"], state["elapsed"]


def _add_shape(writer, shape):
    writer.add("arcee.vocab_size", gguf.UINT32, shape.n_vocab)
    writer.add("arcee.context_length", gguf.UINT32, shape.n_ctx)
    writer.add("arcee.embedding_length", gguf.UINT32, shape.n_embd)
    writer.add("arcee.block_count", gguf.UINT32, shape.n_layer)
    writer.add("arcee.feed_forward_length", gguf.UINT32, shape.n_ff)
    writer.add("arcee.attention.head_count", gguf.UINT32, shape.n_head)
    writer.add("arcee.attention.head_count_kv", gguf.UINT32, shape.n_head_kv)
    writer.add("arcee.attention.layer_norm_rms_epsilon", gguf.FLOAT32,
               shape.epsilon)
    writer.add("arcee.rope.dimension_count", gguf.UINT32, shape.head_dim)
    writer.add("arcee.rope.freq_base", gguf.FLOAT32, shape.rope_base)


def _add_tokenizer(writer, tokenizer):
    types = [3 if token in bpe.SPECIALS else 1 for token in tokenizer.tokens]
    writer.add("tokenizer.ggml.model", gguf.STRING, "gpt2")
    writer.add("tokenizer.ggml.pre", gguf.STRING, "gpt-2")
    writer.add_array("tokenizer.ggml.tokens", gguf.STRING, tokenizer.tokens)
    writer.add_array("tokenizer.ggml.token_type", gguf.INT32, types)
    writer.add_array("tokenizer.ggml.merges", gguf.STRING,
                     [" ".join(pair) for pair in tokenizer.merges])
    writer.add("tokenizer.ggml.bos_token_id", gguf.UINT32, tokenizer.begin)
    writer.add("tokenizer.ggml.eos_token_id", gguf.UINT32, tokenizer.end)
    writer.add("tokenizer.ggml.add_bos_token", gguf.BOOL, True)
    writer.add("tokenizer.ggml.add_eos_token", gguf.BOOL, False)
    writer.add("tokenizer.chat_template", gguf.STRING, CHAT_TEMPLATE)


def export(model, tokenizer, path):
    """Writes the model as GGUF; the tensors keep their names, plus .weight."""
    writer = gguf.Writer()
    writer.add("general.architecture", gguf.STRING, "arcee")
    writer.add("general.name", gguf.STRING, "Thermocline demo story teller")
    writer.add("general.file_type", gguf.UINT32, 1)
    writer.add("general.quantization_version", gguf.UINT32, 2)
    _add_shape(writer, model.shape)
    _add_tokenizer(writer, tokenizer)
    for name, parameter in model.named_parameters():
        writer.add_tensor(name + ".weight", parameter.detach().numpy())
    writer.write(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default=HERE / "thermocline-demo.gguf")
    parser.add_argument("--checkpoint", default="/tmp/thermocline-demo.pt",
                        help="outside the repository (default %(default)s)")
    parser.add_argument("--resume", action="store_true")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=40)
    length.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=2048,
                        help="per batch (default %(default)s)")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--active", type=float, default=0.11,
                        help="wanted share of active neurons per layer")
    args = parser.parse_args()
    torch.set_num_threads(1)
    trainer = Trainer(args)
    if args.resume:
        trainer.load()
    count = sum(p.numel() for p in trainer.model.parameters())
    print(json.dumps({"parameters": count, **asdict(trainer.shape)}))
    trainer.run()


if __name__ == "__main__":
    main()
