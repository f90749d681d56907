"""Ctrl-C ends the offline programs with 130 and leaves no half-written file."""

import os
import signal
import subprocess
import sys

from cluster import DEMO_MODEL, SOURCE_DIR, THERMOCLINE, ClusterTest, main, wait_until

# Some seconds of work for one thread.
LARGE = "n_embd=1024,n_ff=8192,n_layer=24,n_head=8,n_head_kv=8,n_vocab=512"
MEDIUM = "n_embd=512,n_ff=4096,n_layer=16,n_head=8,n_head_kv=8,n_vocab=512"


class InterruptTest(ClusterTest):
    def begin_writing(self, *arguments):
        """A program that has its temporary file."""
        before = set(os.listdir(self.folder))
        process = self.start([THERMOCLINE, *arguments])
        wait_until(lambda: any(name.endswith(".tmp")
                               for name in set(os.listdir(self.folder)) - before),
                   "a temporary file")
        self.assertTrue(process.running(), process.output)
        return process

    def end(self, process, number, code):
        process.signal(number)
        self.assertEqual(process.wait(), code, process.output)
        self.assertRegex(process.output, r"thermocline \w+: interrupted")

    def test_synth(self):
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            process = self.begin_writing("synth", "-o", self.path("m.gguf"), "--shape", LARGE,
                                         "-t", "1")
            self.end(process, number, code)
            self.assertEqual(os.listdir(self.folder), [])

    def test_convert(self):
        source = self.path("source.gguf")
        code, output = self.run_program("synth", "-o", source, "--shape", MEDIUM)
        self.assertEqual(code, 0, output)
        process = self.begin_writing("convert", source, "-o", self.path("small.gguf"), "--type",
                                     "q4_k", "-t", "1")
        self.end(process, signal.SIGINT, 130)
        self.assertEqual(os.listdir(self.folder), ["source.gguf"])

    def test_profile(self):
        model, text = self.path("demo.gguf"), self.path("text.txt")
        os.symlink(DEMO_MODEL, model)
        command = [sys.executable, os.path.join(SOURCE_DIR, "deploy/demo/corpus.py"), "20",
                   "--seed", "1", "--split", "train", "--marked"]
        with open(text, "wb") as file:
            subprocess.run(command, check=True, stdout=file)
        process = self.start([THERMOCLINE, "profile", "-m", model, "--text", text, "--tokens",
                              "2048", "--train-predictor", "--train-steps", "1000000"])
        # The table of the counts; training follows.
        process.wait_line(r"^ +4 +[\d.]+%")
        self.end(process, signal.SIGINT, 130)
        self.assertEqual(sorted(os.listdir(self.folder)), ["demo.gguf", "text.txt"])


if __name__ == "__main__":
    main()
