"""Workers that are killed while streams run: the others take over, and the tokens are those of one
process that nobody disturbs."""

import os
import signal

from cluster import PATIENCE_S, main, needs_mpi, wait_until
from cluster import worker_of_rank
from replan_test import PROMPT, ReplanTest, stage


class LossTest(ReplanTest):
    def wait_lost(self, cluster, n):
        def served():
            plan = cluster.api.cluster()["plan"]
            return plan if plan["workers_lost"] == n and not plan["changing"] else None
        try:
            return wait_until(served, f"a plan without {n} lost workers")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{cluster.output}") from None

    def check_served(self, cluster, begun, n_lost=1):
        """The stream ends as it should, and so does the next one."""
        self.check(begun)
        self.assertEqual(cluster.api.complete(PROMPT, 8)[0], begun[2][:8])
        self.assertRegex(cluster.api.get("/metrics"),
                         rf"thermocline_workers_lost_total\S* {n_lost}\b")
        self.assertRegex(cluster.output, r"worker \d on \S+ .*; planning around it")

    def serve_three(self, *flags, stages=(stage(1, [0, 2]), stage(2, [2, 4]), stage(3, [4, 6]))):
        model = self.model()
        cluster, workers = self.serve_joined(model, 3, "--ffn", "exact", *flags,
                                             *self.plan_of(*stages))
        cluster.ready()
        return model, cluster, workers


class JoinedTest(LossTest):
    def test_any_of_three_stages(self):
        for victim in range(3):
            with self.subTest(victim):
                model, cluster, workers = self.serve_three()
                begun = self.begin(cluster, model)
                workers[victim].kill()
                plan = self.wait_lost(cluster, 1)
                self.assertRegex(plan["last_change"]["why"], rf"worker {victim + 1} on \S+ is lost")
                self.check_served(cluster, begun)
                now = {worker["id"] for worker in cluster.api.cluster()["workers"]}
                self.assertEqual(now, {1, 2, 3} - {victim + 1})
                self.stop(cluster)

    def test_a_helper_and_then_a_lead(self):
        model, cluster, workers = self.serve_three(
            stages=(stage(1, [0, 3], (3, [256, 512])), stage(2, [3, 6])))
        begun = self.begin(cluster, model)
        workers[2].kill()
        self.wait_lost(cluster, 1)
        # Two losses without a token in between would be blamed on the stream.
        n_tokens = cluster.api.cluster()["generated_tokens"]
        wait_until(lambda: cluster.api.cluster()["generated_tokens"] > n_tokens, "more tokens")
        workers[0].kill()
        self.wait_lost(cluster, 2)
        self.check_served(cluster, begun, n_lost=2)
        self.stop(cluster)

    def test_one_that_stops_answering(self):
        """It is lost as if its process had ended; when it wakes up, it ends."""
        model, cluster, workers = self.serve_three()
        begun = self.begin(cluster, model)
        workers[1].signal(signal.SIGSTOP)
        plan = self.wait_lost(cluster, 1)
        self.assertRegex(plan["last_change"]["why"], r"worker 2 on \S+ is lost")
        self.check_served(cluster, begun)
        workers[1].signal(signal.SIGCONT)
        self.assertEqual(workers[1].wait(PATIENCE_S), 1)
        self.stop(cluster)

    def test_one_comes_back_as_another(self):
        model, cluster, workers = self.serve_three()
        begun = self.begin(cluster, model)
        workers[0].kill()
        self.wait_lost(cluster, 1)
        self.join(cluster, 3)
        self.replan(cluster, stage(4, [0, 3]), stage(2, [3, 6]))
        self.check_served(cluster, begun)
        self.stop(cluster)

    def test_a_service_that_keeps_its_plan_ends(self):
        _, cluster, workers = self.serve_three("--replan", "off")
        workers[1].kill()
        self.assertEqual(cluster.wait(), 1)
        self.assertRegex(cluster.output, r"worker 2 on \S+ is lost")

    def test_the_only_one(self):
        cluster, workers = self.serve_joined(self.model(), 1)
        cluster.ready()
        workers[0].kill()
        self.assertEqual(cluster.wait(), 1)
        self.assertRegex(cluster.output, r"worker 1 on \S+ is lost: .*; the workers that are left "
                                         r"cannot go on without it: no other worker is left")


@needs_mpi
class MpiTest(LossTest):
    def test_a_rank_that_mpirun_lets_the_others_outlive(self):
        model = self.model()
        cluster = self.serve(
            model, "--ffn", "exact",
            *self.plan_of(stage(1, [0, 2]), stage(2, [2, 4]), stage(3, [4, 6])),
            ranks=4, env={"OMPI_MCA_orte_enable_recovery": "1",
                          "OMPI_MCA_orte_abort_on_non_zero_status": "0"}).ready()
        begun = self.begin(cluster, model)
        os.kill(worker_of_rank(cluster, 2), signal.SIGKILL)
        self.wait_lost(cluster, 1)
        self.check_served(cluster, begun)
        self.stop(cluster)


if __name__ == "__main__":
    main()
