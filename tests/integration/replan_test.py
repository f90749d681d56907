"""Changes of plan while streams run: layouts that change on request, workers that join and leave.
The tokens are those of one process, whatever happens meanwhile."""

import json
import os
import signal

from cluster import PATIENCE_S, THERMOCLINE, ClusterTest, main, needs_mpi, wait_until
from cluster import worker_of_rank

N_GENERATED = 400
PROMPT = [5, 17, 99, 200, 61, 7, 33, 250]


def stage(lead, layers, *helpers):
    """`helpers`: (worker, neurons)."""
    result = {"lead": lead, "layers": layers}
    if helpers:
        result["helpers"] = [{"worker": worker, "neurons": neurons} for worker, neurons in helpers]
    return result


class ReplanTest(ClusterTest):
    def model(self, dtype="F32"):
        """Large enough that a stream of N_GENERATED tokens outlasts a change."""
        return self.tiny_model("arcee", n_layer=6, n_embd=128, n_ff=512, n_ctx=2048, dtype=dtype)

    def begin(self, cluster, model):
        """A stream that is under way, and the tokens it should have."""
        expected = self.generate(model, PROMPT, N_GENERATED, "--ffn", "exact")[0]["generated"]
        stream = cluster.api.stream(PROMPT, N_GENERATED, return_token_ids=True)
        first = stream.next()
        return stream, first, expected

    def check(self, begun):
        """The stream ends with the tokens expected, none lost and none twice."""
        stream, first, expected = begun
        tokens = []
        for event in [first, *stream.rest()]:
            if event == "[DONE]":
                break
            for choice in json.loads(event)["choices"]:
                tokens += choice.get("token_ids") or []
        self.assertEqual(tokens, expected)

    def replan(self, cluster, *stages):
        """Asks for a plan, or for a new one, and waits until it is served."""
        epoch = cluster.api.cluster()["epoch"]
        body = {"stages": list(stages)} if stages else None
        status, _, answer = cluster.api.call("POST", "/v1/cluster/replan", body)
        self.assertEqual(status, 202, answer)
        return self.wait_epoch(cluster, epoch + 1)

    def wait_epoch(self, cluster, epoch):
        def served():
            now = cluster.api.cluster()
            return now if now["epoch"] == epoch and not now["plan"]["changing"] else None
        try:
            return wait_until(served, f"epoch {epoch}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{cluster.output}") from None

    def join(self, cluster, n_before):
        """One more worker in a running service."""
        key, join = cluster.join_arguments()
        worker = self.start([THERMOCLINE, "worker", *join, "--threads", "1"], env=key)
        cluster.wait_line(rf"^worker {n_before + 1} on \S+ joined")
        return worker

    def leave(self, cluster, worker, number=signal.SIGTERM):
        worker.signal(number)
        self.assertEqual(worker.wait(PATIENCE_S), 0, worker.output)


class JoinedTest(ReplanTest):
    def test_a_stream_over_one_layout_after_another(self):
        self.check_layouts(self.model())

    def test_a_stream_of_a_quantised_model(self):
        """Whose activations are rounded to 8 bits, so that another bit of a sum would be another step."""
        self.check_layouts(self.model(dtype="Q8_0"))

    def check_layouts(self, model):
        cluster, _ = self.serve_joined(model, 3, "--ffn", "exact",
                                       *self.plan_of(stage(1, [0, 3]), stage(2, [3, 6])))
        cluster.ready()
        begun = self.begin(cluster, model)
        for stages in ([stage(1, [0, 2], (3, [256, 512])), stage(2, [2, 6])],
                       [stage(1, [0, 6], (2, [128, 320]), (3, [320, 512]))],
                       [stage(3, [0, 1]), stage(2, [1, 6])]):
            now = self.replan(cluster, *stages)
            change = now["plan"]["last_change"]
            self.assertGreater(change["kept_bytes"], 0)
            self.assertGreater(change["pause_s"], 0)
        self.assertEqual(now["plan"]["changes"], 3)
        self.check(begun)
        self.stop(cluster)

    def test_only_the_difference_is_read(self):
        model = self.model()
        cluster, workers = self.serve_joined(model, 2, "--ffn", "exact",
                                             *self.plan_of(stage(1, [0, 3]), stage(2, [3, 6])))
        cluster.ready()
        now = self.replan(cluster, stage(1, [0, 4]), stage(2, [4, 6]))
        change = now["plan"]["last_change"]
        # One of six layers, in F32; the rest stays.
        layer = 4 * (3 * 128 * 128 + 2 * 128 * 512)  # half as many heads of keys and values
        self.assertLess(abs(change["read_bytes"] - layer), 16384)
        self.assertGreater(change["kept_bytes"], 5 * layer)
        workers[0].wait_line(r"epoch 2: kept .*, read ")
        self.stop(cluster)

    def test_what_cannot_be_is_told(self):
        model = self.model()
        cluster, _ = self.serve_joined(model, 2, "--ffn", "exact")
        cluster.ready()
        status, _, answer = cluster.api.call("POST", "/v1/cluster/replan", {"stages": 7})
        self.assertEqual(status, 400, answer)
        self.assertEqual(cluster.api.call("GET", "/v1/cluster/replan")[0], 405)
        status, _, answer = cluster.api.call("POST", "/v1/cluster/replan",
                                             {"stages": [stage(1, [0, 5])]})
        self.assertEqual(status, 400, answer)
        self.assertIn("stages do not end with the last layer", answer["error"]["message"])
        now = cluster.api.cluster()
        serves = [stage(w["id"], [w["layer_begin"], w["layer_end"]])
                  for w in now["workers"] if w["stage"] >= 0]
        if not any(w["helper"] for w in now["workers"]):
            status, _, answer = cluster.api.call("POST", "/v1/cluster/replan", {"stages": serves})
            self.assertEqual((status, answer["status"]), (200, "unchanged"), answer)
        self.assertEqual(cluster.api.cluster()["epoch"], 1)
        self.stop(cluster)

    def test_replan_off(self):
        model = self.model()
        cluster, workers = self.serve_joined(model, 2, "--replan", "off", *self.pipeline(3, 6))
        cluster.ready()
        status, _, answer = cluster.api.call("POST", "/v1/cluster/replan")
        self.assertEqual(status, 409, answer)
        self.assertIn("--replan off", answer["error"]["message"])
        workers[1].signal(signal.SIGTERM)
        workers[1].wait_line("cannot do without this worker")
        self.stop(cluster)

    def test_a_worker_that_joins_and_one_that_leaves(self):
        model = self.model()
        cluster, workers = self.serve_joined(model, 1, "--ffn", "exact", "--replan", "now")
        cluster.ready()
        begun = self.begin(cluster, model)
        third = self.join(cluster, 1)
        self.replan(cluster, stage(1, [0, 2]), stage(2, [2, 6]))
        self.leave(cluster, workers[0])
        now = self.wait_epoch(cluster, 3)
        self.check(begun)
        self.assertEqual([(w["id"], w["stage"]) for w in now["workers"]], [(2, 0)])
        self.assertEqual(cluster.api.complete(PROMPT, 8)[0], begun[2][:8])
        self.stop(cluster)
        self.assertEqual(third.wait(PATIENCE_S), 0)

    def test_weights_from_the_coordinator(self):
        model = self.model()
        cluster, _ = self.serve_joined(model, 2, "--ffn", "exact", "--weights-from", "coordinator",
                                       *self.plan_of(stage(1, [0, 3]), stage(2, [3, 6])),
                                       worker_flags=["--cache-dir", self.path("cache")])
        cluster.ready()
        begun = self.begin(cluster, model)
        self.replan(cluster, stage(2, [0, 5]), stage(1, [5, 6]))
        self.replan(cluster, stage(2, [0, 6], (1, [192, 512])))
        self.check(begun)
        self.stop(cluster)


@needs_mpi
class MpiTest(ReplanTest):
    def test_layouts_change_over_mpi(self):
        model = self.model()
        cluster = self.serve(model, "--ffn", "exact",
                             *self.plan_of(stage(1, [0, 3]), stage(2, [3, 6])), ranks=4).ready()
        begun = self.begin(cluster, model)
        self.replan(cluster, stage(3, [0, 2], (1, [256, 512])), stage(2, [2, 6]))
        self.replan(cluster, stage(2, [0, 3]), stage(1, [3, 6]))
        self.check(begun)
        self.stop(cluster)

    def test_how_to_join_is_said(self):
        cluster = self.serve(self.model(), ranks=2).ready()
        self.assertRegex(cluster.output, r"cluster at tcp://\S+; started with a key in "
                                         r"THERMOCLINE_CLUSTER_KEY, more workers may join")
        self.stop(cluster)
        cluster = self.serve(self.model(), "--transport", "mpi", ranks=2).ready()
        self.assertRegex(cluster.output, r"cluster at tcp://\S+; its links are MPI's.*"
                                         r"started with --transport auto, more may join")
        self.stop(cluster)

    def serve_ranks(self, model, *flags):
        """Two ranks that serve two stages, and worker 3, which has joined from outside."""
        key = {"THERMOCLINE_CLUSTER_KEY": "0123456789" * 4}
        cluster = self.serve(model, "--ffn", "exact", *flags,
                             *self.plan_of(stage(1, [0, 3]), stage(2, [3, 6])), ranks=3, env=key)
        cluster.ready()
        join = cluster.wait_line(r"(?:thermocline worker --join|^cluster at) ([^\s;]+)").group(1)
        worker = self.start([THERMOCLINE, "worker", "--join", join, "--threads", "1"], env=key)
        cluster.wait_line(r"^worker 3 on \S+ joined")
        return cluster, worker

    def test_a_worker_from_outside_helps_a_rank(self):
        model = self.model()
        cluster, worker = self.serve_ranks(model)
        begun = self.begin(cluster, model)
        self.replan(cluster, stage(1, [0, 3], (3, [256, 512])), stage(2, [3, 6]))
        self.assertRegex(cluster.output, r"plan: 2 stages, joined by zmq \(F32\) and mpi \(F32\) links")
        self.assertRegex(cluster.output, r"helped by worker 3 over zmq \(F32\): ")
        self.check(begun)
        self.assertEqual(cluster.api.complete(PROMPT, 8)[0], begun[2][:8])
        now = cluster.api.cluster()
        self.assertTrue(now["workers"][2]["helper"])
        links = [(link["from"], link["to"], link["transport"], link["wire"], link["measured"])
                 for link in now["plan"]["links"]]
        self.assertEqual(links, [(1, 3, "zmq", "F32", True), (1, 2, "mpi", "F32", True)])
        self.leave(cluster, worker)
        self.wait_epoch(cluster, 3)
        self.stop(cluster)

    def test_a_worker_from_outside_leads_a_stage_between_those_of_ranks(self):
        model = self.model()
        cluster, _ = self.serve_ranks(model)
        begun = self.begin(cluster, model)
        self.replan(cluster, stage(1, [0, 2], (2, [320, 512])), stage(3, [2, 6]))
        self.check(begun)
        # F16 on one link only: the stream goes on, if maybe with other tokens.
        self.replan(cluster, {**stage(2, [0, 1]), "link": "mpi", "wire": "F32"},
                    {**stage(1, [1, 4]), "wire": "F16"}, stage(3, [4, 6]))
        self.assertRegex(cluster.output, r"stage 1 on worker 1, on to the next over zmq \(F16\): ")
        self.assertEqual(len(cluster.api.complete(PROMPT, 8)[0]), 8)
        self.stop(cluster)

    def test_a_transport_that_an_end_lacks_is_refused_by_name(self):
        cluster, _ = self.serve_ranks(self.model(), "--transport", "mpi")
        split = stage(1, [0, 6], (3, [256, 512]))
        status, _, answer = cluster.api.call("POST", "/v1/cluster/replan", {"stages": [split]})
        self.assertEqual(status, 400, answer)
        self.assertRegex(answer["error"]["message"],
                         r"link between worker 1 and worker 3: transport mpi needs both ends to be "
                         r"MPI ranks: worker 3 on \S+ is none")
        split["helpers"][0]["link"] = "zmq"  # what a plan says of a link counts first
        self.replan(cluster, split)
        self.assertEqual(len(cluster.api.complete(PROMPT, 8)[0]), 8)
        self.stop(cluster)

    def test_a_rank_leaves(self):
        model = self.model()
        cluster = self.serve(model, "--ffn", "exact",
                             *self.plan_of(stage(1, [0, 3]), stage(2, [3, 6])), ranks=3).ready()
        begun = self.begin(cluster, model)
        signalled = worker_of_rank(cluster, 2)
        os.kill(signalled, signal.SIGTERM)
        self.wait_epoch(cluster, 2)
        self.check(begun)
        self.stop(cluster)


if __name__ == "__main__":
    main()
