#!/usr/bin/env python3
"""Writes bpe_tiny.json: a small byte-level BPE vocabulary and what an independent implementation
makes of many texts. Nothing here is shared with the C++ code: the words are cut by hand-written
matchers instead of regular expressions, and merging is the textbook loop.

    python3 tests/data/make_bpe_tiny.py > tests/data/bpe_tiny.json
"""
import json
import os
import random
import sys
import unicodedata

HERE = os.path.dirname(os.path.abspath(__file__))
N_MERGES = 300
SPACES = set("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | {chr(c) for c in range(0x2000, 0x200B)}


def is_space(c):
    return c in SPACES


def is_letter(c):
    return unicodedata.category(c)[0] == "L"


def is_number(c):
    return unicodedata.category(c)[0] == "N"


def is_other(c):
    return not (is_space(c) or is_letter(c) or is_number(c))


def run(text, at, wanted, limit=None):
    """The end of the run of characters for which wanted() holds."""
    end = at
    while end < len(text) and wanted(text[end]) and (limit is None or end - at < limit):
        end += 1
    return end


def contraction(text, at, any_case):
    for tail in ("s", "t", "re", "ve", "m", "ll", "d"):
        piece = text[at + 1 : at + 1 + len(tail)]
        if text[at] == "'" and (piece.lower() if any_case and piece.isascii() else piece) == tail:
            return at + 1 + len(tail)
    return at


def gpt2_word(text, at):
    end = contraction(text, at, any_case=False)
    if end > at:
        return end
    start = at + 1 if text[at] == " " else at
    for wanted in (is_letter, is_number, is_other):
        end = run(text, start, wanted)
        if end > start:
            return end
    end = run(text, at, is_space)
    return end if end == len(text) or end - at == 1 else end - 1


def llama3_word(text, at, digits):
    end = contraction(text, at, any_case=True)
    if end > at:
        return end
    c = text[at]
    start = at if is_letter(c) or is_number(c) or c in "\r\n" else at + 1
    end = run(text, start, is_letter)
    if end > start:
        return end
    end = run(text, at, is_number, digits)
    if end > at:
        return end
    start = at + 1 if c == " " else at
    end = run(text, start, is_other)
    if end > start:
        return run(text, end, lambda c: c in "\r\n")
    end = run(text, at, is_space)
    newline = max(text.rfind("\n", at, end), text.rfind("\r", at, end))
    if newline >= 0:
        return newline + 1
    return end if end == len(text) or end - at == 1 else end - 1


def words_by(step, text):
    words, at = [], 0
    while at < len(text):
        end = step(text, at)
        words.append(text[at:end])
        at = end
    return words


def separate(word, wanted, size=None):
    """Cuts a word at runs of wanted characters, or at each full group of `size` of them."""
    out, at = [], 0
    rest = ""
    while at < len(word):
        end = run(word, at, wanted, size)
        if end > at and (size is None or end - at == size):
            if rest:
                out.append(rest)
            out.append(word[at:end])
            rest, at = "", end
        else:
            rest += word[at]
            at += 1
    return out + ([rest] if rest else [])


def is_punctuation(c):
    return unicodedata.category(c)[0] == "P" or c in "$+<=>^~|"


def default_words(text):
    words = [w for w in separate(text, is_punctuation)]
    words = [v for w in words for v in words_by(gpt2_word, w)]
    words = [v for w in words for v in separate(w, is_number)]
    return [v for w in words for v in separate(w, lambda c: c in "0123456789", 3)]


SPLITTERS = {
    "gpt-2": lambda text: words_by(gpt2_word, text),
    "llama-bpe": lambda text: words_by(lambda t, i: llama3_word(t, i, 3), text),
    "qwen2": lambda text: words_by(lambda t, i: llama3_word(t, i, 1), text),
    "default": default_words,
}


def alphabet():
    """GPT-2's spelling of the 256 bytes."""
    plain = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    spelling, extra = {}, 0
    for byte in range(256):
        if byte in plain:
            spelling[byte] = chr(byte)
        else:
            spelling[byte] = chr(0x100 + extra)
            extra += 1
    return spelling


SPELLING = alphabet()


def spell(data):
    return "".join(SPELLING[b] for b in data)


def merge_pair(symbols, pair):
    out, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            out.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


def train(text):
    words = [list(spell(w.encode())) for w in SPLITTERS["gpt-2"](text)]
    merges = []
    while len(merges) < N_MERGES:
        counts = {}
        for w in words:
            for pair in zip(w, w[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        best = max(counts, key=lambda p: (counts[p], p))
        merges.append(best)
        words = [merge_pair(w, best) for w in words]
    return merges


def bpe(word, ranks):
    symbols = list(spell(word))
    while len(symbols) > 1:
        known = [p for p in zip(symbols, symbols[1:]) if p in ranks]
        if not known:
            break
        symbols = merge_pair(symbols, min(known, key=lambda p: ranks[p]))
    return symbols


def random_text(rng, corpus_words):
    pieces = ["a", "aa", "thethe", " ", "  ", "    ", "\n", "\n\n", "\r\n", "\t", " \n ", "'s", "'S", "'ll", "'LL",
              "'", "1", "12", "123", "1234567", "٣٤", "½", "Ⅷ", "é", "é", "ß", "Ж", "水", "の", "🐟", "👩‍🚀", "\u00a0",
              "\u3000", "\u2003", "\u180e", "\u200b", "\x85", "!", "?!", "...", "$9.99", "<=", "=>", "~", "^", "|", "_",
              "“x”", "—", "€", "\x00", "\x1f", "\u0301", "ǅ", "ª", "ſ", "'ſ", " zebra", "zebra", "#!/bin/sh", "a_b-c"]
    return "".join(rng.choice(pieces if rng.random() < 0.6 else corpus_words) for _ in range(rng.randint(0, 14)))


def main():
    corpus = open(os.path.join(HERE, "tokenizer_corpus.txt"), encoding="utf-8").read()
    merges = train(corpus)
    tokens = [SPELLING[b] for b in range(256)] + [a + b for a, b in merges]
    tokens = list(dict.fromkeys(tokens))
    tokens.append(spell(b" zebra"))  # no merges lead here: only ignore_merges finds it
    ids = {t: i for i, t in enumerate(tokens)}
    ranks = {pair: i for i, pair in enumerate(merges)}

    rng = random.Random(20)
    corpus_words = SPLITTERS["gpt-2"](corpus)
    texts = ["", " ", "a", "Hello, world!", corpus] + corpus.split("\n")[:4]
    texts += [random_text(rng, corpus_words) for _ in range(120)]
    cases = []
    for pre, split in SPLITTERS.items():
        for text in texts:
            out = []
            words = split(text)
            assert "".join(words) == text, (pre, text, words)
            for word in words:
                whole = spell(word.encode())
                symbols = [whole] if pre == "llama-bpe" and whole in ids else bpe(word.encode(), ranks)
                out += [ids[s] for s in symbols]
            cases.append({"pre": pre, "text": text, "ids": out, "words": len(words)})
    json.dump({"tokens": tokens, "merges": [" ".join(m) for m in merges], "cases": cases}, sys.stdout,
              ensure_ascii=True, separators=(",", ":"))
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
