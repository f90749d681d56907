"""How clusters end: bad input, lost workers, signals. Each end is one readable line within seconds,
the right exit code, and no process left."""

import json
import os
import re
import signal
import time

from cluster import (DEMO_MODEL, LONG, THERMOCLINE, ClusterTest, free_port_held, main, needs_mpi,
                     reserved_port, worker_of_rank)

# How long a cluster may take to end after whatever ended it; seconds, but machines stall.
END_S = 40
# The coordinator's silence after which workers give up, and as much.
ORPHAN_S = 50


class EndingTest(ClusterTest):
    def check_refused(self, code, pattern, *arguments, env=None):
        """Ends with that exit code and a single line."""
        got, output = self.run_program(*arguments, timeout_s=END_S, env=env)
        self.assertEqual(got, code, output)
        lines = [line for line in output.splitlines() if line.startswith("thermocline")]
        self.assertEqual(len(lines), 1, output)
        self.assertRegex(lines[0], pattern)

    def check_says_once(self, process, pattern):
        """One line of the coordinator's about it."""
        self.assertEqual(len(process.lines(r"^thermocline serve: ")), 1, process.output)
        self.assertRegex(process.output, pattern)

    def long_stream(self, cluster, n=LONG):
        stream = cluster.api.stream([1, 2, 3], n)
        self.assertIn("choices", stream.next())
        return stream


class BadInputTest(EndingTest):
    def copy_of_demo(self, name, n_bytes):
        path = self.path(name)
        with open(DEMO_MODEL, "rb") as source, open(path, "wb") as file:
            file.write(source.read(n_bytes))
        return path

    def test_files(self):
        not_a_model = self.path("notes.gguf")
        with open(not_a_model, "w", encoding="utf-8") as file:
            file.write("This is no model at all.\n" * 100)
        cases = [("/no/such.gguf", "no such file: /no/such.gguf"), (not_a_model, "magic"),
                 (self.copy_of_demo("cut.gguf", 300000), r"outside file: \S+ end=\d+ file=300000"),
                 (self.copy_of_demo("header.gguf", 200), "header.gguf"), (self.folder, self.folder)]
        for path, pattern in cases:
            for arguments in (["serve", "--port", "0"], ["generate", "--prompt-tokens", "1"]):
                with self.subTest(path=path, program=arguments[0]):
                    self.check_refused(2, pattern, *arguments, "--model", path)

    def test_flags(self):
        serve = ["serve", "--model", DEMO_MODEL, "--port", "0"]
        for arguments, pattern in [
                (["serve"], "--model is required"),
                ([*serve, "--prot", "80"], "--prot"),
                (["serve", "--model", DEMO_MODEL, "--port", "99999"], "port=99999"),
                ([*serve, "--threads", "some"], "--threads.*some"),
                ([*serve, "--ffn", "magic"], '--ffn "magic".*dense exact'),
                ([*serve, "--wire-dtype", "int3"], "int3"),
                ([*serve, "--transport", "mpi"], "--transport mpi needs a launch by mpirun"),
                ([*serve, "--ctx-size", "many"], "--ctx-size"),
                ([*serve, "--plan", "/no/plan.json"], "--plan.*no/plan.json"),
                ([*serve, "--policy", "best"], '--policy "best"; one of optimal'),
                ([*serve, "--plan", __file__, "--policy", "proportional"],
                 "--policy proportional is for plans that are searched for"),
                ([*serve, "--objective", "cheap"], "--objective is not latency, .*: cheap"),
                ([*serve, "--streams", "0"], "--streams"),
                ([*serve, "--host", "0.0.0.0"], "--api-key"),
                ([*serve, "--key", "short", "--workers", "1"], "cluster key"),
                (["generate", "--model", DEMO_MODEL], "--prompt"),
                (["generate", "--model", DEMO_MODEL, "--prompt-tokens", "1,x"], "x"),
                (["generate", "--model", DEMO_MODEL, "--prompt-tokens", "99999"], "99999"),
                (["worker"], "--join is missing"),
                (["worker", "--join", "tcp://127.0.0.1:9"], "--key is missing"),
                (["worker", "--join", "nonsense", "--key", "k"], "nonsense"),
                (["sreve"], 'did you mean "serve"')]:
            with self.subTest(arguments=arguments):
                self.check_refused(2, pattern, *arguments)

    def test_port_in_use(self):
        listener, port = free_port_held()
        with listener:
            self.check_refused(1, f"127.0.0.1:{port}: address already in use", "serve", "--model",
                               DEMO_MODEL, "--port", str(port))

    def test_plans_that_break_a_rule(self):
        for stages, pattern in [([{"lead": 1, "layers": [0, 3]}], "last layer: end=3 n_layer=5"),
                                ([{"lead": 7, "layers": [0, 5]}], "not in the cluster: lead=7"),
                                ([{"lead": 1, "layer": [0, 5]}], r"stages\[0\].*layer")]:
            path = self.path("plan.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump({"stages": stages}, file)
            with self.subTest(pattern=pattern):
                cluster = self.serve(DEMO_MODEL, "--plan", path)
                self.assertEqual(cluster.wait(END_S), 2, cluster.output)
                self.check_says_once(cluster, pattern)
                cluster.wait_gone(END_S)

    def test_a_model_that_does_not_fit(self):
        cluster = self.serve(DEMO_MODEL, "--memory", "20M")
        self.assertNotEqual(cluster.wait(END_S), 0)
        self.check_says_once(cluster, r"does not fit: .* are \S+ MiB, workers offer 20.0 MiB: \S+ MiB are missing")
        cluster.wait_gone(END_S)


class JoinTest(EndingTest):
    def test_a_wrong_key(self):
        cluster = self.serve(DEMO_MODEL, "--workers", "1", "--join-timeout", "4")
        _, join = cluster.join_arguments()
        stranger = self.serve(DEMO_MODEL, "--workers", "1")
        key, _ = stranger.join_arguments()
        code, output = self.run_program("worker", *join, env=key)
        self.assertNotEqual(code, 0)
        self.assertRegex(output, r"thermocline worker on \S+: .*(key|refused|reach|join)")
        self.assertNotEqual(cluster.wait(END_S), 0)
        self.check_says_once(cluster, "0 of 1 workers joined within 4 s; missing: worker 1")
        cluster.wait_gone(END_S)

    def test_nobody_at_the_address(self):
        holder, port = reserved_port()
        self.addCleanup(holder.close)
        key, _ = self.serve(DEMO_MODEL, "--workers", "1").join_arguments()
        # 192.0.2.0/24 is for documentation: nobody answers there.
        hosts = ("127.0.0.1", "192.0.2.77", "no-such-host.invalid")
        workers = [self.start([THERMOCLINE, "worker", "--join", f"tcp://{host}:{port}"], env=key)
                   for host in hosts]
        for host, worker in zip(hosts, workers):
            with self.subTest(host):
                self.assertIn(worker.wait(END_S), (1, 2), worker.output)
                self.assertRegex(worker.output, rf"(?m)^thermocline worker on \S+: .*{host}")

    def test_a_signal_while_connecting(self):
        key, _ = self.serve(DEMO_MODEL, "--workers", "1").join_arguments()
        for number in (signal.SIGTERM, signal.SIGINT):
            listener, port = free_port_held()  # accepts and never answers
            self.addCleanup(listener.close)
            worker = self.start([THERMOCLINE, "worker", "--join", f"tcp://127.0.0.1:{port}"],
                                env=key)
            connection, _ = listener.accept()
            self.addCleanup(connection.close)
            worker.signal(number)
            self.assertEqual(worker.wait(3), 0, worker.output)


class LostWorkerTest(EndingTest):
    def test_beside_the_coordinator(self):
        cluster = self.serve(self.long_model()).ready()
        stream = self.long_stream(cluster)
        os.kill(cluster.members("thermocline-worker")[0], signal.SIGKILL)
        events = stream.rest()
        self.assertIn("error", json.loads(events[-1]), events[-1])
        self.assertEqual(cluster.wait(END_S), 1, cluster.output)
        self.check_says_once(
            cluster, r"worker 1 on \S+(, beside this coordinator, was killed by signal 9| is lost)")
        cluster.wait_gone(END_S)

    def test_of_three_that_joined(self):
        for victim in range(3):
            with self.subTest(victim):
                cluster, workers = self.serve_joined(self.long_model(), 3, "--replan", "off",
                                                     *self.pipeline(1, 2, 4))
                cluster.ready()
                stream = self.long_stream(cluster)
                workers[victim].kill()
                self.assertIn("error", json.loads(stream.rest()[-1]))
                self.assertEqual(cluster.wait(END_S), 1, cluster.output)
                self.check_says_once(cluster, rf"worker {victim + 1} on \S+ is lost")
                for process in [cluster, *workers]:
                    process.wait_gone(END_S)

    def test_while_loading(self):
        # A stopped worker has joined and loads for ever; then it dies.
        known = self.path("cluster.yaml")  # or it would be found out while links are measured
        with open(known, "w", encoding="utf-8") as file:
            file.write("workers: [{id: 1}, {id: 2}]\n")
        cluster = self.serve(DEMO_MODEL, "--workers", "2", "--cluster", known, *self.pipeline(2, 5))
        key, join = cluster.join_arguments()
        workers = [self.start([THERMOCLINE, "worker", *join, "--threads", "1"], env=key)]
        cluster.wait_line("worker 1 on .* joined")
        workers[0].signal(signal.SIGSTOP)
        workers.append(self.start([THERMOCLINE, "worker", *join, "--threads", "1"], env=key))
        cluster.wait_line("plan: ")
        self.assertEqual(cluster.lines("serving at"), [])
        workers[0].kill()
        self.assertEqual(cluster.wait(12), 1, cluster.output)
        self.check_says_once(cluster, r"worker 1 on \S+ is lost")
        for process in [cluster, *workers]:
            process.wait_gone(END_S)

    @needs_mpi
    def test_of_an_mpi_launch(self):
        cluster = self.serve(self.long_model(), *self.pipeline(1, 2, 4), ranks=4).ready()
        stream = self.long_stream(cluster)
        os.kill(worker_of_rank(cluster, 2), signal.SIGKILL)
        stream.rest()
        self.assertNotEqual(cluster.wait(END_S), 0)
        self.assertRegex(cluster.output, r"rank 2|worker 2 on ")
        cluster.wait_gone(END_S)


class SignalTest(EndingTest):
    def test_interrupt_and_terminate(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number):
                cluster = self.serve(self.long_model()).ready()
                stream = self.long_stream(cluster)
                cluster.signal(number)
                self.assertIn("error", json.loads(stream.rest()[-1]))
                self.assertEqual(cluster.wait(END_S), 0, cluster.output)
                self.assertEqual(cluster.lines("^thermocline"), [])
                cluster.wait_gone(END_S)

    def test_terminate_reaches_the_whole_group(self):
        # As service managers do it.
        cluster = self.serve(DEMO_MODEL).ready()
        os.killpg(cluster.pid, signal.SIGTERM)
        self.assertEqual(cluster.wait(END_S), 0, cluster.output)
        self.assertEqual(cluster.lines("^thermocline"), [])
        cluster.wait_gone(END_S)

    def test_while_workers_are_awaited(self):
        cluster = self.serve(DEMO_MODEL, "--workers", "2")
        cluster.join_arguments()
        cluster.signal(signal.SIGINT)
        self.assertEqual(cluster.wait(END_S), 0, cluster.output)

    def test_asked_twice(self):
        cluster, workers = self.serve_joined(self.long_model(), 1)
        cluster.ready()
        stream = self.long_stream(cluster)
        cluster.signal(signal.SIGINT)
        cluster.signal(signal.SIGINT)
        self.assertIn(cluster.wait(END_S), (0, 130))
        stream.drop()
        for process in [cluster, *workers]:
            process.wait_gone(ORPHAN_S)

    def test_drain(self):
        cluster, workers = self.serve_joined(self.long_model(), 2, *self.pipeline(2, 4))
        cluster.ready()
        stream = self.long_stream(cluster, 1000)
        cluster.signal(signal.SIGUSR1)
        events = stream.rest()
        self.assertEqual(events[-1], "[DONE]")
        self.assertEqual(json.loads(events[-2])["choices"][0]["finish_reason"], "length")
        self.assertEqual(cluster.wait(END_S), 0, cluster.output)
        self.assertEqual([worker.wait(END_S) for worker in workers], [0, 0])

    def test_a_worker_that_nothing_can_replace(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                cluster, workers = self.serve_joined(DEMO_MODEL, 1)
                cluster.ready()
                workers[0].signal(number)
                workers[0].wait_line("cannot do without this worker")
                cluster.wait_line(r"worker 1 on \S+ asked to leave but is needed")
                self.assertEqual(len(cluster.api.complete([1, 2], 4)[0]), 4)
                time.sleep(1)  # else it would be the same wish again
                workers[0].signal(number)
                self.assertEqual(workers[0].wait(END_S), 0)
                self.assertEqual(cluster.wait(END_S), 1)
                self.check_says_once(cluster, r"worker 1 on \S+ is leaving: stopped by a signal")

    def test_a_coordinator_that_is_killed(self):
        beside = self.serve(DEMO_MODEL).ready()
        cluster, workers = self.serve_joined(DEMO_MODEL, 2, *self.pipeline(2, 5))
        cluster.ready()
        for process in (beside, cluster):
            process.signal(signal.SIGKILL)
        beside.wait_gone(END_S)
        for worker in workers:
            self.assertEqual(worker.wait(ORPHAN_S), 1)
            self.assertRegex(worker.output, "the coordinator has been silent|lost")

    @needs_mpi
    def test_mpirun_interrupted_or_terminated(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number):
                cluster = self.serve(self.long_model(), *self.pipeline(2, 4), ranks=3).ready()
                stream = self.long_stream(cluster)
                cluster.signal(number)
                stream.rest()
                cluster.wait_gone(END_S)

    @needs_mpi
    def test_mpirun_drained(self):
        cluster = self.serve(self.long_model(), *self.pipeline(2, 4), ranks=3).ready()
        stream = self.long_stream(cluster, 500)
        cluster.signal(signal.SIGUSR1)
        self.assertEqual(stream.rest()[-1], "[DONE]")
        self.assertEqual(cluster.wait(END_S), 0, cluster.output)
        cluster.wait_gone(END_S)

    @needs_mpi
    def test_rank_zero_or_mpirun_killed(self):
        for program in ("thermocline-coordinator", None):
            with self.subTest(program):
                cluster = self.serve(DEMO_MODEL, ranks=3).ready()
                os.kill(cluster.members(program)[0] if program else cluster.pid, signal.SIGKILL)
                cluster.wait_gone(ORPHAN_S)

    @needs_mpi
    def test_a_bad_flag_under_mpirun(self):
        cluster = self.serve(DEMO_MODEL, "--prot", "80", ranks=3)
        self.assertEqual(cluster.wait(END_S), 2, cluster.output)
        self.check_says_once(cluster, "--prot")
        cluster.wait_gone(END_S)


if __name__ == "__main__":
    main()
