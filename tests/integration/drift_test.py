"""`--replan auto` where other neurons are hot than the profile says: the service changes its plan by
itself, and streams have the tokens of one process."""

import json
import struct

from cluster import PATIENCE_S, main, wait_until
from replan_test import N_GENERATED, PROMPT, ReplanTest

N_LAYER, N_FF, N_TOKENS = 4, 2048, 1000
# So slow, and so near, that sharing each layer pays, and an uneven share costs.
CLUSTER = """workers:
  - {id: 1, read_gb_per_s: 0.1, gather_gb_per_s: 0.1}
  - {id: 2, read_gb_per_s: 0.1, gather_gb_per_s: 0.1}
links:
  - {from: 1, to: 2, latency_us: 1, gb_per_s: 10, message_us: 0}
  - {from: 2, to: 1, latency_us: 1, gb_per_s: 10, message_us: 0}
"""


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def write_profile(path, fingerprint, fired):
    """A profile file (docs/profile-format.md) with the same counts in every layer."""
    keys = [("general.architecture", 8, text("thermocline.profile")),
            ("thermocline.profile.version", 4, struct.pack("<I", 1)),
            ("thermocline.profile.model_fingerprint", 8, text(fingerprint)),
            ("thermocline.profile.tokens", 4, struct.pack("<I", N_TOKENS)),
            ("thermocline.profile.tokens_is_guess", 7, b"\0"),
            ("thermocline.profile.active_thresholds", 9,
             struct.pack(f"<IQ{N_LAYER}f", 6, N_LAYER, *[0.0] * N_LAYER))]
    counts = struct.pack(f"<{len(fired)}i", *fired)
    assert len(counts) % 32 == 0
    header = b"GGUF" + struct.pack("<IQQ", 3, N_LAYER, len(keys))
    header += b"".join(text(key) + struct.pack("<I", kind) + value for key, kind, value in keys)
    for layer in range(N_LAYER):
        header += text(f"blk.{layer}.fired") + struct.pack("<IQIQ", 1, len(fired), 26,
                                                           layer * len(counts))
    with open(path, "wb") as file:
        file.write(header + bytes(-len(header) % 32) + counts * N_LAYER)


class DriftTest(ReplanTest):
    def test_the_plan_follows_the_neurons_that_fire(self):
        model = self.tiny_model("arcee", n_layer=N_LAYER, n_embd=64, n_ff=N_FF, n_ctx=512)
        code, output = self.run_program("inspect", "--model", model, "--json")
        self.assertEqual(code, 0, output)
        # Really each neuron fires for about every second token.
        write_profile(model.removesuffix(".gguf") + ".profile.gguf",
                      json.loads(output)["fingerprint"],
                      [N_TOKENS] * (N_FF // 4) + [1] * (N_FF - N_FF // 4))
        cluster_file = self.path("cluster.yaml")
        with open(cluster_file, "w", encoding="utf-8") as file:
            file.write(CLUSTER)
        cluster, _ = self.serve_joined(model, 2, "--ffn", "exact", "--objective", "latency",
                                       "--cluster", cluster_file, "--replan-interval", "1",
                                       "--ctx-size", "512", "--parallel", "1")
        cluster.ready()
        self.assertTrue(any(worker["helper"] for worker in cluster.api.cluster()["workers"]),
                        cluster.output)
        n_streams = 0

        def changed():
            nonlocal n_streams
            begun = self.begin_again(cluster, model)
            self.check(begun)
            n_streams += 1
            now = cluster.api.cluster()
            return now if now["plan"]["changes"] > 0 and not now["plan"]["changing"] else None
        try:
            now = wait_until(changed, "a plan that follows", PATIENCE_S)
        except AssertionError as error:
            raise AssertionError(f"{error}: {cluster.api.cluster()['plan']}\n"
                                 f"{cluster.output}") from None
        self.assertGreater(n_streams, 1)
        self.assertEqual(now["plan"]["last_change"]["why"], "other neurons are hot")
        self.assertGreaterEqual(now["plan"]["last_change"]["predicted_gain"], 0.05)
        self.assertRegex(cluster.output, r"other neurons are hot: another plan would save \d+ % of a "
                                         r"token's time .*: worth it")
        self.check(self.begin_again(cluster, model))
        # The plan is made for them now.
        self.assertLess(cluster.api.cluster()["plan"]["drift"], 0.1)
        self.stop(cluster)

    def begin_again(self, cluster, model):
        """As begin, but one process says only once what the tokens are."""
        if not hasattr(self, "expected"):
            self.expected = self.generate(model, PROMPT, N_GENERATED, "--ffn", "exact")[0]["generated"]
        stream = cluster.api.stream(PROMPT, N_GENERATED, return_token_ids=True)
        return stream, stream.next(), self.expected


if __name__ == "__main__":
    main()
