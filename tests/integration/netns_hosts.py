"""Hosts made of Linux namespaces on one machine, joined by a bridge.

Each has its own address, host name, mounts and processes. Nothing outlives the program that made
them, however it ends: the first process of each host waits on a pipe from here, and the kernel
takes a host's other processes, addresses and links down with it.
"""
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

SUBNET = "10.77.0"
CIDR = f"{SUBNET}.0/24"
TOOLS = ("unshare", "nsenter", "setpriv", "ip", "mount", "mpirun", "curl")
START_SECONDS = 60


def why_not():
    """Why hosts cannot be made here, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return "missing: " + " ".join(missing)
    tried = subprocess.run(["unshare", "--net", "--uts", "--mount", "--pid", "--fork",
                            "ip", "link", "add", "probe0", "type", "veth", "peer", "name", "probe1"],
                           capture_output=True, text=True)
    return None if tried.returncode == 0 else "no namespaces here: " + tried.stderr.strip()


def run(*argv):
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {done.stderr.strip()}")
    return done.stdout


class Namespaces:
    """One process in namespaces of its own, and whatever is started in them later."""

    def __init__(self, *kinds, own_processes):
        options = [f"--{kind}" for kind in kinds]
        if own_processes:
            options += ["--pid", "--fork", "--kill-child", "--mount-proc"]
        # Lives until the pipe closes.
        self._holder = subprocess.Popen(["unshare", *options, "sh", "-c", "echo up; read _"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout.readline() == b"up\n", "no namespaces"
        self.pid = self._child() if own_processes else self._holder.pid
        kinds += ("pid",) if own_processes else ()
        # --root: where this runs in a chroot, so do they.
        self.enter = ["nsenter", "-t", str(self.pid), *(f"--{kind}" for kind in kinds), "--root",
                      "--wd", "--"]

    def _child(self):
        pid = self._holder.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def end(self):
        if self._holder.stdin:
            self._holder.stdin.close()
            self._holder.stdin = None
        self._holder.wait(START_SECONDS)
        self._holder.stdout.close()


class Host:
    """A host named hostN at SUBNET.N."""

    def __init__(self, number, switch, own_processes, folder):
        self.name = f"host{number}"
        self.address = f"{SUBNET}.{number}"
        self.home = folder / self.name
        self.home.mkdir()
        self._switch = switch
        self._port = f"port{number}"
        self.namespaces = Namespaces("net", "uts", "mount", own_processes=own_processes)
        self.network = os.readlink(f"/proc/{self.namespaces.pid}/ns/net")
        self.run("hostname", self.name)
        run(*switch.enter, "ip", "link", "add", self._port, "master", "bridge", "type", "veth",
            "peer", "name", "eth0", "netns", self.namespaces.pid)
        self.plug()
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def command(self, *argv):
        """argv to be run there, with an environment as after logging in."""
        environment = [f"PATH={os.environ['PATH']}", f"HOME={self.home}", f"TMPDIR={self.home}",
                       "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"]
        return [*self.namespaces.enter, "env", "-i", *environment, *map(str, argv)]

    def run(self, *argv):
        return run(*self.command(*argv))

    def hide(self, folder):
        self.run("mount", "-t", "tmpfs", "none", folder)

    def plug(self):
        run(*self._switch.enter, "ip", "link", "set", self._port, "up")

    def unplug(self):
        run(*self._switch.enter, "ip", "link", "set", self._port, "down")

    def power_off(self):
        """Everything there ends at once and nobody is told."""
        self.unplug()
        self.namespaces.end()

    def processes(self, name=None):
        """Process ids, as seen from here, of what runs there, or of the programs of that name."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                program = (entry / "cmdline").read_bytes().split(b"\0")[0].decode()
                if name in (None, Path(program).name) and os.readlink(entry / "ns/net") == self.network:
                    found.append(int(entry.name))
            except OSError:
                pass  # it ended meanwhile
        return found


class Hosts:
    """Hosts on one switch. mpirun runs on the first, whose processes are in this process's own
    process namespace, since from there it must be able to reach the others'."""

    def __init__(self, count, folder):
        self._folder = Path(folder)
        self._switch = Namespaces("net", own_processes=False)
        run(*self._switch.enter, "ip", "link", "add", "bridge", "type", "bridge")
        run(*self._switch.enter, "ip", "link", "set", "bridge", "up")
        self.all = [Host(number, self._switch, number > 1, self._folder)
                    for number in range(1, count + 1)]
        self.first = self.all[0]
        self._launches = []

    def start(self, host, program, log):
        """Starts a program on one host, its output going to the file `log`."""
        with open(log, "wb") as out:
            started = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *host.command(*program)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        self._launches.append(started)
        return started

    def launch(self, slots, program, log):
        """Starts mpirun on the first host, its output going to the file `log`."""
        hostfile = self._folder / "hostfile"
        hostfile.write_text("".join(f"{host.name} slots={n}\n"
                                    for host, n in zip(self.all, slots)))
        options = ["--hostfile", hostfile, "-n", sum(slots), "--bind-to", "none",
                   "--mca", "plm_rsh_agent", self._remote_shell(),
                   "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", CIDR,
                   "--mca", "oob_tcp_if_include", CIDR]
        return self.start(self.first, ["mpirun", *options, *program], log)

    def _remote_shell(self):
        """Stands for ssh: agent HOST COMMAND... Like ssh it does not notice that a host is gone."""
        agent = self._folder / "agent"
        cases = "".join(f"  {host.name}) {' '.join(host.command('sh', '-c'))} \"$*\" ;;\n"
                        for host in self.all)
        agent.write_text(f'#!/bin/sh\nhost=$1\nshift\ncase $host in\n{cases}'
                         '*) echo "no such host: $host" >&2; exit 255 ;;\nesac\n'
                         'code=$?\n[ $code != 137 ] || exec sleep 600\nexit $code\n')
        agent.chmod(0o755)
        return agent

    def end(self):
        for launched in self._launches:
            if launched.poll() is None:
                launched.kill()
            launched.wait()
        for pid in self.first.processes():
            if pid != self.first.namespaces.pid:
                os.kill(pid, signal.SIGKILL)
        for host in reversed(self.all):
            host.namespaces.end()
        self._switch.end()


def wait_until(condition, seconds, what):
    """The first true value of condition(); `what` says in a failure what was waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")
