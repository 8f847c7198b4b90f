"""The command line on a real server with simulated GPUs: what a stranger types in the first minutes, and
following a job while its server is killed."""
import hashlib
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import DROVER, Server, case, check, finish, until     # noqa: E402

PROGRAM = r"""
import sys
for i in range(%d): print("step %%d loss %%.4f" %% (i, 1 / (i + 1)))
sys.stdout.write("x" * 300000 + "\n")
sys.stderr.write("warned\n")
"""

with Server(demo=True) as server:
    with case("a job is run, its output and its exit code come back"):
        r = server.cli("submit", "--follow", "--wait", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
        check(r.returncode == 3 and r.stdout == "out\n", r)
        check("err\n" in r.stderr and "failed" in r.stderr.splitlines()[-1], r.stderr)
        r = server.cli("submit", "--wait", "--gpus", "1", "--", "sh", "-c", "kill -9 $$")
        check(r.returncode == 137, r)
        r = server.cli("submit", "--json", "--wait", "--", "true")
        check([json.loads(line)["state"] for line in r.stdout.splitlines()][-1] == "completed" and r.returncode == 0, r)

    with case("a job runs where it was submitted, with its variables, as its file says"):
        path = os.path.join(server.home, "job.yaml")
        with open(path, "w") as f:
            f.write("name: 训练\ncommand: echo $LR; pwd\ngpus: 1\nenv: {LR: 0.01}\ntime: 1m\n")
        r = server.cli("submit", path, "--follow", "--env", "LR=0.02", "--cwd", server.home)
        check(r.returncode == 0 and r.stdout == f"0.02\n{os.path.realpath(server.home)}\n", r)
        check("训练" in server.cli("ps", "--all").stdout)

    with case("what was printed is what is shown, followed or later, a long line and a tail too"):
        program = PROGRAM % 20000
        want = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
        r = server.cli("submit", "--follow", "--", sys.executable, "-c", program)
        digest = hashlib.sha256(want.encode()).digest()
        check(r.returncode == 0 and hashlib.sha256(r.stdout.encode()).digest() == digest, r.returncode, r.stderr)
        job = server.cli("ps", "--all", "-q").stdout.split()[0]
        r = server.cli("logs", job)
        check(hashlib.sha256(r.stdout.encode()).digest() == digest and r.stderr == "warned\n", len(r.stdout), r.stderr)
        check(server.cli("logs", "--stderr", job).stderr == "warned\n")
        r = server.cli("logs", "--tail", "1", "--stderr", job)
        check(r.stdout == "" or r.stderr == "warned\n", r)

    with case("logs: a try by its number, times, the bytes as they are; followed, one try only"):
        script = """n=$(cat tries 2>/dev/null || echo 0); n=$((n + 1)); echo $n > tries; echo "try $n"; echo e$n >&2
            sleep 0.3; printf 'late\\377\\000%s\\n' $n; [ $n -ge 3 ]"""
        r = server.cli("submit", "--retries", "3", "--wait", "--cwd", server.home, "--", "sh", "-c", script)
        check(r.returncode == 0, r)
        job = server.cli("ps", "--all", "-q").stdout.split()[0]
        check(server.cli("logs", "--attempt", "1", job).stdout.startswith("try 1\nlate"))
        check(server.cli("logs", "--attempt", "-1", job).stdout.startswith("try 3\nlate"))
        check(server.cli("logs", job).stdout.startswith("try 3\n"))
        check(server.cli("logs", "-f", "--attempt", "2", "--tail", "2", job).stdout.startswith("late"))
        r = server.cli("logs", "-f", "--attempt", "2", job)
        check(r.returncode == 0 and "try 2" in r.stdout and "3" not in r.stdout, r)
        r = server.cli("logs", "--attempt", "4", job)
        check(r.returncode == 1 and r.stderr.strip() == f"job {job} has no try 4: it was tried 3 times", r)
        check(server.cli("logs", "--attempt", "0", job).returncode == 2)
        for path, want in (("", b"try 2\ne2\nlate\xff\x002\n"), ("&tail=1", b"late\xff\x002\n")):
            check(server.get(f"/v1/jobs/{job}/log.txt?attempt=2{path}").body == want, path)
        env = {**os.environ, "HOME": server.home, "DROVER_URL": "unix:" + server.socket, "LC_ALL": "C.UTF-8"}
        raw = subprocess.run([DROVER, "logs", "--raw", "--attempt", "2", job], env=env, capture_output=True, check=False)
        check(raw.returncode == 0 and raw.stdout == b"try 2\ne2\nlate\xff\x002\n", raw)
        lines = [json.loads(line) for line in server.cli("logs", "--json", job).stdout.splitlines()]
        at = lines[1]["at"]
        check(server.cli("logs", "--until", at, job).stdout == "try 3\n")
        check(server.cli("logs", "--until", at, "--tail", "1", "--stderr", job).stderr == "e3\n")
        check(server.cli("logs", "--until", at, "--tail", "1", "--raw", job).stdout == "e3\n")
        check(server.cli("logs", "--since", lines[2]["at"], job).stdout.startswith("late"))
        check(server.cli("logs", "--since", lines[2]["at"], "-f", job).stdout.startswith("late"))
        check(server.cli("logs", "--until", "1h", job).stdout == "")
        check(server.cli("logs", "--since", at, "--until", at, job).stdout in ("", "try 3\n"))
        r = server.cli("logs", "-f", "--until", "1h", job)
        check(r.returncode == 2 and "do not go together" in r.stderr, r)

    with case("a wrong field is told once, by its name; a type alone asks for one; where a folder is"):
        r = server.cli("submit", "--gpus", "0", "--gpu-type", "RTX4090", "--", "true")
        check(r.returncode == 2 and r.stderr.count("say how many") == 1 and "gpu_type: " in r.stderr, r.stderr)
        r = server.cli("submit", "--json", "--gpu-type", "RTX4090", "--", "true")
        check(json.loads(r.stdout)["gpus"] == 1, r)
        os.makedirs(os.path.join(server.home, "sub"), exist_ok=True)
        r = server.cli("submit", "--json", "--cwd", os.path.relpath(os.path.join(server.home, "sub")), "--", "true")
        check(json.loads(r.stdout)["cwd"] == os.path.realpath(os.path.join(server.home, "sub")), r)
        r = server.cli("submit", "--cwd", "sub", "--", "true", env={"DROVER_URL": server.url, "HOME": server.home})
        check(r.returncode == 2 and "begins with /" in r.stderr, r)

    with case("manual pages from the verb table"):
        page = server.cli("help", "--man", "submit").stdout
        check(page.startswith('.TH "drover-submit" 1') and "\\fB\\-\\-gpu\\-type\\fR \\fIT[,T]\\fR\n" in page, page)
        check(".TP\n\\fBdrover explain\\fR\n" in server.cli("help", "--man").stdout)

    with case("doctor: a line a check, what mends it, JSON, the exit code"):
        r = server.cli("doctor", "--json")
        found = {x["check"]: x for x in json.loads(r.stdout)["checks"]}
        check(found["server"]["verdict"] == found["sign-in"]["verdict"] == found["clock"]["verdict"] == "ok", found)
        check(r.returncode == (1 if any(x["verdict"] == "fault" for x in found.values()) else 0), r)
        r = server.cli("doctor", env={"DROVER_URL": "http://127.0.0.1:1", "HOME": server.home})
        check(r.returncode == 1 and "✗ server" in r.stdout and "drover serve" in r.stdout, r.stdout)

    with case("reasons and events are stored in English and told in Chinese"):
        r = server.cli("submit", "--json", "--wait", "--", "no-such-command")
        job = json.loads(r.stdout.splitlines()[-1])
        check(job["reason"] == "could not start: command not found: no-such-command", job["reason"])
        zh = {"LC_ALL": "zh_CN.UTF-8"}
        r = server.cli("show", job["id"], env=zh)
        check("无法启动：找不到命令：no-such-command" in r.stdout and "失败：无法启动" in r.stdout, r.stdout)
        answer = server.get(f"/v1/jobs/{job['id']}", headers={"Accept-Language": "zh-CN,en;q=0.5"}).json
        check(answer["reason"] == "无法启动：找不到命令：no-such-command", answer["reason"])

    with case("who waits is told why; cancel; wait; what was meant"):
        first = json.loads(server.cli("submit", "--json", "--gpus", "4", "--name", "holder", "--", "sleep", "60").stdout)["id"]
        until(lambda: server.cli("ps", "--state", "running", "-q").stdout.strip() == first, what="the first job to run")
        second = json.loads(server.cli("submit", "--json", "--gpus", "1", "--", "true").stdout)["id"]
        r = until(lambda: (lambda o: o if "GPU" in o.split("WHY")[-1] and second in o else None)(server.cli("ps").stdout))
        check("holder" in server.cli("gpus").stdout)
        third = json.loads(server.cli("submit", "--json", "--gpus", "1", "--", "true").stdout)["id"]
        r = until(lambda: (lambda o: o if "GPU" in o else None)(server.cli("explain", third).stdout))
        check("2, waiting for" in r and second in r.split("ahead")[-1], r)
        check("runs on" in server.cli("explain", first).stdout)
        check(server.cli("explain", "j-999").returncode == 1)
        server.cli("cancel", third)
        r = server.cli("show", "holde")
        check(r.returncode == 1 and f"Did you mean {first} (holder, running)?" in r.stderr, r)
        check(server.cli("cancel", "--force", first).returncode == 0)
        r = server.cli("wait", first, second)
        check(r.returncode == 1 and "cancelled" in r.stdout and "completed" in r.stdout, r)
        r = server.cli("show", first)
        check("cancelled" in r.stdout and "events" in r.stdout, r.stdout)
        r = server.cli("submit", "--gpus", "99", "--", "true")
        check(r.returncode in (1, 2) and r.stderr.strip() != "", r)

    with case("accounts, tokens and who may what"):
        check("kite" not in server.cli("user", "add", "li.na@example.com", "--password-stdin", stdin="kite-lamp-orbit\n").stdout)
        home = {"HOME": server.home, "DROVER_URL": server.url}
        check(server.cli("ps", env=home).returncode in (0, 4))
        r = server.cli("login", "li.na@example.com", "--password-stdin", stdin="kite-lamp-orbit\n", env=home)
        check(r.returncode == 0, r)
        r = server.cli("submit", "--follow", "--", "echo", "mine", env=home)
        check(r.returncode == 0 and r.stdout == "mine\n", r)
        check(len(server.cli("ps", "--all", "-q", env=home).stdout.split()) == 1, "others' jobs are not shown")
        check(server.cli("user", "list", env=home).returncode == 4)
        token = server.cli("token", "create", "ci", env=home).stdout.strip()
        check(server.cli("ps", token=token).returncode == 0)
        check(server.cli("token", "delete", server.cli("token", "list", env=home).stdout.split("\n")[1].split()[0], env=home).returncode == 0)
        check(server.cli("ps", token=token).returncode == 4)
        check(server.cli("logout", env=home).returncode == 0)

    with case("a follower survives the death of the server"):
        env = {**os.environ, "HOME": server.home, "DROVER_URL": "unix:" + server.socket, "LC_ALL": "C.UTF-8"}
        p = subprocess.Popen([DROVER, "submit", "--follow", "--wait", "--", "sh", "-c",
                              "for i in 1 2 3 4 5 6; do echo step $i; sleep 0.5; done; exit 5"],
                             env=env, cwd=server.home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        check(p.stdout.readline() == "step 1\n")
        server.kill()
        server.start()
        check("user passwd admin@localhost" in "".join(server.output), "a second start says how to sign in")
        out, err = p.communicate(timeout=60)
        check(out == "".join(f"step {i}\n" for i in range(2, 7)) and p.returncode == 5, out, err, p.returncode)
        check("the connection to the server was lost; the job goes on" in err, err)

finish()
