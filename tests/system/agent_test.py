"""The real drover-agent and drover-shim against a stand-in for the server: what a job may do, what
may be killed while it does it, and what is left afterwards. Ends by itself.

Environment: AGENT_TEST_MIB (64) output of the job that prints much; AGENT_TEST_ROUNDS (24) random
kills; AGENT_TEST_UNPRIVILEGED=0 leaves the part as another user out."""
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from agent_server import Server  # noqa: E402
from lib import BUILD, Failed, case, check, finish, note, skip, until  # noqa: E402

AGENT, SHIM = os.path.join(BUILD, "drover-agent"), os.path.join(BUILD, "drover-shim")
MIB = int(os.environ.get("AGENT_TEST_MIB", "64"))
ROUNDS = int(os.environ.get("AGENT_TEST_ROUNDS", "24"))
SECOND = 1000000


def require(true, *told):
    """Ends the case when its first argument is not true, and gives it back otherwise."""
    if not check(true, *told):
        raise Failed
    return true


def proc_stat(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            rest = f.read().rsplit(")", 1)[1].split()
        return {"state": rest[0], "parent": int(rest[1])}
    except (OSError, IndexError):
        return None


def processes():
    return [int(p) for p in os.listdir("/proc") if p.isdigit()]


def command(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


class Node:
    """A data folder, its agent, and the server it speaks to."""

    def __init__(self, data=None, wrapper=(), gpu="simulated:4", sample_ms=200):
        self.home = tempfile.mkdtemp(prefix="drover-agent-test-")
        os.chmod(self.home, 0o755)
        self.data = data or os.path.join(self.home, "data")
        os.makedirs(self.data, exist_ok=True)
        self.server = Server(os.path.join(self.home, "s"), sample_ms)
        self.wrapper, self.gpu, self.process = list(wrapper), gpu, None
        self.err = open(os.path.join(self.home, "agent.log"), "ab")
        self.next_id = 0

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, kind, *_):
        if kind or self.server.faults:
            self.show()
        check(not self.server.faults, *self.server.faults)
        self.down()
        self.server.close()
        self.err.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def show(self):
        with open(self.err.name, errors="replace") as f:
            note("the agent said:\n" + "".join(f.readlines()[-30:]))

    def up(self, *args, wait=True):
        self.process = subprocess.Popen(
            [*self.wrapper, AGENT, "--isolation", "basic", "--server", "unix:" + self.server.path, "--data", self.data, "--gpu",
             self.gpu, *args], stdin=subprocess.DEVNULL, stdout=self.err, stderr=self.err,
            cwd="/")
        if wait:
            require(self.server.connected(), "the agent did not connect")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.server.cut()

    def down(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                return self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process and self.process.returncode

    def id(self):
        self.next_id += 1
        return self.next_id

    def run(self, argv, seconds=15, **more):
        """Runs one job to its end. Gives its final report."""
        attempt = self.id()
        self.server.start(attempt, argv, **more)
        a = self.server.ended(attempt, seconds)
        if not a:
            self.show()
        return require_report(a, attempt, self.server)

    def launcher(self):
        for pid in processes():
            stat = proc_stat(pid)
            if stat and stat["parent"] == self.process.pid and "--launcher" in command(pid):
                return pid
        return None

    def shim(self, attempt):
        try:
            with open(f"{self.data}/agent/jobs/{attempt}/started") as f:
                return int(f.read().split()[2])
        except (OSError, IndexError, ValueError):
            return None

    def gone(self):
        """What this node has left behind on the machine, in words."""
        left = [f"process {p}: {command(p)}" for p in processes()
                if self.data in command(p) and p != self.process.pid and "--launcher" not in command(p)]
        jobs = os.listdir(f"{self.data}/agent/jobs")
        return left + [f"folder {j}" for j in jobs]

    def groups(self):
        st = os.stat(f"{self.data}/agent")
        name, found = f"drover-{st.st_dev:x}-{st.st_ino:x}", []
        for top, dirs, _ in os.walk("/sys/fs/cgroup"):
            if os.path.basename(top) == name:
                found += [os.path.join(top, d) for d in dirs]
                dirs.clear()
        return found

    def zombies(self):
        mine = {self.process.pid, self.launcher()}
        return [p for p in processes() if (s := proc_stat(p)) and s["state"] == "Z" and s["parent"] in mine]


def require_report(a, attempt, server):
    require(a, f"attempt {attempt} did not end: {server.attempts.get(attempt)}, "
               f"{len(server.logs.get(attempt, b''))} bytes of log")
    return a["id"], a, a["exit"]


def sh(text):
    return ["sh", "-c", text]


def exits(node):
    with case("exit codes, output and both streams arrive"):
        i, a, x = node.run(sh("echo out; echo err >&2; printf tail; exit 3"))
        check((x["reason"], x["code"], x["signal"]) == ("exited", 3, None), x)
        check(node.server.lines(i) == [b"out", b"tail"], node.server.records(i))
        check(node.server.lines(i, 2) == [b"err"])
        check(node.server.history[i][0] == "accepted" and node.server.history[i][-1] == "ended")
        check(a["pid"] > 0 and 0 < a["started_at"] <= a["ended_at"], a)
        i, a, x = node.run(["true"])
        check((x["reason"], x["code"]) == ("exited", 0), x)
    with case("a signal is told apart from an exit code"):
        i, a, x = node.run(sh("kill -11 $$"))
        check((x["reason"], x["code"], x["signal"]) == ("signalled", None, 11), x)
        check("memory access" in x["detail"], x)
    with case("what cannot start says why in plain words"):
        for argv, more, words in (
                (["trian.py"], {}, "command not found: trian.py"),
                (["./trian.py"], {}, "no such file: ./trian.py"),
                (["/tmp"], {}, "/tmp is a directory"),
                (["/etc/passwd"], {}, "not executable: /etc/passwd"),
                (["true"], {"cwd": "/x/y"}, "no such directory: /x/y"),
                (["true"], {"cwd": "/etc/passwd"}, "not a directory: /etc/passwd")):
            i, a, x = node.run(argv, **more)
            check(a["state"] == "ended" and x["reason"] == "start_failed" and words in x["detail"], x)
    with case("what this node does not do is refused before it starts"):
        for more, words in (({"image": "pytorch"}, "containers"), ({"cwd": "here"}, "absolute"),
                            ({"memory_mib": -1}, "memory_mib"), ({"env": {"A=B": "c"}}, "variable"),
                            ({"argv": []}, "argv"), ({"env": {"A": 1}}, "text")):
            i, a, x = node.run(more.pop("argv", ["true"]), **more)
            check(a["state"] == "refused" and x["reason"] == "start_failed" and words in x["detail"], x)
    with case("env, cwd, stdin and the leased GPUs"):
        i, a, x = node.run(sh("env | sort; pwd; cat; echo $0"), cwd="/usr", gpus=[0, 3],
                           gpu_uuids=["GPU-aa", "GPU-bb"], job=17, number=3,
                           env={"A": "1 2", "PATH": "/bin:/usr/bin", "CUDA_VISIBLE_DEVICES": "all"})
        got = dict(l.split(b"=", 1) for l in node.server.lines(i) if b"=" in l)
        want = {b"A": b"1 2", b"PATH": b"/bin:/usr/bin", b"CUDA_VISIBLE_DEVICES": b"GPU-aa,GPU-bb",
                b"NVIDIA_VISIBLE_DEVICES": b"GPU-aa,GPU-bb", b"DROVER_GPUS": b"0,3",
                b"DROVER_JOB_ID": b"j-17", b"DROVER_ATTEMPT": b"3",
                b"DROVER_ATTEMPT_ID": str(i).encode(), b"LANG": b"C.UTF-8"}
        check({k: got.get(k) for k in want} == want, got)
        check(set(got) <= set(want) | {b"HOME", b"USER", b"LOGNAME", b"DROVER_RUN", b"PWD"}, set(got))
        check(node.server.lines(i)[-2:] == [b"/usr", b"sh"])
        i, a, x = node.run(sh("env; ls /proc/$$/fd"))
        check(b"CUDA_VISIBLE_DEVICES=" in node.server.lines(i))
        check([l for l in node.server.lines(i) if l.isdigit()] == [b"0", b"1", b"2"],
              node.server.lines(i))
    with case("a line without its end is seen while the job runs"):
        i = node.id()
        node.server.start(i, sh("printf 'loading'; sleep 30"))
        check(node.server.wait(lambda: node.server.lines(i) == [b"loading"], 5))
        node.server.tell(type="stop", id=i, reason="cancelled", grace_us=SECOND)
        check(node.server.ended(i))


def endings(node):
    with case("the time limit ends a job, also one that ignores TERM"):
        t = time.monotonic()
        i, a, x = node.run(sh("trap '' TERM; while :; do sleep 1; done"), time_limit_us=300000,
                           grace_us=300000)
        check(x["reason"] == "timed_out" and x["signal"] == 9, x)
        check(time.monotonic() - t < 5)
    with case("stop is polite first: a job that cleans up exits by itself"):
        i = node.id()
        node.server.start(i, sh("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done"))
        require(node.server.wait(lambda: node.server.lines(i) == [b"up"], 5))
        node.server.tell(type="stop", id=i, reason="cancelled", grace_us=5 * SECOND)
        node.server.tell(type="stop", id=i, reason="cancelled", grace_us=5 * SECOND)
        a = require(node.server.ended(i))
        check(a["exit"]["reason"] == "cancelled" and a["exit"]["code"] == 7, a)
        check(node.server.lines(i) == [b"up", b"bye"])
    with case("stop with no grace kills at once, and a second stop may be less patient"):
        for first, then in ((0, None), (60 * SECOND, 0)):
            i = node.id()
            node.server.start(i, sh("trap '' TERM; echo up; while :; do sleep 1; done"))
            require(node.server.wait(lambda: node.server.lines(i) == [b"up"], 5))
            t = time.monotonic()
            node.server.tell(type="stop", id=i, reason="preempted", grace_us=first)
            if then is not None:
                time.sleep(0.1)
                node.server.tell(type="stop", id=i, reason="preempted", grace_us=then)
            a = require(node.server.ended(i))
            check(a["exit"]["reason"] == "cancelled" and time.monotonic() - t < 3, a)
    with case("processes that fork away end with the job"):
        mark = f"{91000 + os.getpid()}"
        i, a, x = node.run(sh(f"(setsid sh -c 'trap \"\" TERM; sleep {mark}' &); setsid setsid sleep {mark} & "
                              f"(sleep {mark} &) ; sleep 0.2; exit 5"))
        check((x["reason"], x["code"]) == ("exited", 5), x)
        check(not [p for p in processes() if mark in command(p)])
    with case("a start that is said twice, or again after the end, runs once"):
        out = os.path.join(node.home, "twice")
        i = node.id()
        for _ in range(3):
            node.server.start(i, sh(f"echo x >>{out}"))
        require(node.server.ended(i))
        until(lambda: not os.path.exists(f"{node.data}/agent/jobs/{i}"), what="forgetting")
        node.server.start(i, sh(f"echo x >>{out}"))
        i2, a, x = node.run(["true"])
        time.sleep(0.1)
        check(open(out).read() == "x\n", open(out).read())
    with case("limits that the node enforces"):
        enforces = node.server.hellos[-1]["node"]["enforces"]
        note(f"cgroups {node.server.hellos[-1]['node']['cgroups']}: {enforces}")
        if "memory" in enforces:
            eat = ["python3", "-c", "x = bytearray(400 << 20)"]
            i, a, x = node.run(eat, memory_mib=64)
            check(x["reason"] == "out_of_memory" and "64 MiB" in x["detail"], x)
            i, a, x = node.run(sh("python3 -c 'x = bytearray(400 << 20)'; exit 4"), memory_mib=64)
            check(x["reason"] == "out_of_memory" and x["code"] == 4, x)
            i, a, x = node.run(["python3", "-c", "x = bytearray(20 << 20)"], memory_mib=64)
            check(x["reason"] == "exited" and x["code"] == 0, x)
        if "pids" in enforces:
            i, a, x = node.run(sh("for i in 1 2 3 4 5 6; do sleep 0.1 & done; wait"), pids_max=3)
            check(any(b"fork" in l for l in node.server.lines(i, 2)), node.server.records(i))
        if "cpu" in enforces:
            i, a, x = node.run(["python3", "-c", "import multiprocessing, time\n"
                                "def f():\n  t = time.time()\n  while time.time() < t + .5: pass\n"
                                "p = [multiprocessing.Process(target=f) for _ in range(2)]\n"
                                "[q.start() for q in p]\n[q.join() for q in p]"], cpus=1)
            took = (a["ended_at"] - a["started_at"])
            check(x["code"] == 0 and x["cpu_us"] < took * 1.5, x)
        check(not node.groups(), node.groups())


def output(node):
    with case(f"{MIB} MiB of output: the log is bounded, the job is not held up, the rest is counted"):
        limit = 4 << 20
        i, a, x = node.run(sh(f"yes 0123456789012345678901234567890123456789012345678901234567890 | "
                              f"head -c {MIB << 20}; exit 9"), seconds=120, log_max_bytes=limit)
        check((x["reason"], x["code"]) == ("exited", 9), x)
        check(limit * 0.9 < a["log_bytes"] < limit + 2000, a["log_bytes"])
        told = [t for s, _, t in node.server.records(i) if s == 3]
        lost = sum(int(t.split()[0]) for t in told if b"were dropped" in t)
        kept = sum(len(t) + 1 for s, f, t in node.server.records(i) if s == 1)
        check(abs(kept + lost - (MIB << 20)) < 200, told, kept + lost)
    with case("a log of many chunks arrives whole, and the node frees what the server has"):
        i = node.id()
        node.server.start(i, sh("seq 1 1500000; echo end; sleep 60"), grace_us=0)
        require(node.server.wait(lambda: node.server.logs.get(i, b"").endswith(b"end"), 30))
        chunks = [f for f in os.listdir(f"{node.data}/agent/jobs/{i}") if f.startswith("log.")]
        check(len(chunks) <= 2, chunks)
        node.server.tell(type="stop", id=i, reason="cancelled", grace_us=0)
        require(node.server.ended(i))
        lines = node.server.lines(i)
        check(len(lines) == 1500001 and lines[:-1] == [b"%d" % n for n in range(1, 1500001)])
    with case("binary bytes and a 100 MiB line come through as they are"):
        program = ("import sys; o = sys.stdout.buffer; o.write(bytes(range(256)) * 40 + b'\\n');"
                   "[o.write(b'x' * (1 << 20)) for _ in range(100)]; o.write(b'\\nend\\n')")
        i, a, x = node.run(["python3", "-c", program], seconds=60)
        lines = node.server.lines(i)
        check(b"\n".join(lines[:-2]) == (bytes(range(256)) * 40), len(lines))
        check(lines[-2] == b"x" * (100 << 20) and lines[-1] == b"end")
        check(all(len(t) <= 65536 for _, _, t in node.server.records(i)))


def link(node):
    with case("a slow server holds back the log at the window, not the job"):
        with node.server.cond:
            node.server.acking = False
        i = node.id()
        node.server.start(i, sh("seq 1 400000; exit 6"))
        a = require(node.server.state(i, "ended"))
        time.sleep(0.3)
        have = len(node.server.logs[i])
        check(a["log_bytes"] > 4 << 20 and have <= 1 << 20, a["log_bytes"], have)
        with node.server.cond:
            node.server.acking = True
            for attempt, n in node.server.unacked.items():
                node.server.tell(type="log_ack", id=attempt, offset=n)
        a = require(node.server.ended(i, 20))
        check(node.server.lines(i) == [b"%d" % n for n in range(1, 400001)])
    with case("many logs whose ends the server does not acknowledge do not hold up each other"):
        with node.server.cond:
            node.server.acking = False
        jobs = [node.id() for _ in range(40)]
        for i in jobs:
            node.server.start(i, sh("seq 1 15000; echo end"))
        whole = node.server.wait(lambda: all(node.server.logs.get(i, b"").endswith(b"end") for i in jobs), 30)
        check(whole, sum(len(node.server.logs.get(i, b"")) for i in jobs))
        with node.server.cond:
            node.server.acking = True
        for i in jobs:
            require(node.server.ended(i))
    with case("the link cut for seconds: jobs go on, nothing is lost, what was missed comes later"):
        jobs = [node.id() for _ in range(6)]
        for i in jobs:
            node.server.start(i, sh("for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.1; done"))
        require(node.server.wait(lambda: all(node.server.logs.get(i) for i in jobs)))
        node.server.close()
        time.sleep(2)
        node.server.open()
        for i in jobs:
            a = require(node.server.ended(i, 20))
            check(a["exit"]["code"] == 0 and len(node.server.lines(i)) == 10)
    with case("the server learns on reconnect what it had forgotten about, from any offset"):
        i = node.id()
        node.server.start(i, sh("seq 1 1000; sleep 60"), grace_us=0)
        require(node.server.wait(lambda: node.server.lines(i)[-1:] == [b"1000"]))
        with node.server.cond:
            del node.server.logs[i][sum(16 + len(b"%d" % n) for n in range(1, 300)):]
        node.server.cut()
        require(node.server.wait(lambda: node.server.lines(i)[-1:] == [b"1000"]))
        node.server.tell(type="stop", id=i, reason="cancelled", grace_us=0)
        require(node.server.ended(i))
        check(node.server.lines(i) == [b"%d" % n for n in range(1, 1001)])
    with case("samples come at the pace the server set, with believable numbers"):
        n = len(node.server.samples)
        require(node.server.wait(lambda: len(node.server.samples) >= n + 5, 5))
        s = node.server.samples[-1]
        check(s["simulated"] is True and len(s["gpus"]) == 4, s)
        check(s["host"]["memory_total_mib"] > s["host"]["memory_used_mib"] > 0, s["host"])
        check(s["host"]["disk_total_mib"] > 0 and 0 <= s["host"]["cpu_percent"] <= 100, s["host"])
    with case("nonsense from the server changes nothing"):
        for text in (b"{", b"[]", b"{}", b'{"type":"start"}', b'{"type":"start","attempt":{"id":"x"}}',
                     b'{"type":"stop","id":-4}', b'{"type":"log_ack","id":1e99,"offset":2}',
                     b'{"type":"welcome","node":1,"sample_ms":0}', b'{"type":"fly","id":3}',
                     b'{"type":"log_from","id":987654,"offset":12}', b'{"type":"forget","id":987654}'):
            node.server.link.send(1, text)
        node.server.link.send(2, b"\0\1\2")
        i, a, x = node.run(sh("exit 2"))
        check(x["code"] == 2)


def restarts(node):
    with case("a new agent finds its jobs again: running, ended meanwhile, and not yet started"):
        out = os.path.join(node.home, "again")
        long, short = node.id(), node.id()
        node.server.start(long, sh(f"echo long >>{out}; echo a; sleep 3; echo b; exit 4"))
        node.server.start(short, sh(f"echo short >>{out}; echo c; sleep 0.5; echo d"))
        require(node.server.wait(lambda: node.server.lines(long) and node.server.lines(short)))
        node.kill()
        time.sleep(1)
        node.up()
        for i, lines, code in ((long, [b"a", b"b"], 4), (short, [b"c", b"d"], 0)):
            a = require(node.server.ended(i))
            check(a["exit"]["reason"] == "exited" and a["exit"]["code"] == code, a)
            check(node.server.lines(i) == lines)
        check(sorted(open(out).read().split()) == ["long", "short"])
    with case("a second agent on the same folder leaves"):
        p = subprocess.run([AGENT, "--server", "unix:/nowhere", "--data", node.data, "--gpu", "none"],
                           stderr=subprocess.PIPE, timeout=10)
        check(p.returncode == 75 and b"already runs" in p.stderr, p)
    with case("kill -9 of a shim: its tree is killed and the attempt is lost, once"):
        mark = f"{92000 + os.getpid()}"
        i = node.id()
        node.server.start(i, sh(f"echo up; setsid sleep {mark} & (trap '' TERM; sleep {mark}) & sleep {mark}"))
        require(node.server.wait(lambda: node.server.lines(i) == [b"up"], 5))
        os.kill(node.shim(i), signal.SIGKILL)
        a = require(node.server.ended(i))
        check(a["exit"]["reason"] == "supervisor_lost", a)
        check(not [p for p in processes() if mark in command(p)])
    with case("kill -9 of shim and agent together"):
        mark = f"{93000 + os.getpid()}"
        i = node.id()
        node.server.start(i, sh(f"echo up; setsid sleep {mark} & sleep {mark}"))
        require(node.server.wait(lambda: node.server.lines(i) == [b"up"], 5))
        shim = node.shim(i)
        node.kill()
        os.kill(shim, signal.SIGKILL)
        node.up()
        a = require(node.server.ended(i))
        check(a["exit"]["reason"] == "supervisor_lost", a)
        check(not [p for p in processes() if mark in command(p)])
    with case("kill -9 of the launcher: running jobs do not notice, new ones start"):
        i = node.id()
        node.server.start(i, sh("echo up; sleep 1; exit 8"))
        require(node.server.wait(lambda: node.server.lines(i) == [b"up"], 5))
        os.kill(node.launcher(), signal.SIGKILL)
        j, a, x = node.run(sh("exit 2"))
        check(x["code"] == 2, x)
        a = require(node.server.ended(i))
        check(a["exit"]["code"] == 8, a)
    with case("a request that waits in a launcher which nobody needs any more starts nothing twice"):
        out, asked = os.path.join(node.home, "waits"), []
        for end in ("killed", "late"):
            i = node.id()
            asked.append(str(i))
            launcher = node.launcher()
            os.kill(launcher, signal.SIGSTOP)
            node.server.start(i, sh(f"echo {i} >>{out}"))
            require(node.server.state(i, "accepted"))
            time.sleep(0.1)
            if end == "killed":
                os.kill(launcher, signal.SIGKILL)
            else:
                node.kill()
                node.up()
            a = require(node.server.ended(i))
            check(a["exit"]["reason"] == "exited", a)
            if end == "late":
                os.kill(launcher, signal.SIGCONT)
                until(lambda: (proc_stat(launcher) or {"state": "Z"})["state"] == "Z",
                      what="the old launcher's end")
        check(open(out).read().split() == asked, open(out).read(), asked)
    with case("an attempt of an earlier boot is not run again"):
        i = node.id()
        node.server.start(i, ["sleep", "60"])
        require(node.server.state(i, "running"))
        shim = node.shim(i)
        node.kill()
        os.kill(shim, signal.SIGKILL)
        with open(f"{node.data}/agent/journal", "r+b") as f:
            data = bytearray(f.read())
            for at in range(0, len(data), 64):
                if int.from_bytes(data[at + 8:at + 16], "little") == i:
                    data[at + 24:at + 60] = b"00000000-0000-0000-0000-000000000000"
                    data[at + 4:at + 8] = bytes(4)
                    data[at + 4:at + 8] = zlib.crc32(bytes(data[at:at + 64])).to_bytes(4, "little")
            f.seek(0)
            f.write(data)
        node.up()
        a = require(node.server.ended(i))
        check(a["exit"]["reason"] == "node_rebooted", a)


def traced(pid, step):
    """Kills the next process that comes to this system call, `pid` or a child of it, once."""
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + step, "-e",
                               f"inject={step}:signal=KILL:when=1", "-p", str(pid)],
                              stderr=subprocess.DEVNULL)
    end = time.monotonic() + 5
    while time.monotonic() < end and tracer.poll() is None:
        with open(f"/proc/{pid}/status") as f:
            if f"TracerPid:\t{tracer.pid}\n" in f.read():
                return tracer
        time.sleep(0.01)
    tracer.kill()
    tracer.wait()
    return None


SHIM_STEPS = ("setsid", "signalfd4", "fallocate", "linkat", "mkdir", "epoll_create1", "clone3",
              "epoll_wait", "wait4", "getrusage", "pwrite64", "renameat")
AGENT_STEPS = ("mkdirat", "renameat", "pwrite64", "fdatasync", "inotify_add_watch", "sendto",
               "pidfd_open", "inotify_rm_watch", "unlinkat")


def each_step(node):
    name = "kill -9 of shim and agent at each of their steps: at most one run, one end"
    launcher = node.launcher()
    tracer = traced(launcher, "sethostname") if shutil.which("strace") else None
    if tracer is None:
        return skip(name, "strace is not there or may not trace")
    tracer.terminate()
    tracer.wait()
    with case(name):
        out, ends = os.path.join(node.home, "steps"), {}
        for who, steps in (("shim", SHIM_STEPS), ("agent", AGENT_STEPS)):
            for step in steps:
                empty(node)
                i = node.id()
                job = sh(f"echo {i} >>{out}; echo a{i}; sleep 0.15; echo b{i}")
                tracer = require(traced(node.launcher() if who == "shim" else node.process.pid, step))
                node.server.start(i, job)
                if who == "shim":
                    time.sleep(0.4)
                    tracer.terminate()
                else:
                    try:
                        node.process.wait(3)
                    except subprocess.TimeoutExpired:
                        tracer.terminate()
                        node.kill()
                    node.server.cut()
                    tracer.wait()
                    node.up()
                    if i not in node.server.attempts:
                        node.server.start(i, job)
                tracer.wait()
                a = require(node.server.ended(i, 20), step, node.server.attempts.get(i))
                reason = a["exit"]["reason"]
                ends[f"{who} {step}"] = reason
                check(reason == "exited" or (who == "shim" and reason == "supervisor_lost"), step, a)
                check(reason != "exited" or node.server.lines(i) == [b"a%d" % i, b"b%d" % i], step)
        ran = open(out).read().split()
        check(len(ran) == len(set(ran)), "run twice: %r" % [r for r in ran if ran.count(r) > 1])
        lost = [s for s, r in ends.items() if r != "exited"]
        note(f"{len(ends)} steps; after {', '.join(lost)} the attempt was lost, after the others it ran")


def random_kills(node, rounds):
    with case(f"{rounds} rounds of kill -9 at random moments: run at most once, end exactly once"):
        rng, out = random.Random(7), os.path.join(node.home, "ran")
        killed, lost_shims, alive_logs = {"agent": 0, "shim": 0, "launcher": 0, "link": 0}, set(), []
        for turn in range(rounds):
            jobs = [node.id() for _ in range(4)]
            for i in jobs:
                node.server.start(i, sh(f"echo {i} >>{out}; echo a{i}; sleep 0.{rng.randrange(1, 4)}; echo b{i}"))
            time.sleep(rng.choice((0, 0.001, 0.004, 0.01, 0.03, 0.1, 0.3)) * rng.random())
            victim = rng.choice(("agent", "shim", "launcher", "link"))
            if victim == "shim":
                i = rng.choice(jobs)
                pid = node.shim(i)
                if pid:
                    lost_shims.add(i)
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
            elif victim == "launcher":
                pid = node.launcher()
                if pid:
                    os.kill(pid, signal.SIGKILL)
            elif victim == "link":
                node.server.cut()
            else:
                node.kill()
                node.up()
            killed[victim] += 1
            require(node.server.connected())
            alive_logs += jobs
            for i in alive_logs:      # a server says again what was never accepted
                if i not in node.server.attempts:
                    node.server.start(i, sh(f"echo {i} >>{out}; echo a{i}; sleep 0.1; echo b{i}"))
        for i in alive_logs:
            a = node.server.ended(i, 20)
            if not check(a, f"attempt {i}: {node.server.attempts.get(i)}"):
                continue
            good = a["exit"]["reason"] == "exited" and node.server.lines(i) == [b"a%d" % i, b"b%d" % i]
            check(good or (i in lost_shims and a["exit"]["reason"] == "supervisor_lost"), a,
                  node.server.lines(i))
        ran = open(out).read().split()
        check(len(ran) == len(set(ran)), "run twice: %r" % [r for r in ran if ran.count(r) > 1])
        note(f"{killed}, {len(alive_logs)} attempts, {len(set(ran))} ran")


def full_disk():
    name = "a full disk: the job goes on, what is lost is counted, how it ended is not lost"
    mount = tempfile.mkdtemp(prefix="drover-small-")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", mount],
                      stderr=subprocess.DEVNULL).returncode:
        os.rmdir(mount)
        return skip(name, "no right to mount a small tmpfs")
    try:
        with Node(data=os.path.join(mount, "data")) as node, case(name):
            with node.server.cond:
                node.server.acking = False     # nothing is freed
            i = node.id()
            node.server.start(i, sh("seq 1 2000000; exit 11"))
            a = require(node.server.state(i, "ended", seconds=30))
            check((a["exit"]["reason"], a["exit"]["code"]) == ("exited", 11), a)
            j = node.id()
            node.server.start(j, ["true"])
            b = node.server.state(j, "refused", "ended", seconds=20)
            check(b, "neither refused nor run on a full disk")
            with node.server.cond:
                node.server.acking = True
                for attempt, n in node.server.unacked.items():
                    node.server.tell(type="log_ack", id=attempt, offset=n)
            a = require(node.server.ended(i, 20))
            told = [t for s, _, t in node.server.records(i) if s == 3]
            dropped = sum(int(t.split()[0]) for t in told if b"were dropped" in t)
            if not told:
                dropped = int(a["exit"]["detail"].split("; ")[1].split()[0])
            kept = sum(len(t) + 1 for s, f, t in node.server.records(i) if s == 1)
            whole = sum(len(str(n)) + 1 for n in range(1, 2000001))
            check(kept + dropped == whole, kept, dropped, whole, a, told)
            k, c, x = node.run(sh("echo well; exit 0"))
            check(x["code"] == 0 and node.server.lines(k) == [b"well"], x)
            empty(node)
    finally:
        for _ in range(50):
            if subprocess.run(["umount", mount], stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.1)
        os.rmdir(mount)


def empty(node):
    end = time.monotonic() + 10
    while node.gone() and time.monotonic() < end:
        time.sleep(0.05)
    left = node.gone()
    require(not left, *left, *[str(node.server.attempts.get(int(f.split()[1]))) for f in left
                               if f.startswith("folder")])


def nothing_left(node):
    with case("nothing is left: no process, zombie, folder, cgroup or descriptor"):
        empty(node)
        check(not node.groups(), node.groups())
        check(not node.zombies(), node.zombies())
        fds = os.listdir(f"/proc/{node.process.pid}/fd")
        check(len(fds) < 24, sorted(os.readlink(f"/proc/{node.process.pid}/fd/{f}") for f in fds))
        launcher = node.launcher()
        check(len(os.listdir(f"/proc/{launcher}/fd")) <= 6)
        check(node.down() == 0)
        until(lambda: not [p for p in processes() if node.data in command(p)], what="no process")
        check(not node.groups())


def unprivileged():
    name = "without privileges: no cgroups, but trees still end whole"
    if os.geteuid() != 0 or os.environ.get("AGENT_TEST_UNPRIVILEGED") == "0" or not shutil.which("setpriv"):
        return skip(name, "needs root to become somebody else")
    home = tempfile.mkdtemp(prefix="drover-nobody-")
    os.chown(home, 65534, 65534)
    # The build folder may lie where that user cannot go.
    for f in (AGENT, SHIM):
        shutil.copy(f, home)
    wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    try:
        with case(name):
            own = globals()["AGENT"]
            globals()["AGENT"] = os.path.join(home, "drover-agent")
            try:
                node = Node(data=os.path.join(home, "data"), wrapper=wrapper)
                os.chown(node.data, 65534, 65534)
                with node:
                    check(node.server.hellos[-1]["node"]["enforces"] == [], node.server.hellos[-1])
                    i, a, x = node.run(sh("id -u; pwd; exit 3"))
                    check(x["code"] == 3 and node.server.lines(i)[0] == b"65534", a)
                    mark = f"{94000 + os.getpid()}"
                    for end in ("exit", "stop", "shim"):
                        i = node.id()
                        node.server.start(i, sh(f"setsid sh -c 'trap \"\" TERM; sleep {mark}; sleep {mark}' & "
                                                f"(sleep {mark} &); echo up; "
                                                + ("sleep 0.1" if end == "exit" else f"sleep {mark}")),
                                          grace_us=200000)
                        require(node.server.wait(lambda: node.server.lines(i) == [b"up"], 5))
                        if end == "stop":
                            node.server.tell(type="stop", id=i, reason="cancelled", grace_us=200000)
                        elif end == "shim":
                            time.sleep(0.1)
                            os.kill(node.shim(i), signal.SIGKILL)
                        a = require(node.server.ended(i))
                        want = {"exit": "exited", "stop": "cancelled", "shim": "supervisor_lost"}[end]
                        check(a["exit"]["reason"] == want, a)
                        check(not [p for p in processes() if mark in command(p)])
                    empty(node)
            finally:
                globals()["AGENT"] = own
    finally:
        shutil.rmtree(home, ignore_errors=True)


def leaving():
    with case("bye: a local agent leaves when it is idle, and stays while a job runs"):
        with Node() as node:
            node.down()
            node.up("--local")
            i = node.id()
            node.server.start(i, sh("echo up; sleep 1"))
            require(node.server.wait(lambda: node.server.lines(i) == [b"up"], 5))
            node.server.tell(type="bye")
            time.sleep(0.2)         # it is on its way by then
            node.server.close()
            time.sleep(0.3)
            check(node.process.poll() is None)
            check(node.process.wait(5) == 0)
            node.server.open()
            node.up("--local")      # what ended meanwhile is told by the next one
            check(node.server.ended(i)["exit"]["code"] == 0)
            node.server.tell(type="bye")
            check(node.process.wait(5) == 0)


def no_gpu():
    with case("a host without a driver says so in its first word"):
        with Node(gpu="nvml") as node:
            hello, driver = node.server.hellos[0]["node"], os.path.exists("/proc/driver/nvidia")
            check(driver or hello["gpu_note"], hello)
            require(node.server.wait(lambda: node.server.samples, 10))
            check(driver or node.server.samples[0]["gpus"] == [], node.server.samples[0])
            note(hello["gpu_note"])


def speed():
    with case("launches of /bin/true"), Node(sample_ms=1000) as node:
        n = 300
        begin = time.monotonic()
        ids = [node.id() for _ in range(n)]
        for i in ids:
            node.server.start(i, ["/bin/true"])
        check(all(node.server.ended(i, 30) for i in ids))
        took = time.monotonic() - begin
        with open(f"/proc/{node.process.pid}/status") as f:
            rss = next(l.split()[1] for l in f if l.startswith("VmRSS"))
        i = node.id()
        node.server.start(i, ["sleep", "60"])
        require(node.server.state(i, "running"))
        with open(f"/proc/{node.shim(i)}/status") as f:
            shim = next(l.split()[1] for l in f if l.startswith("VmRSS"))
        note(f"{n / took:.0f} jobs/s from start to ended report; agent {rss} KiB, shim {shim} KiB "
             f"resident, {os.path.getsize(SHIM) >> 10} KiB on disk")
        if "asan" not in BUILD:
            check(int(rss) < 10 << 10, f"agent uses {rss} KiB")
        check(int(shim) < 2 << 10)
        node.server.tell(type="stop", id=i, reason="cancelled", grace_us=0)
        node.server.ended(i)


def main():
    only = sys.argv[1:]
    parts = {"exits": exits, "endings": endings, "output": output, "link": link, "restarts": restarts,
             "steps": each_step, "random": lambda node: random_kills(node, ROUNDS)}
    with Node() as node:
        for name, part in parts.items():
            if not only or name in only:
                part(node)
        nothing_left(node)
    for name, part in (("disk", full_disk), ("nobody", unprivileged), ("leaving", leaving), ("nogpu", no_gpu),
                       ("speed", speed)):
        if not only or name in only:
            part()
    finish()


main()
