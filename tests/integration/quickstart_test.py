#!/usr/bin/env python3
"""deploy/quickstart.sh from a new user's chair. Builds build/release when it is not there."""
import os
import re
import signal
import socket
import subprocess
import unittest
from pathlib import Path

from cluster import PATIENCE_S, reserved_port

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "deploy/quickstart.sh"
# Inherited by every process of the quickstart, so that what it leaves behind can be found.
MARK = f"THERMOCLINE_QUICKSTART_TEST={os.getpid()}"
ENVIRONMENT = dict(os.environ, **dict([MARK.split("=")]))


def quickstart(*arguments):
    return subprocess.run([QUICKSTART, *map(str, arguments)], env=ENVIRONMENT, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True)


def left_behind():
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and MARK.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" "))
        except OSError:
            pass  # it ended meanwhile
    return found


class QuickstartTest(unittest.TestCase):
    def check_first_screen(self, output, url):
        table = re.search(r"  worker +host +device .*\n(( +\d .* MiB.*\n)+)", output)
        self.assertIsNotNone(table, output)
        self.assertEqual(len(table[1].splitlines()), 3)
        self.assertRegex(output, r"(?m)^security: API on 127\.0\.0\.1 .* CURVE on loopback")
        self.assertRegex(output, rf"(?m)^serving at {re.escape(url)}\b")

    def check_story(self, output):
        story = output.split("/v1/completions\n", 1)[1]
        self.assertTrue(story.startswith("Once upon a time"), story)
        words = re.findall(r"\b[a-z]+\b", story.lower())
        self.assertGreater(len(words), 60)
        self.assertGreater(sum(word in ("the", "a", "and", "was", "she", "he", "to", "her", "his")
                               for word in words), len(words) // 10)
        self.assertNotIn("\ufffd", story)

    def test_once_twice_in_a_row(self):
        holder, port = reserved_port()
        self.addCleanup(holder.close)
        for _ in range(2):
            done = quickstart("--once", "--port", port)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.check_first_screen(done.stdout + done.stderr, f"http://127.0.0.1:{port}")
            self.check_story(done.stdout)
            self.assertEqual(left_behind(), [])

    def test_control_c_ends_everything(self):
        holder, port = reserved_port()
        self.addCleanup(holder.close)
        running = subprocess.Popen([QUICKSTART, "--port", str(port)], env=ENVIRONMENT, text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        for line in running.stdout:
            if line.startswith(f"== Serving at http://127.0.0.1:{port}"):
                break
        os.killpg(running.pid, signal.SIGINT)  # as the terminal does
        running.communicate(timeout=PATIENCE_S)
        self.assertEqual(running.returncode, 130)
        self.assertEqual(left_behind(), [])

    def test_what_cannot_work_is_said_at_once(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            done = quickstart("--port", taken.getsockname()[1])
            self.assertEqual(done.returncode, 2)
            self.assertRegex(done.stderr, r"^quickstart: port \d+ is in use; .*--port")
        for arguments, message in ((["--model", "/no/such.gguf"], "cannot read the model: /no/such.gguf"),
                                   (["--port", "70000"], "not a port: 70000"),
                                   (["--twice"], "unknown option --twice")):
            done = quickstart(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(f"quickstart: {message}", done.stderr)
            self.assertEqual(done.stdout, "")

    def test_help(self):
        done = quickstart("--help")
        self.assertEqual(done.returncode, 0)
        for word in ("--once", "--port", "--model", "--prompt", "From a clone to streamed tokens"):
            self.assertIn(word, done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
