"""`thermocline generate` against logits of an independent implementation (tests/data/reference)."""

import json
import math
import os

from cluster import DATA_DIR, ClusterTest, main, read_floats

# The largest relative error of a row, by the weights' type. The reference rounds activations too: to
# F16 and BF16 (2^-9 per product) beside weights of these types, to 8 bits by blocks beside quantised
# ones. Only its F32 runs compute what we compute.
TOLERANCE = {"f32": 1e-5, "f16": 1e-3, "bf16": 6e-3}
QUANTISED_TOLERANCE = 4e-2


def fixtures():
    """(name, model, description) of every reference that is here; more in TC_REFERENCE_DIR."""
    found = {}
    for folder in [os.environ.get("TC_REFERENCE_DIR", ""), os.path.join(DATA_DIR, "reference")]:
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        for name in (n.removesuffix(".json") for n in names if n.endswith(".json")):
            models = [os.path.join(place, name + ".gguf") for place in (folder, DATA_DIR)]
            found[name] = (next(m for m in models if os.path.exists(m)),
                           os.path.join(folder, name + ".json"))
    return [(name, *paths) for name, paths in sorted(found.items())]


def row_of(values, n_vocab, row):
    return values[row * n_vocab:(row + 1) * n_vocab]


def relative_error(got, wanted):
    difference = sum((g - w) ** 2 for g, w in zip(got, wanted))
    return math.sqrt(difference / sum(w * w for w in wanted))


def largest_difference(got, wanted):
    return max(abs(g - w) for g, w in zip(got, wanted))


def device_flags():
    """Where it is computed, for runs on a machine that has more than a CPU (tests/gpu/run.sh)."""
    device = os.environ.get("TC_TEST_DEVICE", "")
    return ["--device", device] if device else []


class Reference:
    """What the other implementation computed for one model."""

    def __init__(self, description):
        with open(description, encoding="utf-8") as file:
            fields = json.load(file)
        self.prompt, self.generated = fields["prompt"], fields["generated"]
        self.gaps, self.n_vocab = fields["gap_to_2nd"], fields["n_vocab"]
        values = read_floats(os.path.join(os.path.dirname(description), fields["logits"]))
        self.rows = [row_of(values, self.n_vocab, i) for i in range(fields["rows"])]


class ReferenceTest(ClusterTest):
    def check_logits(self, name, model, reference):
        """Every row, fed with the reference's tokens. Returns ours after the prompt."""
        _, path = self.generate(model, reference.prompt + reference.generated, 1, *device_flags())
        values = read_floats(path)
        rows = [row_of(values, reference.n_vocab, i) for i in range(len(reference.rows))]
        errors = [relative_error(got, wanted) for got, wanted in zip(rows, reference.rows)]
        tolerance = TOLERANCE.get(name.rsplit("-", 1)[1], QUANTISED_TOLERANCE)
        self.assertLessEqual(max(errors), tolerance, f"row {errors.index(max(errors))}")
        print(f"{name}: {len(rows)} rows, largest error {max(errors):.1e}")
        return rows

    def explained(self, rows, reference, i):
        """Whether token i may be another: its lead is within the difference of the logits."""
        row = len(reference.prompt) - 1 + i
        return reference.gaps[i] < 2 * largest_difference(rows[row], reference.rows[row])

    def check_tokens(self, model, rows, reference):
        """Greedy continuation, up to the first token that the differences explain."""
        answer, _ = self.generate(model, reference.prompt, len(reference.generated),
                                  *device_flags())
        self.assertEqual(answer["prompt"], reference.prompt)
        self.assertEqual(len(answer["generated"]), len(reference.generated))
        for i, (got, wanted) in enumerate(zip(answer["generated"], reference.generated)):
            if got != wanted:
                self.assertTrue(self.explained(rows, reference, i), f"token {i}: {got}, {wanted}")
                return

    def test_logits_and_greedy_tokens(self):
        found = fixtures()
        self.assertGreaterEqual(len(found), 8)
        for name, model, description in found:
            with self.subTest(name):
                reference = Reference(description)
                rows = self.check_logits(name, model, reference)
                self.check_tokens(model, rows, reference)


if __name__ == "__main__":
    main()
