"""`thermocline generate`: where its prompt comes from and what ends its text."""

import json
import subprocess

from cluster import DEMO_MODEL, MPI_ENVIRONMENT, THERMOCLINE, ClusterTest, main, mpirun, needs_mpi

PROMPT = "Once upon a time"


class GenerateTest(ClusterTest):
    def text_of(self, *flags, stdin=None):
        """The parsed answer to these flags."""
        got = subprocess.run([THERMOCLINE, "generate", "-m", DEMO_MODEL, "-n", "24", "--json",
                              *flags], input=stdin, capture_output=True, text=True, check=True)
        return json.loads(got.stdout)

    def test_the_prompt_may_be_a_file_or_the_input(self):
        wanted = self.text_of("-p", PROMPT)
        path = self.path("prompt.txt")
        for text in (PROMPT, PROMPT + "\n"):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            self.assertEqual(self.text_of("-f", path)["generated"], wanted["generated"])
            self.assertEqual(self.text_of("-f", "-", stdin=text)["prompt"], wanted["prompt"])
        code, output = self.run_program("generate", "-m", DEMO_MODEL, "-f", path, "-n", "2")
        self.assertEqual(code, 0, output)
        self.assertTrue(output.startswith(PROMPT), output)

    def test_a_stop_ends_the_text_before_it(self):
        whole = self.text_of("-p", PROMPT, "--ignore-eos")
        words = whole["text"].split()
        stopped = self.text_of("-p", PROMPT, "--ignore-eos", "--stop", words[3], "--stop", "\x01")
        self.assertEqual(stopped["text"], whole["text"][:whole["text"].find(words[3])])
        self.assertEqual(stopped["finish_reason"], "stop")
        self.assertLess(len(stopped["generated"]), len(whole["generated"]))
        never = self.text_of("-p", PROMPT, "--ignore-eos", "--stop", "\x01")
        self.assertEqual(never["text"], whole["text"])
        self.assertEqual(never["finish_reason"], "length")

    def test_wrong_words_are_told(self):
        for flags, words in ((["-p", "x", "-f", "y"], "give the prompt once"),
                             (["-f", self.path("none")], "cannot open the prompt's file"),
                             (["-f", self.folder], "cannot read the prompt's file"),
                             (["-p", "x", "--stop", ""], "--stop: ")):
            code, output = self.run_program("generate", "-m", DEMO_MODEL, *flags)
            self.assertEqual(code, 2, output)
            self.assertIn(words, output)

    def test_a_prompt_that_is_no_utf8_is_refused(self):
        latin = "caf\xe9".encode("latin-1")
        path = self.path("latin.txt")
        with open(path, "wb") as file:
            file.write(latin)
        for flags, source in ((["-f", path], path), (["-p", latin], "--prompt")):
            got = subprocess.run([THERMOCLINE, "generate", "-m", DEMO_MODEL, "-n", "2", *flags],
                                 check=False, capture_output=True)
            self.assertEqual(got.returncode, 2, got.stderr)
            self.assertIn(f"text is not UTF-8: {source} offset_bytes=3 byte=233",
                          got.stderr.decode())

    @needs_mpi
    def test_one_of_mpiruns_copies_does_it(self):
        process = self.start([*mpirun(3), THERMOCLINE, "generate", "-m", DEMO_MODEL, "-p", PROMPT,
                              "-n", "4"], env=MPI_ENVIRONMENT)
        self.assertEqual(process.wait(), 0, process.output)
        self.assertEqual(process.output.count(PROMPT), 1, process.output)
        self.assertIn("the other 2 of mpirun have ended", process.output)


if __name__ == "__main__":
    main()
