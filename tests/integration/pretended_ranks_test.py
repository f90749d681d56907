"""Ranks of mpirun and pretended cards (pretended_gpus_test.py)."""

from cluster import main, needs_mpi
from pretended_gpus_test import PretendedTest, cards
from replan_test import PROMPT, stage


class RanksTest(PretendedTest):
    @needs_mpi
    def test_ranks_of_mpirun_have_a_card_each_while_there_are_some(self):
        """Which rank has which card is not asked: that depends on when they start where one is a
        second behind the others."""
        model = self.model()
        cluster = self.serve_pretended(
            model, *self.plan_of(stage(1, [0, 1]), stage(2, [1, 2], (3, [96, 256]))), ranks=4,
            env=cards(2)).ready()
        devices = sorted(device.split()[0] for device in self.devices(cluster).values())
        self.assertEqual(devices, ["cpu", "cuda:0", "cuda:1"], cluster.output)
        cluster.wait_line(r"no GPU is left for this worker: worker_of_host=\d seen=2: another worker "
                          r"has it: computing on cpu")
        self.assertEqual(cluster.api.complete(PROMPT, 8)[0], self.expected(model, 8))
        self.stop(cluster)


if __name__ == "__main__":
    main()
