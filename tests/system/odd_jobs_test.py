#!/usr/bin/env python3
"""Real and unkind jobs through the whole product: programs that compute, print too much, print binary, ignore TERM,
fork away, eat memory, or run too long. What the person who submitted them is told, and what is left behind."""
import contextlib
import os
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import TOP, Server, case, check, finish, note, require, skip, until  # noqa: E402

MARK = f"3{os.getpid() % 100000:05d}"     # seconds of sleep that no other process of this machine asks for


def resident_mib(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1]) / 1024


def sleepers():
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as f:
                    if f.read().split(b"\0")[:2] == [b"sleep", MARK.encode()]:
                        found.append(int(entry))
            except OSError:
                pass
    return found


with Server(env={"GPU_SIMULATE": "on"}) as server:
    def submit(*command, **more):
        answer = server.post("/v1/jobs", {"command": list(command), **more})
        require(answer.status == 201, answer)
        return answer.json["id"]

    def run(*command, seconds=60, **more):
        return server.wait_job(submit(*command, **more), seconds)

    def log(job):
        return server.get(f"/v1/jobs/{job['id']}/log.txt", timeout=120).text

    with case("a training loop on real data runs to its end on a leased GPU"):
        job = run("python3", os.path.join(TOP, "examples/train_tiny.py"), gpus=1, cwd=TOP)
        check((job["state"], job["exit_code"]) == ("completed", 0), job)
        check(len(job["gpu_ids"]) == 1 and job["ran_s"] > 0.5, job)
        accuracy = re.findall(r"accuracy ([\d.]+)", log(job))
        check(accuracy and float(accuracy[-1]) > 0.85, log(job)[-300:])

    with case("openssl speed runs as a job"):
        job = run("openssl", "speed", "-seconds", "1", "-bytes", "1024", "sha256")
        check(job["state"] == "completed" and "sha256" in log(job), job)

    with case("exit code, signal and a program that is not there are told apart"):
        failed = run("sh", "-c", "exit 7")
        check((failed["state"], failed["end_reason"], failed["exit_code"]) == ("failed", "exited", 7), failed)
        check("7" in failed["reason"], failed["reason"])
        killed = run("sh", "-c", "kill -SEGV $$")
        check((killed["state"], killed["end_reason"], killed["signal"]) == ("failed", "signalled", 11), killed)
        absent = run("no-such-program-anywhere")
        check((absent["state"], absent["end_reason"]) == ("failed", "start_failed"), absent)
        check("no-such-program-anywhere" in absent["reason"], absent["reason"])

    with case("environment and working directory arrive"):
        job = run("sh", "-c", 'echo "$GREETING from $PWD"', env={"GREETING": "hello 测试"}, cwd="/usr")
        check(log(job).strip() == "hello 测试 from /usr", log(job))
        lost = run("true", cwd="/no/such/folder")
        check(lost["state"] == "failed" and "/no/such/folder" in lost["reason"], lost)

    with case("the time limit ends it, and says so"):
        job = run("sleep", MARK, time_limit_s=1)
        check((job["state"], job["end_reason"]) == ("timeout", "timed_out"), job)
        check("time limit" in job["reason"], job["reason"])
        check(0.8 < job["ran_s"] < 15, job["ran_s"])

    with case("one that ignores TERM is killed after the grace, with all that it started"):
        job = submit("sh", "-c", f'trap "" TERM; (trap "" TERM; sleep {MARK}) & while :; do sleep {MARK}; done')
        until(lambda: len(sleepers()) == 2, 10, what="that it runs")
        begun = time.monotonic()
        require(server.post(f"/v1/jobs/{job}/cancel", {"grace_s": 1}).status == 200)
        ended = server.wait_job(job, 20)
        check(ended["state"] == "cancelled", ended)
        check(0.5 < time.monotonic() - begun < 10, time.monotonic() - begun)
        until(lambda: not sleepers(), 5, what="that its processes are gone")

    with case("one that forks away does not outlive its job"):
        job = run("sh", "-c", f"setsid sh -c 'sleep {MARK} & sleep {MARK}' >/dev/null 2>&1 & sleep 0.3; exit 0")
        check(job["state"] == "completed", job)
        until(lambda: not sleepers(), 10, what="that the runaway is gone")

    with case("binary output does no harm"):
        job = run("sh", "-c", r"printf '\000\001\377\376\n'; head -c 100000 /dev/urandom; echo; echo after")
        check(job["state"] == "completed", job)
        text = log(job)
        check(text.rstrip("\n").endswith("after"), text[-80:])
        page = server.get(f"/v1/jobs/{job['id']}/log?tail=5").json
        check(page["items"][-1]["text"] == "after", page["items"][-1])

    with case("a line of 100 MiB costs no memory"):
        job = run("sh", "-c", "head -c 104857600 /dev/zero | tr '\\0' x; echo; echo after", seconds=90)
        check(job["state"] == "completed", job)
        until(lambda: server.get(f"/v1/jobs/{job['id']}/log?tail=1").json["complete"], 60, what="the whole log")
        page = server.get(f"/v1/jobs/{job['id']}/log?tail=1").json
        check(page["items"][-1]["text"] == "after", page["items"][-1]["text"][:100])
        for pid in (server.pid, *server.others()):
            check(resident_mib(pid) < 200, f"{pid} has {resident_mib(pid):.0f} MiB")

    with case("1 GiB of output neither fills memory nor stops the server"):
        job = submit("sh", "-c", "yes 'the quick brown fox jumps over the lazy dog' | head -c 1073741824; echo; echo after")
        slowest, most = 0, 0
        deadline = time.monotonic() + 150
        while server.get(f"/v1/jobs/{job}").json["state"] not in ("completed", "failed", "timeout", "cancelled"):
            begun = time.monotonic()
            check(server.get("/health", token=None).status == 200)
            slowest = max(slowest, time.monotonic() - begun)
            most = max(most, *(resident_mib(p) for p in (server.pid,)))
            require(time.monotonic() < deadline, "it did not end in 150 s")
            time.sleep(0.2)
        ended = server.get(f"/v1/jobs/{job}").json
        check(ended["state"] == "completed", ended)
        note(f"ran {ended['ran_s']} s, {ended['log_lines']} lines kept, the server had at most {most:.0f} MiB, "
             f"/health took at most {slowest * 1000:.0f} ms")
        check(most < 250, f"{most:.0f} MiB")
        check(slowest < 1, f"{slowest:.2f} s")

    node = server.get("/v1/nodes").json["items"][0]
    note(f"this node enforces: {node['enforces']}, cgroups: {node['cgroups']}")
    if "memory" in node["enforces"]:
        with case("out of memory is told in plain words"):
            job = run("python3", "-c", "x = bytearray(400 << 20); print(len(x))", memory_mib=64)
            check((job["state"], job["end_reason"]) == ("failed", "out_of_memory"), job)
            check("memory" in job["reason"] and "64 MiB" in job["reason"], job["reason"])
    else:
        skip("out of memory is told in plain words", "this kernel lets us limit no memory")

    with case("at the end nothing is held"):
        held = [g for g in server.get("/v1/gpus").json["items"] if g["holder"]]
        check(not held, held)
        def names():
            for p in server.others():
                with contextlib.suppress(OSError), open(f"/proc/{p}/comm") as f:
                    yield f.read().strip()
        until(lambda: set(names()) <= {"drover", "drover-agent", "drover-launch"}, 10,
              what="that nothing of the jobs is left")
        check(server.stop() == 0, "the server's exit status")
finish()
