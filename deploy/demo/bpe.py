"""Byte-level BPE, trainer and tokenizer, as GGUF's "gpt2" model means it.

Text is split as GPT-2 does, every piece becomes UTF-8 bytes spelled with
printable characters, and the merges are applied in the order they were learnt.
The corpus is ASCII, for which the ASCII classes below equal the Unicode ones.
"""
import re
from collections import Counter, defaultdict

SPLIT = re.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d"
    r"| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")

BEGIN, END = "<|begin|>", "<|end|>"
ROLES = {role: f"<|{role}|>" for role in ("user", "assistant", "system")}
SPECIALS = (BEGIN, END, *ROLES.values())


def byte_alphabet():
    """Byte -> the printable character that spells it in a GPT-2 vocabulary.

    Visible Latin-1 characters stand for themselves; the others, in order, are
    moved up behind U+0100, so that no token holds a space or control byte.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    alphabet = {byte: chr(byte) for byte in visible}
    alphabet.update({byte: chr(0x100 + i) for i, byte in enumerate(hidden)})
    return alphabet


ALPHABET = byte_alphabet()
BYTES = {char: byte for byte, char in ALPHABET.items()}


def spell(piece):
    return "".join(ALPHABET[byte] for byte in piece.encode("utf-8"))


def _merge(symbols, pair):
    """The symbols with every non-overlapping occurrence of the pair joined."""
    merged, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i:i + 2]) == pair:
            merged.append(pair[0] + pair[1])
            i += 2
        else:
            merged.append(symbols[i])
            i += 1
    return merged


def learn_merges(texts, count):
    """The `count` most useful merges: each joins the then most frequent pair.

    Ties go to the smaller pair, so that the result depends on the text only.
    """
    pieces = Counter(piece for text in texts for piece in SPLIT.findall(text))
    spelled = [(list(spell(piece)), n) for piece, n in pieces.items()]
    pairs, where = Counter(), defaultdict(set)
    for i, (symbols, n) in enumerate(spelled):
        for pair in zip(symbols, symbols[1:]):
            pairs[pair] += n
            where[pair].add(i)
    merges = []
    while len(merges) < count:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for i in where.pop(best):
            symbols, n = spelled[i]
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] -= n
            symbols = _merge(symbols, best)
            spelled[i] = (symbols, n)
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += n
                where[pair].add(i)
        del pairs[best]
    return merges


class Tokenizer:
    """Ids are: the 256 bytes, the merges in order, the special tokens."""

    def __init__(self, merges):
        self.merges = [tuple(pair) for pair in merges]
        self.tokens = [ALPHABET[byte] for byte in range(256)]
        self.tokens += [a + b for a, b in self.merges]
        self.tokens += SPECIALS
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.rank = {pair: i for i, pair in enumerate(self.merges)}
        self.begin, self.end = self.ids[BEGIN], self.ids[END]
        self._known = {}
        self._special = re.compile(
            "(" + "|".join(map(re.escape, SPECIALS)) + ")")

    def _order(self, pair):
        return self.rank.get(pair, len(self.rank))

    def _encode_piece(self, piece):
        if piece not in self._known:
            symbols = list(spell(piece))
            while len(symbols) > 1:
                pair = min(zip(symbols, symbols[1:]), key=self._order)
                if pair not in self.rank:
                    break
                symbols = _merge(symbols, pair)
            self._known[piece] = [self.ids[symbol] for symbol in symbols]
        return self._known[piece]

    def encode(self, text, specials=False):
        """Ids of the text; with `specials`, <|end|> means the token."""
        parts = self._special.split(text) if specials else [text]
        ids = []
        for part in parts:
            if specials and part in SPECIALS:
                ids.append(self.ids[part])
                continue
            for piece in SPLIT.findall(part):
                ids += self._encode_piece(piece)
        return ids

    def decode(self, ids):
        """The text of the ids; special tokens are spelled by name."""
        data = b"".join(
            token.encode() if token in SPECIALS
            else bytes(BYTES[char] for char in token)
            for token in (self.tokens[i] for i in ids))
        return data.decode("utf-8", errors="replace")

    def encode_document(self, document):
        """Ids of a corpus document, laid out as the chat template does."""
        ids = [self.begin]
        for role, text in document:
            if role:
                ids.append(self.ids[ROLES[role]])
            ids += self.encode(text)
            if role in ("", "assistant"):
                ids.append(self.end)
        return ids
