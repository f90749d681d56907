"""serve --trace: one file with what every worker did, on one clock, whole whenever it is read."""

import json
import os
import signal

from cluster import ClusterTest, main, wait_until

N_GENERATED = 12
# Clocks are compared by round trips, of which a loaded machine makes slow ones.
CLOCKS_US = 5000
PROMPTS = [[7 + i, 30, 2 * i + 3] for i in range(4)]


class Trace:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.all = json.load(file)
        events = self.all["traceEvents"]
        self.processes = {e["pid"]: e["args"]["name"] for e in events
                          if e["ph"] == "M" and e["name"] == "process_name"}
        self.threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events
                        if e["ph"] == "M" and e["name"] == "thread_name"}
        self.spans = [e for e in events if e["ph"] == "X"]

    def of(self, pid, track=None, **args):
        return [s for s in self.spans if s["pid"] == pid
                and (track is None or self.threads[s["pid"], s["tid"]].startswith(track))
                and all(s["args"].get(k) == v for k, v in args.items())]


class TraceTest(ClusterTest):
    def serve_shared(self, *flags, micro_batches=2):
        """Two stages, the first with a helper."""
        self.trace_path = self.path("trace.json")
        plan = self.path("shared.json")
        with open(plan, "w", encoding="utf-8") as file:
            json.dump({"micro_batches": micro_batches, "stages": [
                {"lead": 1, "layers": [0, 2], "helpers": [{"worker": 2, "neurons": [64, 128]}]},
                {"lead": 3, "layers": [2, 4]}]}, file)
        model = self.tiny_model("arcee", n_layer=4)
        alone = [self.generate(model, prompt, N_GENERATED)[0]["generated"] for prompt in PROMPTS]
        cluster, workers = self.serve_joined(model, 3, "--plan", plan, "--trace", self.trace_path,
                                             "--ffn", "dense", *flags)
        return cluster.ready(), workers, alone

    def test_all_workers_are_in_it_on_one_clock(self):
        cluster, _, alone = self.serve_shared()
        self.assertEqual(self.complete_together(cluster, PROMPTS, N_GENERATED), alone)
        self.stop(cluster)
        trace = Trace(self.trace_path)
        self.assertEqual(trace.all["otherData"]["events_left_out"], 0)
        self.assertEqual(trace.processes[0], "coordinator")
        self.assertEqual({pid: name.split(" on ")[0] for pid, name in trace.processes.items()
                          if pid > 0}, {1: "worker 1", 2: "worker 2", 3: "worker 3"})
        steps = trace.of(0, "steps")
        self.assertGreaterEqual(len(steps), N_GENERATED)
        for step in steps:
            number = step["args"]["step"]
            # Each layer is computed where the plan has it, and the helper has its part.
            for pid, layers in ((1, [0, 1]), (3, [2, 3])):
                attention = [s for s in trace.of(pid, "device", step=number)
                             if s["name"] == "attention"]
                self.assertEqual([s["args"]["layer"] for s in attention], layers)
                self.assertEqual({s["args"]["rows"] for s in attention}, {step["args"]["rows"]})
                self.assertTrue(all(s["args"]["bytes"] > 0 for s in attention))
            self.assertEqual([s["args"]["layer"] for s in trace.of(2, "links", step=number)], [0, 1])
            answers = trace.of(1, "from member 1", step=number)
            self.assertEqual([s["args"]["layer"] for s in answers], [0, 1])
            # Whoever waits for the helper sees it compute meanwhile.
            for answer in answers:
                helped = trace.of(2, "device", step=number, layer=answer["args"]["layer"])
                own = [s for s in helped if s["name"].startswith("matmul")]
                self.assertTrue(own)
                for span in own:
                    self.assertGreater(span["ts"], answer["ts"] - CLOCKS_US)
                    self.assertLess(span["ts"] + span["dur"], answer["ts"] + answer["dur"] + CLOCKS_US)
        # Spans of a thread do not overlap, as the viewer wants it.
        for pid, tid in trace.threads:
            spans = sorted((s["ts"], s["ts"] + s["dur"]) for s in trace.spans
                           if (s["pid"], s["tid"]) == (pid, tid))
            for (_, end), (begin, _) in zip(spans, spans[1:]):
                self.assertLess(end, begin + CLOCKS_US, trace.threads[pid, tid])

    def test_it_is_whole_when_the_service_fails(self):
        cluster, workers, _ = self.serve_shared("--replan", "off", micro_batches=1)
        cluster.api.complete(PROMPTS[0], N_GENERATED)
        wait_until(lambda: len(Trace(self.trace_path).spans) > 50, "spans in the file")
        workers[1].signal(signal.SIGKILL)
        self.assertNotEqual(cluster.wait(), 0)
        self.assertGreater(len(Trace(self.trace_path).of(1)), 50)

    def test_it_is_whole_when_the_coordinator_is_killed(self):
        cluster, _, _ = self.serve_shared(micro_batches=1)
        cluster.api.complete(PROMPTS[0], N_GENERATED)
        wait_until(lambda: len(Trace(self.trace_path).of(3)) > 20, "spans in the file")
        cluster.signal(signal.SIGKILL)
        cluster.wait()
        self.assertGreater(len(Trace(self.trace_path).of(3)), 20)

    def test_a_file_that_cannot_be_written_is_an_error(self):
        model = self.tiny_model("arcee", n_layer=2)
        missing = os.path.join(self.folder, "no-such-folder", "trace.json")
        cluster = self.serve(model, "--trace", missing)
        self.assertNotEqual(cluster.wait(), 0)
        self.assertIn(f"cannot write the trace {missing}: No such file or directory",
                      cluster.output)


if __name__ == "__main__":
    main()
