"""Writes a GGUF version 3 file: metadata, tensor directory, aligned data."""
import struct

import numpy as np

UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
TENSOR_F32, TENSOR_F16 = 0, 1
ALIGNMENT = 32
SCALARS = {UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}


def _string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _value(kind, value):
    return (_string(value) if kind == STRING
            else struct.pack(SCALARS[kind], value))


def _padding(size):
    return b"\0" * (-size % ALIGNMENT)


class Writer:
    """Collects keys and tensors; the file holds them in the order added."""

    def __init__(self):
        self._keys = []
        self._directory = []
        self._data = []
        self._offset = 0

    def add(self, key, kind, value):
        self._keys.append(_string(key) + struct.pack("<I", kind)
                          + _value(kind, value))

    def add_array(self, key, kind, values):
        header = struct.pack("<IIQ", ARRAY, kind, len(values))
        self._keys.append(_string(key) + header
                          + b"".join(_value(kind, value) for value in values))

    def add_tensor(self, name, array):
        """Matrices are stored as F16, vectors (norm weights) as F32.

        numpy's [out, in] is GGUF's [in, out]: the fastest dimension is named
        first there, so only the order of the sizes changes and not the data.
        """
        is_matrix = array.ndim > 1
        kind = TENSOR_F16 if is_matrix else TENSOR_F32
        data = array.astype(np.float16 if is_matrix else np.float32).tobytes()
        sizes = array.shape[::-1]
        self._directory.append(
            _string(name) + struct.pack("<I", len(sizes))
            + struct.pack(f"<{len(sizes)}Q", *sizes)
            + struct.pack("<IQ", kind, self._offset))
        data += _padding(len(data))
        self._data.append(data)
        self._offset += len(data)

    def write(self, path):
        head = b"GGUF" + struct.pack("<IQQ", 3, len(self._directory),
                                     len(self._keys))
        head += b"".join(self._keys) + b"".join(self._directory)
        with open(path, "wb") as file:
            file.write(head + _padding(len(head)))
            file.writelines(self._data)
