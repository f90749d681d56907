#!/usr/bin/env python3
"""The scripts that tests/gpu/run.sh is made of, on outputs like those of a machine with a GPU.

They are invented (data/README.md).
"""

import os
import stat
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import figures  # noqa: E402
import hybrid  # noqa: E402
import two_cards  # noqa: E402

# In place of `thermocline serve`: answers each token with its number.
FAKE_SERVICE = """#!{python}
import http.server, json, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = " ".join(map(str, range(body["max_tokens"])))
        answer = json.dumps({{"choices": [{{"text": text}}]}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_):
        pass

if "--refuse" in sys.argv:
    sys.exit("no such model")
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(f"serving at http://127.0.0.1:{{server.server_port}}", flush=True)
server.serve_forever()
"""


def data(name):
    with open(os.path.join(HERE, "data", name), encoding="utf-8") as file:
        return file.read()


def figures_of(part, name):
    """[(figure, measured, wanted)]"""
    rows = figures.rows_of(part, data(name))
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert all(row[0] == part for row in cells), cells
    return [tuple(row[1:]) for row in cells]


class FiguresTest(unittest.TestCase):
    def test_sparse_rows_have_two_figures_each(self):
        self.assertEqual(figures_of("sparse-rows", "sparse-rows.txt"), [
            ("row-dot (gate, up), F16: of the speed of copies", "0.85", "0.80"),
            ("row-dot (gate, up), F16: against",
             "9.1 times faster than dense by cuBLAS, 340.0 us", "4"),
            ("AXPY (down), F16: of the speed of copies", "0.78", "0.80"),
            ("AXPY (down), F16: against", "not measured", ""),
            ("row-dot (gate, up), FP8 E4M3: of the speed of copies", "0.83", "0.80"),
            ("row-dot (gate, up), FP8 E4M3: against", "1.83 times as fast as F16", "")])

    def test_a_bench_is_its_decoding(self):
        self.assertEqual(figures_of("bench", "bench.txt"), [
            ("decode, dense, 3.8 GiB: of the speed of copies",
             "82.3 %, 650.00 ± 1.00 tokens/s, 100 % of the steps replayed", "80 %"),
            ("decode, predicted, 3.8 GiB: of the speed of copies",
             "56.3 %, 1300.00 ± 9.00 tokens/s, 100 % of the steps replayed", "")])

    def test_steps(self):
        self.assertEqual(figures_of("hybrid-step", "hybrid-step.txt"), [
            ("step against its larger part (1.20 ms on the lead, 9.00 ms on the helper)", "1.10",
             "1.10")])
        self.assertEqual([row[1] for row in figures_of("graph-step", "graph-step.txt")],
                         ["0.80, tokens the same", "0.87, tokens the same"])

    def test_calls_of_a_group_are_told_of_each_member(self):
        self.assertEqual([row[1] for row in figures_of("group-calls", "group-calls.txt")],
                         ["return after 31.0 us and 29.5 us, done after 75.1 us",
                          "return after 30.2 us and 28.8 us, done after 75.0 us"])

    def test_two_cards_tell_how_they_met(self):
        self.assertEqual(figures_of("two-cards", "two-cards.txt"), [
            ("one stage, joined, --nccl off: met by", "the host, tokens the same", "the host, the same"),
            ("one stage, joined, --nccl auto: met by", "NCCL 2.28.9, tokens the same",
             "NCCL, the same"),
            ("two stages, joined, --nccl always: met by", "NCCL, tokens the same", "NCCL, the same"),
            ("one stage, mpirun, --nccl auto", "not run: no MPI here, or none in the programs", "")])

    def test_a_sanitizer_that_was_cut_off_tells_what_it_saw(self):
        self.assertEqual(figures_of("memcheck", "memcheck.txt"), [
            ("errors", "1 in 2 of 3 tests: Invalid __global__ read of size 4 bytes", "0 in all")])

    def test_the_others(self):
        self.assertEqual([row[1] for row in figures_of("machine", "machine.txt")],
                         ["3000.0 GB/s read and written",
                          "52.0 GB/s from the host, 50.0 GB/s to it, a small one 9.5 us", "3.1 us"])
        self.assertEqual(figures_of("references", "references.txt"), [
            ("logits of 2 models in F32, largest error", "9.0e-07", ""),
            ("logits of 1 models in Q4_K_M, largest error", "2.8e-02", "")])
        self.assertEqual(figures_of("tests", "tests.txt"),
                         [("tests of label gpu", "34 passed, 1 skipped", "all passed")])

    def test_parts_without_figures_and_without_output_have_none(self):
        self.assertEqual(figures.rows_of("synth", "wrote a file"), [])
        for part in figures.READERS:
            rows = figures.rows_of(part, "")
            self.assertTrue(all("| 0" in row for row in rows), rows)


class KernelTableTest(unittest.TestCase):
    def table_of(self, text):
        return subprocess.run([sys.executable, os.path.join(HERE, "kernel_table.py")], input=text,
                              capture_output=True, text=True, check=False)

    def test_figures_are_weighted_by_time_and_units_are_read(self):
        got = self.table_of(data("ncu.csv"))
        self.assertEqual(got.returncode, 0, got.stderr)
        # 30 us at 80 % and 10 us at 40 %; 2500 and 1500 GB/s.
        self.assertEqual(got.stdout.splitlines()[2:],
                         ["| RowDots | 2 | 20.0 | 70.0 | 2250.0 | 20.0 | 60.0 |",
                          "| Axpy | 1 | 5.0 | 30.0 | 900.0 | 10.0 | 50.0 |"])
        rows = figures.rows_of("hottest-kernels", got.stdout)
        self.assertIn("| `RowDots` | calls 2, us each 20.0, memory, % of peak 70.0", rows[0])

    def test_what_is_no_table_is_told(self):
        got = self.table_of("==ERROR== ERR_NVGPUCTRPERM\n")
        self.assertNotEqual(got.returncode, 0)
        self.assertIn("ERR_NVGPUCTRPERM", got.stderr)


class ProgramTest(unittest.TestCase):
    """With programs of its own in a folder."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="thermocline-gpu-scripts.")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write_program(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
        return path

    def run_script(self, *command):
        """With that folder before all others in which programs are looked for."""
        environment = dict(os.environ, PATH=self.folder + ":" + os.environ["PATH"])
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


class HybridTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.write_program("thermocline", FAKE_SERVICE.format(python=sys.executable))
        self.model = self.write_program("model.gguf", "x" * 3000)

    def run_hybrid(self, *flags):
        return self.run_script(sys.executable, os.path.join(HERE, "hybrid.py"), self.folder,
                               self.model, "0.333", *flags)

    def test_both_services_are_asked_and_compared(self):
        self.write_program("nvidia-smi", "#!/bin/sh\necho 100\n")
        got = self.run_hybrid()
        self.assertEqual(got.returncode, 0, got.stderr)
        rows = figures.tables(got.stdout)
        self.assertEqual([row["computed by"] for row in rows], ["GPU and CPU", "CPU alone"])
        self.assertEqual(rows[0]["answer"], "the same")
        self.assertEqual(rows[0]["of --gpu-memory"], f"{100 * 2**20 / 999:.1%}")

    def test_a_service_that_does_not_start_is_named(self):
        got = self.run_hybrid("--refuse")
        self.assertNotEqual(got.returncode, 0)
        self.assertIn("the service does not start", got.stderr)
        self.assertIn("no such model", got.stderr)

    def test_what_the_figures_become(self):
        text = hybrid.table(9_000_000_000, 3_000_000_000, ["--ffn", "predicted"],
                            (60.0, "a", 2_970_000_000), (10.0, "a"))
        rows = figures.rows_of("hybrid", text)
        self.assertEqual(len(rows), 3)
        self.assertIn("| 6.00, 60.00 tokens/s | 5 |", rows[0])
        self.assertIn("| 99.0% | 98 to 100 % |", rows[2])
        self.assertIn("differs", hybrid.table(9, 3, [], (1.0, "a", None), (1.0, "b")))

    def test_rates_need_a_longer_answer(self):
        self.assertEqual(hybrid.rate(48, 1.0, 3.0), 24.0)
        self.assertEqual(hybrid.rate(48, 1.0, 1.0), 0.0)


class TwoCardsTest(unittest.TestCase):
    def in_group(self, rank):
        return (f"info worker epoch 1: cuda:{rank} A card is in a group stage=0 rank={rank} gpus=2 "
                "nccl=2.28.9\n")

    def test_a_group_is_one_when_both_say_so(self):
        both = self.in_group(0) + self.in_group(1)
        self.assertEqual(two_cards.met_by("one stage", both), "NCCL 2.28.9")
        self.assertEqual(two_cards.met_by("one stage", self.in_group(0)), "the host")
        self.assertEqual(two_cards.met_by("two stages", both), "the host")

    def test_activations_go_from_card_to_card_or_not(self):
        to_the_next = "info worker epoch 1: activations of cuda:0 A card go to worker 2 by {}\n"
        for way, met in (("NCCL from 1 to 128 rows (...)", "NCCL"), ("way of the hosts", "the host")):
            self.assertEqual(two_cards.met_by("two stages", to_the_next.format(way)), met)

    def test_what_is_wanted(self):
        for device, nccl, met, wanted in (
                ("cuda", "auto", "NCCL 2.28.9", True), ("cuda", "auto", "the host", False),
                ("cuda", "off", "the host", True), ("cuda", "off", "NCCL", False),
                ("cpu", "auto", "the host", True)):
            self.assertEqual(two_cards.is_wanted(device, nccl, met, "the same"), wanted)
            self.assertFalse(two_cards.is_wanted(device, nccl, met, "differ"))


class RunTest(ProgramTest):
    RUN = os.path.join(HERE, "run.sh")

    def write_all_programs(self):
        """What run.sh looks for before it tries anything."""
        listed = subprocess.run(
            ["bash", "-c", f". {HERE}/parts.sh; printf '%s ' $programs; echo; echo $bench_programs"],
            capture_output=True, text=True, check=True,
            env=dict(os.environ, build="", log="")).stdout.splitlines()
        for place, names in zip(("bin", "tests"), listed):
            os.mkdir(os.path.join(self.folder, place))
            for name in names.split():
                self.write_program(os.path.join(place, name), "#!/bin/sh\nexit 1\n")

    def test_without_a_gpu_there_is_nothing_to_do(self):
        self.write_program("nvidia-smi", "#!/bin/sh\nexit 9\n")
        got = self.run_script(self.RUN)
        self.assertEqual(got.returncode, 77, got.stderr)
        self.assertIn("no GPU here", got.stdout)

    def test_all_that_is_missing_is_told_at_once(self):
        self.write_program("nvidia-smi", "#!/bin/sh\necho a card, 580.1, 80000 MiB\n")
        got = self.run_script(self.RUN, "--prebuilt", self.folder)
        self.assertEqual(got.returncode, 2, got.stderr)
        for name in ("bin/thermocline-worker", "tests/sparse_rows", "tests/graph_step"):
            self.assertIn(os.path.join(self.folder, name), got.stdout)

    def test_two_cards_are_needed_for_some_parts(self):
        self.write_all_programs()
        self.write_program("nvidia-smi", "#!/bin/sh\necho a card, 580.1, 80000 MiB\n")
        got = self.run_script(self.RUN, "--prebuilt", self.folder, "--only", "two-cards")
        self.assertEqual(got.returncode, 0, got.stdout + got.stderr)
        self.assertIn("| two-cards | | not run: needs two GPUs | |\n", got.stdout)

    def test_flags_that_are_none_are_refused_with_a_usage(self):
        got = self.run_script(self.RUN, "--help")
        self.assertEqual(got.returncode, 2)
        self.assertIn("--prebuilt", got.stdout)
        self.assertNotIn("set -uo", got.stdout)


class LeastArchitectureTest(unittest.TestCase):
    """cmake/least_architecture.cmake, with what -DTC_CUDA_ARCHITECTURES may be."""

    def least(self, architectures, native=""):
        root = os.path.dirname(os.path.dirname(HERE))
        with tempfile.NamedTemporaryFile("w", suffix=".cmake") as script:
            script.write(f"""
                include({root}/cmake/least_architecture.cmake)
                set(CMAKE_CUDA_ARCHITECTURES_NATIVE "{native}")
                tc_least_architecture(least "{architectures}")
                message("least ${{least}}")""")
            script.flush()
            done = subprocess.run(["cmake", "-P", script.name], capture_output=True, text=True, check=True)
        return int(done.stderr.split()[-1])

    def test_numbers_of_a_list(self):
        self.assertEqual(self.least("75-real;80-real;90"), 75)
        self.assertEqual(self.least("120;90a-real;100-virtual"), 90)

    def test_the_cards_that_are_here(self):
        self.assertEqual(self.least("native", "90-real"), 90)
        self.assertEqual(self.least("native;80", "90-real;89-real"), 80)

    def test_unknown_ones(self):
        self.assertEqual(self.least("native"), 0)
        self.assertEqual(self.least("all-major"), 0)
        self.assertEqual(self.least("native;90"), 90)


if __name__ == "__main__":
    unittest.main()
