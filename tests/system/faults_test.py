#!/usr/bin/env python3
"""kill -9 under load. While people submit, cancel and wait, the server, the agent, its launcher or a shim is killed at a
random moment, round after round. Afterwards:
  - every acknowledged job is there, in exactly one terminal state, and so is its last event
  - no job ran twice, counted by what the jobs themselves append to a file
  - a completed job ran to its end and its log is whole, line by line
  - no process, zombie or lease is left behind
DROVER_TEST_ROUNDS (default 12; `make soak` gives 200), DROVER_TEST_SEED repeats the choices.
"""
import collections
import http.client
import os
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import Server, case, check, finish, note, quote, require, until  # noqa: E402

ROUNDS = int(os.environ.get("DROVER_TEST_ROUNDS", "12"))
SEED = int(os.environ.get("DROVER_TEST_SEED", str(int(time.time()))))
dice = random.Random(SEED)
ENDED = ("completed", "failed", "timeout", "cancelled")
LINES = 120
# One append of a short line is atomic, so the file counts what truly ran: "begin TOKEN", "end TOKEN".
SCRIPT = ('echo "begin $1" >>"$2"; i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo "$1 line $i"; '
          '[ $((i % 10)) -ne 0 ] || sleep 0.02; done; {last}; echo "end $1" >>"$2"; exit {code}')


class Load:
    """Submitters that go on through every fault, and remember what they were promised."""

    def __init__(self, server, token):
        self.server, self.token, self.ran = server, token, os.path.join(server.home, "ran")
        self.promised, self.refused, self.stopping, self.number = {}, 0, threading.Event(), 0
        self.cancelled = set()      # whose cancel was acknowledged
        self.lock = threading.Lock()
        open(self.ran, "w").close()
        self.threads = [threading.Thread(target=self._submit, args=(n,), daemon=True) for n in range(3)]
        for t in self.threads:
            t.start()

    def _body(self, token, kind):
        last = "sleep 30" if kind in ("limit", "cancel") else ":"
        code = {"fails": 3, "again": 1}.get(kind, 0)
        return {"name": f"{kind}-{token}", "gpus": 1 if kind == "gpu" else 0,
                "command": ["sh", "-c", SCRIPT.format(lines=LINES, last=last, code=code), "sh", token, self.ran],
                "retries": 1 if kind == "again" else 0, "time_limit_s": 1 if kind == "limit" else None}

    def _submit(self, n):
        mine = random.Random(SEED * 10 + n)
        while not self.stopping.is_set():
            with self.lock:
                self.number += 1
                token = f"t{self.number}"
            kind = mine.choice(("plain", "plain", "gpu", "fails", "again", "limit", "cancel"))
            try:
                answer = self.server.post("/v1/jobs", self._body(token, kind), token=self.token, timeout=10)
                if answer.status == 201:
                    job = answer.json["id"]
                    with self.lock:
                        self.promised[job] = (token, kind)
                    if kind == "cancel":
                        self.stopping.wait(mine.uniform(0, 0.6))
                        path, deadline = f"/v1/jobs/{job}", time.monotonic() + mine.choice((0, 4))
                        while time.monotonic() < deadline and self.server.get(
                                path, token=self.token, timeout=10).json["state"] != "running":
                            self.stopping.wait(0.05)    # some while they wait, some while they run
                        answer = self.server.post(f"/v1/jobs/{job}/cancel", {"grace_s": 1}, token=self.token,
                                                  timeout=10)
                        if answer.status == 200:
                            self.cancelled.add(job)
                else:
                    self.refused += 1
            except (OSError, http.client.HTTPException, ValueError):
                self.refused += 1       # not acknowledged: it may be there or not
            self.stopping.wait(mine.uniform(0.02, 0.25))

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(30)


def strike(server, target):
    if target == "server":
        server.kill()
        time.sleep(dice.uniform(0, 0.3))    # how long it is away; not a wait for anything
        server.start()
        return True
    found = server.running(target if target == "launcher" else "drover-" + target)
    if not found:
        return False
    for pid in ([dice.choice(found)] if target == "shim" else found):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return True


def all_events(server, token):
    events, after = [], "&after=0:0"      # from the first; without it the newest come
    while True:
        answer = server.get("/v1/events?limit=1000&source_type=job" + after, token=token)
        require(answer.status == 200, answer)
        page = answer.json["items"]
        events += page
        if len(page) < 1000:
            return events
        after = "&after=" + quote(page[-1]["id"])


def main():
    note(f"seed {SEED}, {ROUNDS} rounds")
    with Server(env={"GPU_SIMULATE": "on"}) as server:
        token = server.admin_token()
        load = Load(server, token)
        hits = collections.Counter()
        with case(f"{ROUNDS} rounds of kill -9 under load"):
            for n in range(ROUNDS):
                time.sleep(dice.uniform(0.1, 0.9))      # the moment of the fault is what varies
                target = ("server", "agent", "shim", "launcher")[n % 4]
                hits[target] += strike(server, target)
            load.stop()
            check(server.process.poll() is None, "the server is not there at the end")
            note(f"killed: {dict(hits)}; {len(load.promised)} jobs acknowledged, {load.refused} answers lost")
            require(load.promised)

        jobs = {}
        with case("every acknowledged job is there and ends"):
            def open_jobs():
                for job in load.promised:
                    if job not in jobs:
                        answer = server.get(f"/v1/jobs/{job}", token=token)
                        if answer.status != 200:
                            check(False, f"{job} was acknowledged and is not there: {answer!r}")
                            jobs[job] = None
                        elif answer.json["state"] in ENDED:
                            jobs[job] = answer.json
                return len(jobs) == len(load.promised)
            # the submitters are faster than two cores: what is promised decides how long the queue takes
            until(open_jobs, 120 + 2 * len(load.promised), 0.2, "the end of all jobs")
        jobs = {k: v for k, v in jobs.items() if v}
        note(dict(collections.Counter(f"{j['state']}/{j['end_reason']}" for j in jobs.values())))

        begun, finished = collections.Counter(), collections.Counter()
        with open(load.ran) as f:
            for line in f:
                what, who = line.split()
                (begun if what == "begin" else finished)[who] += 1
        with case("no job ran twice"):
            for who, times in begun.items():
                kind = next((k for t, k in load.promised.values() if t == who), None)
                # A retry is asked for; a job whose submit was not acknowledged is of unknown kind.
                most = 2 if kind in ("again", None) else 1
                check(times <= most, f"{who} ({kind}) ran {times} times")

        with case("a completed job ran to its end, and its log is whole"):
            whole = 0
            for job, (who, kind) in load.promised.items():
                state = jobs.get(job, {}).get("state")
                if state != "completed":
                    continue
                check(begun[who] == finished[who] == 1, f"{job} {who}: {begun[who]} begun, {finished[who]} ended")
                text = server.get(f"/v1/jobs/{job}/log.txt", token=token).text
                want = "".join(f"{who} line {i}\n" for i in range(1, LINES + 1))
                if check(text == want, f"{job}: {len(text.splitlines())} lines of {LINES}, begins {text[:60]!r}"):
                    whole += 1
            note(f"{whole} logs compared")
            check(whole > 0)

        with case("each ended for the reason that it was made for, or for the fault"):
            for job, (who, kind) in load.promised.items():
                j = jobs.get(job)
                if j is None:
                    continue
                fine = {"plain": ("completed",), "gpu": ("completed",), "fails": ("failed",), "again": ("failed",),
                        "limit": ("timeout",), "cancel": ("cancelled",)}[kind]
                if kind == "cancel" and job not in load.cancelled:
                    fine += ("completed",)      # the wish may have been lost with its answer
                # a job's cell has a first process of its own, which looks like a shim: who kills that, kills
                # the job from outside, and it says so
                lost = hits["shim"] and j["state"] == "failed" and (
                    j["end_reason"] == "supervisor_lost" or (j["end_reason"], j["signal"]) == ("signalled", 9))
                check(j["state"] in fine or lost, f"{job} ({kind}) is {j['state']}: {j['reason']}")
                check(kind != "fails" or lost or j["exit_code"] == 3, f"{job}: exit code {j['exit_code']}, not 3")

        with case("one terminal state each, and the last event says the same"):
            moves, last, ends = set(), {}, collections.Counter()
            for event in all_events(server, token):
                if event["type"] != "job.status.changed":
                    continue
                move = (event["data"].get("from"), event["data"].get("to"))
                moves.add(move)
                last[event["source_id"]] = move[1]
                ends[event["source_id"]] += move[1] in ENDED
            for job, j in jobs.items():
                check(last.get(job) == j["state"], f"{job} is {j['state']}, its last event says {last.get(job)}")
                check(ends[job] == 1, f"{job} ended {ends[job]} times")
            note(f"{len(moves)} different moves of the state machine were seen: " +
                 ", ".join(sorted(f"{a}→{b}" for a, b in moves)))

        with case("no process, zombie or lease is left behind"):
            def only_ours():
                family = server.running("drover-agent") + server.running("launcher") + server.running("drover")
                return sorted(server.others()) == sorted(family)
            until(only_ours, 15, 0.1, what="that all shims and jobs are gone")
            family = {server.pid, *server.others()}
            for entry in os.listdir("/proc"):
                if entry.isdigit():
                    try:
                        with open(f"/proc/{entry}/stat") as f:
                            state, parent = f.read().rpartition(")")[2].split()[:2]
                    except OSError:
                        continue
                    check(not (state == "Z" and int(parent) in family), f"zombie {entry} of {parent}")
            held = [g for g in server.get("/v1/gpus", token=token).json["items"] if g["holder"]]
            check(not held, held)
            # up to 128 logs stay open, with two descriptors each
            check(server.descriptors() < 120 + 2 * 128, f"{server.descriptors()} descriptors")
    finish()


if __name__ == "__main__":
    main()
