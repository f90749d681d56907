"""GPUs as the programs show them, with a library that stands for their driver's (fake_nvml.cc)."""

import os

from cluster import DEMO_MODEL, TEST_BIN_DIR, ClusterTest, main

FAKE_DRIVER = {"LD_LIBRARY_PATH": os.path.join(TEST_BIN_DIR, "fake_gpu")}


class GpusTest(ClusterTest):
    def test_a_machine_tells_its_gpus_and_what_lies_between_them(self):
        code, output = self.run_program("machine", "--seconds", "0", env=FAKE_DRIVER)
        self.assertEqual(code, 0, output)
        self.assertIn("gpu 0 at 00000000:1B:00.0: First GPU, ", output)
        self.assertIn("compute capability 9.0, PCIe 5 x16, 6 x NVLink 4, NUMA node 0, CPUs 0-3,64",
                      output)
        rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
                for line in output.split("what lies between GPUs\n")[1].split("\n")
                if line.startswith("| gpu")}
        self.assertEqual(rows["gpu 0"], ["-", "5 x NVLink 4, 97 GB/s assumed", "same PCIe switch"])
        self.assertEqual(rows["gpu 1"], ["5 x NVLink 4, 97 GB/s assumed", "-", "not told"])

    def test_the_profile_has_them_and_is_read_again(self):
        saved = self.path("cluster.yaml")
        code, output = self.run_program("machine", "--seconds", "0", "--save-cluster", saved,
                                        env=FAKE_DRIVER)
        self.assertEqual(code, 0, output)
        with open(saved, encoding="utf-8") as file:
            text = file.read()
        self.assertIn('- name: "Last GPU"', text)
        self.assertIn('{gpu: 1, path: across NUMA nodes, nvlinks: 5, preset: "nvlink4", '
                      "latency_us: 5 assumed, gb_per_s: 97.2222 assumed}", text)
        code, output = self.run_program("plan", "--model", DEMO_MODEL, "--cluster", saved,
                                        "-o", self.path("plan.json"))
        self.assertEqual(code, 0, output)

    def test_a_cluster_shows_them_in_its_table_and_as_json(self):
        cluster = self.serve(DEMO_MODEL, env=FAKE_DRIVER).ready()
        cluster.wait_line(r"GPUs of its host$")
        cluster.wait_line(r"1 x First GPU \(78\.1 KiB\), 1 x Last GPU \(78\.1 KiB\), 1 x x+")
        gpus = cluster.api.cluster()["workers"][0]["gpus"]
        self.assertEqual([gpu["name"] for gpu in gpus[:2]], ["First GPU", "Last GPU"])
        self.assertEqual(gpus[0]["peers"][0]["path"], "across NUMA nodes")
        self.assertEqual(gpus[0]["peers"][0]["bytes_per_s"]["origin"], "assumed")

    def test_a_cpu_has_no_rows_in_8_bits_and_says_so(self):
        saved = self.path("cluster.yaml")
        code, output = self.run_program("machine", "--seconds", "0", "--device", "cpu",
                                        "--gpu-rows", "fp8-e4m3", "--save-cluster", saved)
        self.assertEqual(code, 0, output)
        self.assertIn("--gpu-rows fp8-e4m3 has no effect: cpu", output)
        with open(saved, encoding="utf-8") as file:
            self.assertNotIn("gpu_rows", file.read())

    def test_without_a_driver_there_are_none(self):
        code, output = self.run_program("machine", "--seconds", "0")
        self.assertEqual(code, 0, output)
        if not os.path.exists("/dev/nvidiactl"):
            self.assertNotIn("gpu 0", output)


if __name__ == "__main__":
    main()
