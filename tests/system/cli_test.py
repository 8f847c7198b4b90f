"""The command line against a stand-in for the native API: which requests leave it, what it prints, how
it ends. What a real server answers is tested elsewhere; here also what a server rarely does: lost
answers, broken streams, rotated credentials, foreign services on the port."""
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fake_native import FakeNative                                  # noqa: E402
from lib import DROVER, case, check, finish, free_port, require, until   # noqa: E402

HOME = tempfile.mkdtemp(prefix="drover-cli-")


def environment(fake, **more):
    env = {"PATH": os.environ["PATH"], "HOME": HOME, "LC_ALL": "C.UTF-8", "TERM": "xterm", "TZ": "UTC"}
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
        if name in os.environ:
            env[name] = os.environ[name]
    if fake is not None:
        env["DROVER_URL"] = fake if isinstance(fake, str) else fake.url
    env.update(more)
    return {k: v for k, v in env.items() if v is not None}


def run(fake, *words, stdin="", cwd=None, **env):
    return subprocess.run([DROVER, *words], env=environment(fake, **env), input=stdin, cwd=cwd or HOME,
                          capture_output=True, text=True, timeout=60)


def on_terminal(fake, words, columns=80, keys=(), seconds=15, **env):
    """Runs it on a pseudo-terminal; keys: [(text or truth to wait for, what to type)]. Gives (text, exit code)."""
    env = environment(fake, **env)
    pid, fd = pty.fork()
    if pid == 0:
        try:
            os.execve(DROVER, [DROVER, *words], env)
        finally:
            os._exit(127)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    text, keys, deadline = "", list(keys), time.monotonic() + seconds
    while time.monotonic() < deadline:
        if keys and (keys[0][0]() if callable(keys[0][0]) else keys[0][0] in text):
            os.write(fd, keys.pop(0)[1].encode())
        if select.select([fd], [], [], 0.05)[0]:
            try:
                part = os.read(fd, 65536)
            except OSError:
                break
            if not part:
                break
            text += part.decode("utf-8", "replace")
    else:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    return text.replace("\r\n", "\n"), os.waitstatus_to_exitcode(status)


def jobs_of(fake):
    fake.add_job(21, name="resnet", gpus=2, gpu_type=["RTX4090"], reason="GPUs: 1 of 2 free, next at 14:32")
    fake.add_job(20, name="数据预处理", state="running", gpus=1, gpu_type=["RTX4090"], node_name="n-02", ran_s=1084.2,
                 waited_s=2, reason="epoch 2/3  loss 0.412")
    fake.add_job(19, name="sweep", state="failed", exit_code=3, reason="exit code 3", ran_s=10)


with case("submit sends the job, prints one line, and the id as JSON"), FakeNative() as fake:
    r = run(fake, "submit", "--gpus", "2", "--gpu-type", "RTX4090,A6000", "--name", "resnet", "--time", "2h", "--memory", "4G",
            "--env", "A=1", "--label", "team=vision", "--priority", "high", "--retries", "2", "--cpus", "4", "--", "python3", "t.py", "--x")
    check(r.returncode == 0, r)
    check(r.stdout == "job j-17  resnet  queued  2 x RTX4090…  GPUs: 1 of 2 free\n", r)
    sent = fake.requests[-1]
    check(sent.method == "POST" and sent.path == "/v1/jobs", sent.target)
    check(sent.json == {"name": "resnet", "command": ["python3", "t.py", "--x"], "env": {"A": "1"}, "gpus": 2,
                        "gpu_type": ["RTX4090", "A6000"], "cpus": 4, "memory_mib": 4096, "time_limit_s": 7200,
                        "priority": "high", "retries": 2, "labels": {"team": "vision"}}, sent.json)
    check(re.fullmatch("[0-9a-f-]{36}", sent.headers["Idempotency-Key"]), sent.headers)
    r = run(fake, "submit", "--json", "--idempotency-key", "mine", "--", "true")
    check(json.loads(r.stdout)["id"] == "j-18" and fake.requests[-1].headers["Idempotency-Key"] == "mine", r)

with case("over the local socket a job runs where its submitter stands"), FakeNative(unix=True) as fake:
    r = run(fake, "submit", "--", "true")
    check(r.returncode == 0 and fake.requests[-1].json["cwd"] == os.path.realpath(HOME), r, fake.requests[-1].json)
    run(fake, "submit", "--cwd", "/srv", "--", "true")
    check(fake.requests[-1].json["cwd"] == "/srv")
    run(fake, "submit", "--image", "x", "--", "true")
    check("cwd" not in fake.requests[-1].json)

with case("the first socket that is there is the server"), FakeNative(unix=True) as fake:
    jobs_of(fake)
    r = run(None, "ps", "-q", "--all", DROVER_DATA=fake.home)
    check(r.stdout == "j-21\nj-20\nj-19\n", r)
    os.makedirs(os.path.join(fake.home, "here/data"))
    os.symlink(fake.path, os.path.join(fake.home, "here/data/drover.sock"))
    r = run(None, "ps", "-q", cwd=os.path.join(fake.home, "here"))
    check(r.stdout == "j-20\nj-21\n", r)

with case("a lost answer does not make a second job"), FakeNative() as fake:
    fake.fail = [("drop-after", 1), ("drop", 1), (503, 1)]
    r = run(fake, "submit", "--json", "--", "true")
    check(r.returncode == 0 and json.loads(r.stdout)["id"] == "j-17", r)
    check(len(fake.jobs) == 1 and len(fake.requests) == 4, fake.jobs, len(fake.requests))
    check(len({q.headers["Idempotency-Key"] for q in fake.requests}) == 1)

with case("what must not be repeated is not: a cancel, a new user"), FakeNative() as fake:
    jobs_of(fake)
    fake.fail = [("drop-after", 1)]
    r = run(fake, "user", "add", "x@example.com")
    check(r.returncode == 3 and len(fake.users) == 1, r, fake.users)

with case("a job file, its faults with their line, options over it"), FakeNative() as fake:
    path = os.path.join(HOME, "job.yaml")
    with open(path, "w") as f:
        f.write("name: file\ncommand: [python3, t.py]\ngpus: 1\ntime: 2h\n")
    r = run(fake, "submit", "job.yaml", "--gpus", "2")
    check(r.returncode == 0 and fake.requests[-1].json == {
        "name": "file", "command": ["python3", "t.py"], "gpus": 2, "time_limit_s": 7200}, r, fake.requests[-1].body)
    with open(path, "a") as f:
        f.write("gpu: 3\n")
    r = run(fake, "submit", "job.yaml")
    check(r.returncode == 2 and r.stderr.startswith('job.yaml:5: a job has no "gpu". Did you mean gpus?\n'), r)
    r = run(fake, "submit", "nowhere.yaml")
    check(r.returncode == 2 and r.stderr.startswith("reading nowhere.yaml: No such file or directory\n"), r)
    r = run(fake, "submit", "-", stdin="command: make\n")
    check(r.returncode == 0 and fake.requests[-1].json["command"] == ["/bin/sh", "-c", "make"], r)
    r = run(fake, "submit", "job.yaml", "--", "x")
    check(r.returncode == 2 and r.stderr.startswith("give a job file or a command, not both\n"), r)

with case("--follow: the job's output and its streams, state on the way, exit code"), FakeNative() as fake:
    fake.print("j-17", "hello", ("err", "warned"), ("out", "part ", True), "rest", ("system", "9 bytes of output were dropped: disk full"))

    def end():
        until(lambda: "j-17" in fake.jobs and any("/log/stream" in q.path for q in fake.requests))
        fake.jobs["j-17"].update(state="failed", exit_code=3, reason="exit code 3", ran_s=65)
    threading.Thread(target=end).start()
    r = run(fake, "submit", "--follow", "--", "x")
    check(r.returncode == 1, r)
    check(r.stdout == "hello\npart rest\n", r.stdout)
    check(r.stderr == "job j-17  x  queued  GPUs: 1 of 2 free\nwarned\n"
                      "drover: 9 bytes of output were dropped: disk full\n"
                      "job j-17  x  failed  exit code 3  (ran 1:05)\n", r.stderr)

for words, told, code in ((("--follow", "--wait"), {"state": "failed", "exit_code": 3}, 3),
                          (("--wait",), {"state": "failed", "exit_code": None, "signal": 9}, 137),
                          (("--wait",), {"state": "timeout", "exit_code": None}, 1),
                          (("--wait",), {"state": "completed", "exit_code": 0}, 0),
                          (("--wait",), {"state": "cancelled", "exit_code": None}, 1)):
    with case(f"submit {' '.join(words)} of a job that ends {told}: exit code {code}"), FakeNative() as fake:
        threading.Thread(target=lambda: (until(lambda: len(fake.requests) > 1), fake.jobs["j-17"].update(told))).start()
        r = run(fake, "submit", *words, "--", "x")
        check(r.returncode == code, r)

with case("a stream that breaks is taken up where it stopped"), FakeNative() as fake:
    jobs_of(fake)
    fake.print("j-20", *[f"line {i}" for i in range(10)])
    fake.drop_stream_after = 4
    threading.Thread(target=lambda: (until(lambda: fake.requests and "Last-Event-ID" in fake.requests[-1].headers),
                                     fake.jobs["j-20"].update(state="completed", exit_code=0))).start()
    r = run(fake, "logs", "-f", "20")
    check(r.returncode == 0 and r.stdout == "".join(f"line {i}\n" for i in range(10)), r)
    check(fake.requests[-1].headers["Last-Event-ID"] == "300", fake.requests[-1].headers)
    check("the connection to the server was lost; the job goes on" in r.stderr, r.stderr)

with case("Ctrl-C stops following, not the job, and says so"), FakeNative() as fake:
    jobs_of(fake)
    fake.print("j-20", "working")
    text, code = on_terminal(fake, ["logs", "-f", "j-20"], keys=[("working", "\x03")])
    check(code == 130, code, text)
    check("Stopped following; job j-20 goes on." in text and "drover cancel j-20" in text, text)
    check(fake.jobs["j-20"]["state"] == "running" and not any(q.method == "POST" for q in fake.requests))
    began = time.monotonic()
    text, code = on_terminal(fake, ["wait", "j-20"], keys=[(lambda: fake.requests[-1].path == "/v1/jobs/j-20/wait", "\x03")])
    check(code == 130 and time.monotonic() - began < 5, code, text)

with case("logs: all pages, the tail, one stream, since; as JSON lines"), FakeNative() as fake:
    jobs_of(fake)
    fake.print("j-20", *[("err" if i % 500 == 0 else "out", f"line {i}") for i in range(2500)])
    r = run(fake, "logs", "j-20")
    check(r.stdout.count("\n") == 2495 and r.stderr.count("\n") == 5, r.stdout[-200:], r.stderr)
    check([q.query["offset"] for q in fake.requests] == ["0", "100000", "200000"], [q.target for q in fake.requests])
    r = run(fake, "logs", "--tail", "3", "20")
    check(r.stdout == "line 2497\nline 2498\nline 2499\n", r)
    r = run(fake, "logs", "--stderr", "20")
    check(r.stdout == "" and r.stderr == "".join(f"line {i}\n" for i in range(0, 2500, 500)), r)
    r = run(fake, "logs", "--since", "2026-11-23T08:00:00Z", "20")
    check(r.stdout == "", r.stdout)
    r = run(fake, "logs", "--since", "yesterday", "20")
    check(r.returncode == 2, r)
    r = run(fake, "logs", "--tail", "2", "--json", "20")
    check([json.loads(line)["n"] for line in r.stdout.splitlines()] == [2499, 2500], r)

with case("ps: a table, what is active, all, states, JSON, nothing"), FakeNative() as fake:
    r = run(fake, "ps")
    check(r.returncode == 0 and r.stdout.startswith("No jobs yet. Run one: drover submit"), r)
    jobs_of(fake)
    r = run(fake, "ps")
    check(r.stdout == "ID    NAME        STATE    GPUS         NODE    RAN  WAITED  WHY\n"
                      "j-20  数据预处理  running  1 x RTX4090  n-02  18:04      2s  epoch 2/3  loss 0.412\n"
                      "j-21  resnet      queued   2 x RTX4090  –         –     12s  GPUs: 1 of 2 free, next at 14:32\n",
          r.stdout)
    check("\033" not in r.stdout)
    r = run(fake, "ps", "--all", "-q")
    check(r.stdout == "j-21\nj-20\nj-19\n", r)
    r = run(fake, "ps", "--state", "failed", "--json")
    check([j["id"] for j in json.loads(r.stdout)["items"]] == ["j-19"], r)
    r = run(fake, "ps", "--all", "--limit", "2")
    check(r.stdout.count("\n") == 3 and "more than these 2" in r.stderr, r)
    fake.jobs = {k: v for k, v in fake.jobs.items() if k == "j-19"}
    r = run(fake, "ps")
    check("job j-19  sweep  failed  exit code 3  (ran 10s)" in r.stdout, r.stdout)

with case("a table fits the terminal, with colour there and nowhere else"), FakeNative() as fake:
    jobs_of(fake)
    text, code = on_terminal(fake, ["ps", "--all"])
    check(code == 0 and "\033[31mfailed\033[0m" in text, text)
    plain = re.sub("\033\\[[0-9;]*m", "", text)
    check(max(len(line) + sum(ord(c) > 0x2e80 for c in line) for line in plain.splitlines()) <= 80, plain)
    text, code = on_terminal(fake, ["ps", "--all"], NO_COLOR="1")
    check("\033" not in text, text)
    text, code = on_terminal(fake, ["ps", "--all"], TERM="dumb")
    check("\033" not in text, text)
    text, code = on_terminal(fake, ["ps", "--watch"], keys=[("Ctrl-C ends", "\x03")])
    check(code == 0 and "resnet" in text, code, text)
    r = run(fake, "ps", "--watch")
    check(r.returncode == 2, r)

with case("show: facts and timeline; foreign bytes stay harmless"), FakeNative() as fake:
    fake.add_job(5, name="evil\033[2Jname", command=["sh", "-c", "echo it's"], gpus=1, gpu_type=["RTX4090"], time_limit_s=7200,
                 env={"LR": "0.1"}, retries=2)
    fake.events["j-5"] = [{"id": "1", "at": "2026-11-23T07:00:00Z", "type": "job.created", "severity": "info", "actor": "li.na",
                           "summary": "submitted"}]
    r = run(fake, "show", "5")
    check("\033" not in r.stdout and "evil [2Jname" in r.stdout, r.stdout)
    for text in ("why          GPUs: 1 of 2 free\n", "command      sh -c 'echo it'\\''s'\n", "asked for    1 x RTX4090, at most 2:00:00\n",
                 "environment  LR=0.1\n", "attempt      1 of 3\n", "07:00:00  submitted  (li.na)\n"):
        check(text in r.stdout, text, r.stdout)
    r = run(fake, "show", "--json", "j-5")
    check(json.loads(r.stdout)["job"]["id"] == "j-5" and len(json.loads(r.stdout)["events"]) == 1, r)

with case("a wrong id says which job was perhaps meant"), FakeNative() as fake:
    for words in (("show",), ("logs",), ("logs", "-f"), ("cancel",), ("wait",)):
        r = run(fake, *words, "j-99")
        check(r.returncode == 1 and r.stderr.startswith("no job j-99; there are no jobs yet"), words, r)
    jobs_of(fake)
    r = run(fake, "logs", "resn")
    check(r.returncode == 1 and r.stderr == "no job resn. Did you mean j-21 (resnet, queued)?\n", r)
    fake.jobs["j-21"].update(cpus_counted=1, notes=["the memory limit is not enforced on n-01"])
    r = run(fake, "show", "j-21")
    check("no CPUs (1 is counted)" in r.stdout and "note         the memory limit is not enforced on n-01\n" in r.stdout, r.stdout)
    r = run(fake, "show", "j-12")
    check("Did you mean j-21" in r.stderr or "Did you mean j-19" in r.stderr or "Did you mean j-20" in r.stderr, r)
    r = run(fake, "show", "../users")
    check(r.returncode == 1 and "/v1/jobs/..%2Fusers" in [q.target for q in fake.requests], r, [q.target for q in fake.requests][-3:])

with case("cancel and wait take several jobs"), FakeNative() as fake:
    jobs_of(fake)
    r = run(fake, "cancel", "--force", "21", "99", "j-20")
    check(r.returncode == 1 and r.stdout.count("cancelled") >= 2 and "no job j-99" in r.stderr, r)
    check(fake.requests[0].json == {"grace_s": 0} and fake.requests[0].path == "/v1/jobs/j-21/cancel")
    run(fake, "cancel", "20")
    check(fake.requests[-1].json == {}, fake.requests[-1].body)
    r = run(fake, "wait", "19")
    check(r.returncode == 3 and "exit code 3" in r.stdout, r)
    fake.jobs["j-21"]["state"] = "completed"
    r = run(fake, "wait", "21", "19")
    check(r.returncode == 1, r)
    r = run(fake, "wait", "21")
    check(r.returncode == 0, r)

with case("gpus and nodes"), FakeNative() as fake:
    fake.nodes.append({"id": "n-1", "name": "n-01", "state": "online", "agent_version": "0.1.0", "last_seen": None, "cpus": 8,
                       "memory_mib": 65536, "memory_used_mib": 1024, "cpu_percent": 12.0, "gpus": 0, "enforces": ["memory", "kill"],
                       "gpu_note": "the NVIDIA driver is not loaded"})
    r = run(fake, "gpus")
    check(r.returncode == 0 and r.stdout == "No GPUs on n-01: the NVIDIA driver is not loaded\n", r)
    fake.gpus.append({"id": "gpu-000", "node": "n-1", "node_name": "n-01", "index": 0, "name": "NVIDIA GeForce RTX 4090",
                      "type": "RTX4090", "memory_total_mib": 24564, "memory_used_mib": 12000, "utilization": 50.0,
                      "temperature_c": 61, "power_w": 300.4, "state": "leased", "simulated": True, "note": None,
                      "holder": {"kind": "job", "id": "j-20", "name": "sweep", "owner": "li.na", "milli": 1000}})
    r = run(fake, "gpus")
    check(r.stdout == "GPU      NODE    TYPE     STATE   BUSY  MEMORY       TEMP  WATT  HELD BY\n"
                      "gpu-000  n-01:0  RTX4090  leased   50%  11.7G/24.0G  61°C   300  j-20 sweep\n"
                      "These GPUs are simulated.\n", r.stdout)
    text, _ = on_terminal(fake, ["gpus"], columns=120)
    check("████····" in text, text)
    r = run(fake, "gpus", "--json")
    check(json.loads(r.stdout)["items"][0]["id"] == "gpu-000", r)
    r = run(fake, "nodes")
    check("n-1  n-01  online     0  8 (12%)  1G/64G  0.1.0" in r.stdout and "memory kill" in r.stdout, r.stdout)

with case("errors: the server's words, the broken fields, the way out, the exit code"), FakeNative() as fake:
    r = run(fake, "submit", "--gpus", "9", "--", "true")
    check((r.returncode, r.stderr) == (1, "cannot run here: no node has 9 GPUs (the largest, n-01, has 8).\n  Ask for 8 or fewer.\n"), r)
    r = run(fake, "submit", "--", "bad")
    check((r.returncode, r.stderr) == (2, "the job is not valid\n  command: must not be bad\n"), r)
    fake.need_auth = True
    r = run(fake, "ps")
    check((r.returncode, r.stderr) == (4, "sign in first\n  Sign in: drover login\n"), r)
    r = run(fake, "ps", DROVER_TOKEN="drv_bad")
    check(r.returncode == 4 and "DROVER_TOKEN is set and not accepted" in r.stderr, r)
    r = run(fake, "ps", DROVER_TOKEN="drv_good")
    check(r.returncode == 0, r)

with case("nobody there: exit code 3, what was tried and what to do"):
    r = run(f"http://127.0.0.1:{free_port()}", "ps")
    check(r.returncode == 3 and "Connection refused\n" in r.stderr and "Start one here: drover serve" in r.stderr, r)
    r = run(None, "ps", DROVER_DATA=HOME)
    check(r.returncode == 3 and f"    {HOME}/drover.sock\n    ./data/drover.sock\n    /run/drover/drover.sock\n" in r.stderr, r)
    with FakeNative() as fake:
        fake.foreign = True
        r = run(fake, "show", "j-1")
        check(r.returncode == 1 and "answers 404: it is no Drover server, or of another version" in r.stderr, r)
    r = run("gopher://x", "ps")
    check(r.returncode == 2 and "is no server address" in r.stderr, r)

with case("login is kept for its server only, readable by its user only, and renews itself"), FakeNative() as fake:
    fake.need_auth = True
    r = run(fake, "login", "li.na@example.com", "--password-stdin", stdin="wrong\n")
    check((r.returncode, r.stderr) == (4, "email or password is wrong\n"), r)
    text, code = on_terminal(fake, ["login", "li.na@example.com"], keys=[("password: ", "correct-horse\n")])
    check(code == 0 and "correct-horse" not in text and f"Signed in at {fake.url} as li.na@example.com." in text, text)
    path = os.path.join(HOME, ".config/drover/credentials.json")
    check(stat.S_IMODE(os.stat(path).st_mode) == 0o600 and stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700)
    check(run(fake, "ps").returncode == 0)
    with FakeNative() as other:
        other.need_auth = True
        check(run(other, "ps").returncode == 4)
    fake.access = "gone"                       # the server no longer takes the access token
    r = run(fake, "ps")
    check(r.returncode == 0 and fake.rotations == 2, r, fake.rotations)
    with open(path) as f:
        kept = json.load(f)
    kept["servers"][fake.url]["expires_at"] = "2020-01-01T00:00:00Z"
    with open(path, "w") as f:
        json.dump(kept, f)
    many = [subprocess.Popen([DROVER, "ps"], env=environment(fake), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(6)]
    for p in many:
        _, err = p.communicate(timeout=60)
        check(p.returncode == 0, err)
    check(fake.rotations == 3, "six at once must rotate once", fake.rotations)
    fake.refresh_token, fake.access = "dead", "dead"
    r = run(fake, "ps")
    check(r.returncode == 4 and "has ended" in r.stderr and "Sign in: drover login" in r.stderr, r)
    r = run(fake, "logout")
    check(r.returncode == 0 and fake.url not in open(path).read(), r)

with case("accounts and tokens"), FakeNative() as fake:
    r = run(fake, "user", "add", "li.na@example.com", "--role", "operator")
    check(r.returncode == 0 and "password  kite-lamp-orbit-73  (shown once)" in r.stdout, r)
    check(fake.requests[-1].json == {"email": "li.na@example.com", "role": "operator"}, fake.requests[-1].body)
    r = run(fake, "user", "passwd", "Li.Na@example.com", "--password-stdin", stdin="new-password\n")
    check(r.returncode == 0 and fake.requests[-1].method == "PATCH" and fake.requests[-1].path == "/v1/users/u-1", r)
    text, code = on_terminal(fake, ["user", "passwd", "u-1"], keys=[("new password: ", "one\n"), ("once more: ", "two\n")])
    check(code == 2 and "differ; nothing was changed" in text, text)
    r = run(fake, "user", "show", "nobody@example.com")
    check(r.returncode == 1 and "no user nobody@example.com" in r.stderr, r)
    r = run(fake, "user", "list")
    check("u-1  li.na@example.com  operator" in r.stdout, r.stdout)
    text, code = on_terminal(fake, ["user", "delete", "u-1"], keys=[("[y/N] ", "n\n")])
    check(code == 1 and len(fake.users) == 1, text)
    check(run(fake, "user", "delete", "u-1", "--yes").returncode == 0 and not fake.users)
    r = run(fake, "token", "create", "ci", "--expires", "90d")
    check(r.stdout == "drv_abcdef\n" and "Shown once" in r.stderr and fake.requests[-1].json == {"name": "ci", "expires_in_days": 90}, r)
    check("t-1  ci    drv_ab" in run(fake, "token", "list").stdout)
    check(run(fake, "token", "delete", "t-1").returncode == 0 and not fake.tokens)
    check(run(fake, "user").returncode == 2 and run(fake, "user", "--help").returncode == 0)

with case("help, usage, version, completion; Chinese where the locale asks for it"):
    r = run(None, "help")
    check(r.returncode == 0 and r.stdout.count("\n") <= 40 and max(map(len, r.stdout.splitlines())) <= 80, r.stdout)
    check(run(None).returncode == 2)
    for words in (["help", "submit"], ["submit", "--help"], ["submit", "-h", "--gpus", "1"]):
        r = run(None, *words)
        check(r.returncode == 0 and r.stdout.startswith("drover submit [OPTIONS] [FILE] [-- COMMAND…]"), r)
        check(max(map(len, r.stdout.splitlines())) <= 80, r.stdout)
    r = run(None, "sbumit")
    check((r.returncode, r.stderr) == (2, 'there is no verb "sbumit". Did you mean drover submit?\n'), r)
    r = run(None, "submit", "python3", "train.py")
    check(r.returncode == 2 and "put -- before the command" in r.stderr, r)
    check(run(None, "version").stdout.startswith("drover "))
    check("version" in json.loads(run(None, "version", "--json").stdout))
    r = run(None, "submit", LC_ALL="zh_CN.UTF-8")
    check(r.returncode == 2 and r.stderr.startswith("没有命令："), r)
    r = run(None, "help", LC_ALL="", LANG="zh_CN.UTF-8")
    check("提交运行" in r.stdout, r.stdout)
    for shell in ("bash", "zsh", "fish"):
        script = run(None, "completion", shell)
        check(script.returncode == 0 and "submit" in script.stdout)
        if shutil.which(shell):
            syntax = subprocess.run([shell, "-n"], input=script.stdout, capture_output=True, text=True)
            check(syntax.returncode == 0, syntax.stderr)
    check(run(None, "completion", "tcsh").returncode == 2)

with case("a full disk behind standard output is no success"), FakeNative() as fake:
    jobs_of(fake)
    with open("/dev/full", "w") as full:
        r = subprocess.run([DROVER, "ps"], env=environment(fake), stdout=full, stderr=subprocess.PIPE)
    check(r.returncode == 1, r)

shutil.rmtree(HOME, ignore_errors=True)
finish()
