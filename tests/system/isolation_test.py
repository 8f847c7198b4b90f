"""A hostile job against its cell: every attempt must fail, and the job itself ends normally. As root
(jobs get users of their own) and as an ordinary user (a user namespace), each as far as the node says
that it isolates: as root it runs itself once more as an ordinary user."""
import json
import os
import shutil
import stat
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import DROVER, Server, case, check, finish, note, require, until  # noqa: E402

ROOT = os.geteuid() == 0

HOSTILE = r'''
import ctypes, json, os, signal, socket, stat, subprocess, sys
data, agent_pid, victim_pid, folder, drover, gpu_ok, gpu_no = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
got = {}
def attempt(name, fn):
    try:
        got[name] = bool(fn())
    except OSError as e:
        got[name] = False
def reads(path):
    return lambda: open(path, "rb").read(1) or True
def lists(path):
    return lambda: os.listdir(path)
def call(*a):
    r = libc.syscall(*a)
    if r < 0:
        raise OSError(ctypes.get_errno(), "no")
    return True
def connects():
    s = socket.socket(socket.AF_UNIX); s.connect(data + "/drover.sock"); return True
attempt("the server's database", reads(data + "/database.db"))
attempt("the agent's folder", lists(data + "/agent/jobs"))
attempt("the server's log of the agent", reads(data + "/agent.log"))
attempt("the server's socket", connects)
def cli():
    r = subprocess.run([drover, "ps", "--all"], env={"PATH": os.environ["PATH"], "DROVER_URL": "unix:" + data + "/drover.sock"}, capture_output=True)
    return r.returncode == 0
attempt("the owner's rights by the command line", cli)
attempt("the processes of the host", lambda: [p for p in os.listdir("/proc") if p.isdigit() and int(p) in (agent_pid, victim_pid)])
attempt("another job's environment", lambda: b"VICTIM_SECRET" in open("/proc/%d/environ" % victim_pid, "rb").read())
def any_secret():
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                if b"VICTIM_SECRET" in open("/proc/%s/environ" % p, "rb").read(): return True
            except OSError: pass
    return False
attempt("another job's secret in any process", any_secret)
attempt("killing the agent", lambda: os.kill(agent_pid, 9) is None)
attempt("killing another job", lambda: os.kill(victim_pid, 9) is None)
attempt("tracing the agent", lambda: libc.ptrace(16, agent_pid, 0, 0) == 0)
attempt("a device node", lambda: os.mknod("/tmp/sda" , stat.S_IFBLK | 0o600, os.makedev(8, 0)) is None)
attempt("a mount", lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0)
attempt("uncovering what is covered", lambda: libc.umount2(data.encode(), 2) == 0)
attempt("a user namespace", lambda: libc.unshare(0x10000000) == 0)
attempt("a mount namespace", lambda: libc.unshare(0x00020000) == 0)
attempt("the namespaces of the host", lambda: libc.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0) == 0)
attempt("a bpf program", lambda: call(321, 0, 0, 0))
attempt("a kernel keyring", lambda: call(250, 0, -3, 1))
attempt("userfaultfd", lambda: call(323, 0))
attempt("a reboot", lambda: libc.reboot(0x89ABCDEF) == 0)
attempt("the host's name", lambda: libc.sethostname(b"pwned", 5) == 0)
def groups():
    wrote = False
    for line in open("/proc/self/cgroup"):
        _, names, path = line.strip().split(":", 2)
        for root in ("/sys/fs/cgroup/" + names.replace("name=", ""), "/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
            for up in (root, root + os.path.dirname(path)):
                try:
                    open(up + "/cgroup.procs", "w").write(str(os.getpid())); wrote = True
                except OSError: pass
    return wrote
attempt("another control group", groups)
attempt("a GPU that it does not hold", lambda: os.stat("/dev/" + gpu_no))
def root():
    r = subprocess.run(["su", "-c", "id -u", "root"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    r2 = subprocess.run(["setpriv", "--reuid", "0", "id", "-u"], capture_output=True, text=True)
    return os.getuid() != 0 and "0" in (r.stdout.split() + r2.stdout.split())
attempt("root by a set-user-ID program", root)
attempt("another job's folder", lambda: open(folder + "/stolen", "w"))
attempt("the shadow file", reads("/etc/shadow"))
for name, ok in sorted(got.items()):
    print("GOT" if ok else "no", name)
print("uid", os.getuid(), "nnp", [l.split()[1] for l in open("/proc/self/status") if l.startswith("NoNewPrivs")][0])
'''


def plain_user():
    """The same again as an ordinary user, if the kernel lets one make namespaces."""
    home = "/tmp/drover-isolation-%d" % os.getpid()
    os.makedirs(home)
    os.chown(home, 65534, 65534)
    try:
        r = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable, __file__],
                           env={**os.environ, "TMPDIR": home, "HOME": home}, capture_output=True, text=True, timeout=100)
        note(r.stdout)
        check(r.returncode == 0, r.stdout, r.stderr)
    finally:
        shutil.rmtree(home, ignore_errors=True)


with Server(env={"JOB_ISOLATION": "strict"}) as server:
    until(lambda: server.get("/v1/nodes").json["items"], what="the node")
    node = server.get("/v1/nodes").json["items"][0]
    holds = node["isolation"]
    note(f"in force as uid {os.geteuid()}: {' '.join(holds)}")

    def job(command, **more):
        answer = server.post("/v1/jobs", {"command": command, **more})
        require(answer.status == 201, answer)
        return answer.json["id"]

    def text(i):
        return server.get(f"/v1/jobs/{i}/log.txt").text

    with case("the node says what holds, and it does"):
        i = job(["sh", "-c", "id -u; grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd)' /proc/self/status; ls -d /proc/[0-9]* | wc -l"])
        server.wait_job(i)
        seen = until(lambda: "CapEff" in text(i) and text(i), what="its output")
        check(("user" in holds) == (seen.split()[0] != str(os.geteuid())), seen)
        check(("no_new_privs" in holds) == ("NoNewPrivs:\t1" in seen) and ("seccomp" in holds) == ("Seccomp:\t2" in seen), seen)
        check(("capabilities" in holds) == ("CapEff:\t0000000000000000" in seen), seen)
        check(("pid" in holds) == (int(seen.split()[-1]) < 10), seen)
        if ROOT:
            check({"user", "mount", "pid", "ipc", "devices", "tmp", "no_new_privs", "capabilities", "seccomp"} == set(holds), holds)

    with case("a hostile job gets nothing and ends normally"):
        victim = job(["sh", "-c", "touch $PWD/mine; sleep 60"], env={"VICTIM_SECRET": "1"})
        until(lambda: server.get(f"/v1/jobs/{victim}").json["state"] == "running", what="the victim")
        pids = [int(p) for p in os.listdir("/proc") if p.isdigit()]
        args = {p: open(f"/proc/{p}/cmdline", "rb").read() for p in pids if os.path.exists(f"/proc/{p}/cmdline")}
        agent = [p for p, c in args.items() if b"drover-agent" in c and server.data.encode() in c][0]
        sleeping = [p for p, c in args.items() if c == b"sleep\x0060\x00"][-1]
        facts = [os.path.realpath(server.data), agent, sleeping, server.data + "/agent/jobs", DROVER, "null", "kmsg"]
        i = job([sys.executable, "-c", HOSTILE, json.dumps(facts)])
        ended = server.wait_job(i)
        until(lambda: server.get(f"/v1/jobs/{i}/log").json["complete"], what="its output")
        seen = text(i)
        require("nnp" in seen, seen)
        got = {l[4:] for l in seen.splitlines() if l.startswith("GOT ")}
        tried = sum(l.startswith(("GOT ", "no ")) for l in seen.splitlines())
        allowed = set()
        if "mount" not in holds:     # the kernel gives an ordinary user no namespaces: the node does not claim any
            allowed = {g for g in got}
        check(got <= allowed, got)
        check(tried >= 25 and ended["state"] == "completed" and "nnp 1" in seen, tried, ended, seen)
        check(server.get(f"/v1/jobs/{victim}").json["state"] == "running")
        server.post(f"/v1/jobs/{victim}/cancel", {"grace_s": 1})
        check(server.wait_job(victim)["state"] == "cancelled")

    with case("what is started inside a job is bound as the job is"):
        of_self = "id -u; grep -E '^(NoNewPrivs|Seccomp|CapEff|CapPrm|CapBnd):' /proc/self/status; ls -A /tmp"
        i = job(["sh", "-c", f"touch /tmp/of-the-job; {of_self}; sleep 60"])
        own = until(lambda: "of-the-job" in text(i) and text(i), what="its output")
        r = server.cli("exec", i, "--", "sh", "-c", of_self)
        check(r.returncode == 0 and r.stdout == own, r, own)
        r = server.cli("exec", i, "--", sys.executable, "-c",
                       "import ctypes; print(ctypes.CDLL(None).unshare(0x10000000))")
        check("seccomp" not in holds or r.stdout == "-1\n", r)
        server.post(f"/v1/jobs/{i}/cancel", {"grace_s": 1})
        server.wait_job(i)

    with case("exit codes, signals and a stop are what they are without a cell"):
        codes = [server.wait_job(job(["sh", "-c", c])) for c in ("exit 7", "kill -SEGV $$", "(sleep 300 &) ; exit 0")]
        check([c["exit_code"] for c in codes] == [7, None, 0] and codes[1]["signal"] == 11, codes)
        i = job(["sleep", "300"])
        until(lambda: server.get(f"/v1/jobs/{i}").json["state"] == "running", what="the job")
        server.post(f"/v1/jobs/{i}/cancel", {"grace_s": 30})
        check(server.wait_job(i, seconds=20)["ran_s"] < 20)

    with case("its temporary folder is its own and goes with it; what it prints by /dev/stdout arrives"):
        i = job(["sh", "-c", "ls -A /tmp; echo x > /tmp/left; echo here > /dev/stdout"])
        server.wait_job(i)
        until(lambda: "here" in text(i), what="its output")
        if "tmp" in holds:
            check(text(i) == "here\n" and not os.path.exists("/tmp/left"), text(i))

    with case("too many processes and too much memory end in the job"):
        i = job([sys.executable, "-c", "import os,sys\nn=0\ntry:\n while n < 200000:\n  if os.fork()==0:\n   import time; time.sleep(30); os._exit(0)\n  n+=1\nexcept OSError as e: print('stopped', n)\n"], time_limit_s=60)
        ended = server.wait_job(i, seconds=90)
        if ROOT or "pids" in node["enforces"]:
            check("stopped" in until(lambda: text(i), what="its output") and ended["state"] == "completed", ended, text(i))
        if "memory" in node["enforces"]:
            ended = server.wait_job(job([sys.executable, "-c", "x = bytearray(1 << 30)"], memory_mib=64))
            check(ended["end_reason"] == "out_of_memory", ended)

    if ROOT:
        with case("somebody at the host's terminal works in their folder, and cannot leave a set-user-ID file there"):
            work = os.path.join(server.home, "work")
            os.makedirs(work)
            open(os.path.join(work, "mine"), "w").write("text\n")
            os.chmod(server.home, 0o700)
            r = server.cli("submit", "--wait", "--follow", "--cwd", work, "--", "sh", "-c",
                           "cat mine && echo out > result && cp /bin/true t && ! chmod 4755 t && id -u")
            check(r.returncode == 0 and "text" in r.stdout and "1900000000" in r.stdout, r)
            made = os.path.join(work, "result")
            check(os.path.exists(made) and not os.stat(os.path.join(work, "t")).st_mode & stat.S_ISUID, os.listdir(work))
if ROOT:
    with case("the same as an ordinary user"):
        plain_user()
finish()
