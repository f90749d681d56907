"""Reads GGUF files in the tests' own way, so that the programs' writing has a second opinion."""

import struct

# Weights per block, bytes per block.
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 12: (256, 144), 13: (256, 176),
          14: (256, 210), 26: (1, 4), 30: (1, 2)}
TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "BF16": 30}
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
            12: "d"}


class Tensor:
    """Shape outermost first; bytes as they lie in the file."""

    def __init__(self, shape, type_id, offset):
        self.shape, self.type, self.offset, self.data = shape, type_id, offset, b""

    def size(self):
        count = 1
        for length in self.shape:
            count *= length
        weights, size = BLOCKS[self.type]
        return count // weights * size


class GgufFile:
    def __init__(self, path):
        with open(path, "rb") as file:
            self._bytes = file.read()
        self._at = 4
        self.magic = self._bytes[:4].decode()
        self.version = self._take("I")
        n_tensors, n_keys = self._take("Q"), self._take("Q")
        self.metadata = {}
        for _ in range(n_keys):
            key = self._string()
            self.metadata[key] = self._value(self._take("I"))
        self.tensors = {}
        for _ in range(n_tensors):
            name = self._string()
            lengths = [self._take("Q") for _ in range(self._take("I"))]
            self.tensors[name] = Tensor(lengths[::-1], self._take("I"), self._take("Q"))
        begin = (self._at + 31) // 32 * 32
        for tensor in self.tensors.values():
            at = begin + tensor.offset
            tensor.data = self._bytes[at:at + tensor.size()]
            assert len(tensor.data) == tensor.size()

    def floats(self, name):
        tensor = self.tensors[name]
        assert tensor.type == TYPES["F32"]
        return struct.unpack(f"<{len(tensor.data) // 4}f", tensor.data)

    def _take(self, code):
        value, = struct.unpack_from("<" + code, self._bytes, self._at)
        self._at += struct.calcsize("<" + code)
        return value

    def _string(self):
        length = self._take("Q")
        self._at += length
        return self._bytes[self._at - length:self._at].decode()

    def _value(self, kind):
        if kind == 8:
            return self._string()
        if kind == 9:
            of, count = self._take("I"), self._take("Q")
            return [self._value(of) for _ in range(count)]
        return self._take(_SCALARS[kind])
