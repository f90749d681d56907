"""--isa: each instruction set of this machine gives the same tokens, and clear words for others."""

import os
import re

from cluster import DATA_DIR, DEMO_MODEL, ClusterTest, main

PROMPT = [5, 17, 99, 200, 61, 7, 33, 250]
MODELS = [DEMO_MODEL, os.path.join(DATA_DIR, "arcee-q4_0.gguf"),
          os.path.join(DATA_DIR, "powerinfer-wide-q4_0.gguf")]
ALL = {"avx512-vnni", "avx512", "avx2", "sse4", "neon", "scalar"}


class IsaTest(ClusterTest):
    def refusal(self, name):
        """The one line that `generate --isa name` ends with."""
        code, output = self.run_program("generate", "-m", DEMO_MODEL, "--prompt-tokens", "1",
                                        "--isa", name)
        self.assertEqual(code, 2, output)
        self.assertEqual(len(output.splitlines()), 1, output)
        self.assertIn("--isa", output)
        self.assertIn("this machine does not have the instruction set", output)
        return output

    def sets(self):
        """The instruction sets of this machine, as a refusal lists them."""
        names = re.search(r"it has (.*)", self.refusal("mmx"))[1].split()
        self.assertEqual(names[0], "auto")
        self.assertEqual(names[-1], "scalar")
        return names[1:]

    def test_every_set_gives_the_same_tokens(self):
        sets = self.sets()
        self.assertLessEqual(set(sets), ALL)
        for model in MODELS:
            wanted = self.generate(model, PROMPT, 24)[0]["generated"]
            for name in sets:
                with self.subTest(model=model, isa=name):
                    self.assertEqual(self.generate(model, PROMPT, 24, "--isa", name)[0]["generated"],
                                     wanted)

    def test_the_report_names_the_set_that_ran(self):
        for name in self.sets():
            code, output = self.run_program("generate", "-m", DEMO_MODEL, "--prompt-tokens", "1",
                                            "-n", "2", "--isa", name)
            self.assertEqual(code, 0, output)
            self.assertRegex(output, rf"\b{name}\b")

    def test_a_set_that_is_not_there_is_named(self):
        for name in sorted(ALL - set(self.sets())):
            self.assertIn(f'"{name}"', self.refusal(name))


if __name__ == "__main__":
    main()
