"""Clients that leave, crowd in or ask for too much."""

import json
import re
import threading

from cluster import DEMO_MODEL, LONG, ClusterTest, main, wait_until


class LoadTest(ClusterTest):
    def service(self, *flags, model=DEMO_MODEL, n_workers=2):
        cluster, _ = self.serve_joined(model, n_workers, "--policy", "pipeline-only",
                                       "--objective", "throughput", *flags)
        return cluster.ready().api

    def metric(self, api, name):
        match = re.search(rf"^{name}(?:{{.*}})? (\S+)$", api.get("/metrics"), re.MULTILINE)
        self.assertIsNotNone(match, name)
        return float(match.group(1))

    def wait_idle(self, api):
        """Until nothing runs and no KV page is held, at the coordinator or by a worker's word."""
        def idle():
            state = api.cluster()
            return state["running"] + state["waiting"] + state["kv_tokens_used"] == 0
        wait_until(idle, "an idle cluster")

    def test_a_client_that_leaves_frees_its_sequence(self):
        api = self.service(model=self.long_model())
        streams = [api.stream([5 + i, 6, 7], LONG) for i in range(3)]
        for stream in streams:
            stream.next()
        self.assertEqual(api.cluster()["running"], 3)
        self.assertGreater(api.cluster()["kv_tokens_used"], 0)
        for stream in streams:
            stream.drop()
        self.wait_idle(api)
        generated = api.cluster()["generated_tokens"]
        self.assertLess(generated, 3 * LONG, "the streams had ended before their clients left")
        # Workers release with the next step; their word comes with a heartbeat.
        api.complete([1, 2], 2)
        wait_until(lambda: all(w["kv_pages_used"] <= 1 for w in api.cluster()["workers"]),
                   "workers without KV pages")

    def test_a_client_that_leaves_without_streaming(self):
        api = self.service(model=self.long_model())
        with self.assertRaises(TimeoutError):
            api.call("POST", "/v1/completions", {"prompt": [5, 6], "max_tokens": LONG, "n": 8,
                                                 "ignore_eos": True}, timeout_s=0.3)
        self.wait_idle(api)
        self.assertLess(api.cluster()["generated_tokens"], 8 * LONG, "it was generated for nobody")

    def test_a_full_queue(self):
        api = self.service("--parallel", "1", "--max-waiting", "1", "--ctx-size", "2048",
                           model=self.long_model())
        # One holds so much of the KV cache that the next has to wait.
        running = api.stream([7, 8], 2000)
        for _ in range(300):
            running.next()
        prompt = [9] * 1900
        waiting = api.stream(prompt, 100)
        wait_until(lambda: api.cluster()["waiting"] == 1, "a waiting sequence")
        status, headers, body = api.call("POST", "/v1/completions",
                                         {"prompt": prompt, "max_tokens": 100})
        self.assertEqual(status, 429, body)
        self.assertGreater(int(headers["Retry-After"]), 0)
        self.assertIn("queue is full", body["error"]["message"])
        self.assertIsInstance(body["error"]["code"], str)
        self.assertEqual(running.rest()[-1], "[DONE]")
        self.assertEqual(waiting.rest()[-1], "[DONE]")
        self.wait_idle(api)

    def test_a_request_that_can_never_fit(self):
        api = self.service("--ctx-size", "256")
        for prompt, n in ([1] * 300, 10), ([1] * 200, 100), ("word " * 400, 5):
            status, _, body = api.call("POST", "/v1/completions", {"prompt": prompt, "max_tokens": n})
            self.assertEqual(status, 400, body)
            self.assertEqual(body["error"]["type"], "invalid_request_error")
            self.assertIn("256", body["error"]["message"])

    def test_bad_requests_name_the_parameter(self):
        api = self.service(n_workers=1)
        for change, param in [({"max_tokens": -5}, "max_tokens"), ({"temperature": -1}, "temperature"),
                              ({"n": 100000}, "n"), ({"stop": ["x"] * 1000}, "stop"),
                              ({"top_p": "much"}, "top_p"), ({"prompt": [10 ** 6]}, "prompt")]:
            status, _, body = api.call("POST", "/v1/completions",
                                       {"prompt": [1], "max_tokens": 2, **change})
            self.assertEqual(status, 400, body)
            self.assertEqual(body["error"]["param"], param)

    def test_sixteen_streams_give_what_each_gives_alone(self):
        api = self.service()
        prompts = [[3 + i, 40, 7 * i + 1] * (1 + i % 5) for i in range(16)]
        alone = [api.complete(prompt, 40)[0] for prompt in prompts]
        together = [None] * len(prompts)

        def read(i):
            events = api.stream(prompts[i], 40, return_token_ids=True).rest()
            ids = []
            for event in events[:-1]:
                ids += json.loads(event)["choices"][0].get("token_ids") or []
            together[i] = ids if events[-1] == "[DONE]" else events[-1]
        threads = [threading.Thread(target=read, args=(i,)) for i in range(len(prompts))]
        for thread in threads:
            thread.start()
        most = 0
        while any(thread.is_alive() for thread in threads):
            most = max(most, api.cluster()["running"])
        for thread in threads:
            thread.join()
        self.assertEqual(together, alone)
        self.assertGreater(most, 1, "the streams did not run at once")
        self.wait_idle(api)
        self.assertEqual(self.metric(api, "vllm:num_requests_running"), 0)

    def test_more_sequences_than_the_cache_holds(self):
        api = self.service("--parallel", "2", "--ctx-size", "256")
        prompts = [[11 + i, 5] for i in range(6)]
        alone = [api.complete(prompt, 200)[0] for prompt in prompts]
        got = [None] * len(prompts)

        def complete(i):
            got[i], _ = api.complete(prompts[i], 200)
        threads = [threading.Thread(target=complete, args=(i,)) for i in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(got, alone)
        self.wait_idle(api)


if __name__ == "__main__":
    main()
