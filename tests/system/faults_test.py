#!/usr/bin/env python3
"""kill -9 under load. While people submit, cancel and wait, the server, the agent, its launcher or a shim is killed at a
random moment, round after round. Afterwards:
  - every acknowledged job is there, in exactly one terminal state, and so is its last event
  - no job ran twice, counted by what the jobs themselves append to a file
  - a completed job ran to its end and its log is whole, line by line
  - no process, zombie or lease is left behind
Then two scenes of faults at chosen points bring what chance seldom meets: ends that happen while the server is dead,
and a node that falls silent with jobs in every state. Together they take every row of the state machine's table; rows
that no fault of this test can reach would be named at the end.
DROVER_TEST_ROUNDS (default 12; `make soak` gives 200), DROVER_TEST_SEED repeats the choices.
"""
import collections
import http.client
import os
import random
import re
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import TOP, Server, case, check, finish, note, quote, require, until  # noqa: E402

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


def table_rows():
    """(from, to) of each row of the table in the source, which is what "all rows" means; no pair is there twice."""
    with open(os.path.join(TOP, "src/jobs/states.c")) as f:
        table = re.search(r"job_transitions\[\] = \{(.*?)\n\};", f.read(), re.S)[1]
    rows = [(a.lower(), b.lower()) for a, b in re.findall(r"\{JOB_(\w+), JOB_EV_\w+, JOB_(\w+)\}", table)]
    require(len(rows) == len(set(rows)) > 20, rows)
    return rows


def scenes(server, token):
    """Faults at chosen points. A stopped agent (SIGSTOP) is a node that does not answer."""
    def submit(script, **more):
        # one of four GPUs: such a job takes no core, so that four fit on any host
        answer = server.post("/v1/jobs", {"command": ["sh", "-c", script, "sh", flags], "gpus": 1, **more}, token=token)
        require(answer.status == 201, answer)
        return answer.json["id"]

    def state(job):
        return server.get(f"/v1/jobs/{job}", token=token).json["state"]

    def reach(want, seconds=120):   # the agent may be started again only after half a minute
        """Waits until every job of the dict is in its state."""
        until(lambda: all(state(job) == s for job, s in want.items()), seconds, 0.1, str(want))

    def cancel(job, grace=1):
        answer = server.post(f"/v1/jobs/{job}/cancel", {"grace_s": grace}, token=token)
        require(answer.status == 200, answer)

    def agents(number):
        for pid in server.running("drover-agent"):
            os.kill(pid, number)

    def flagged(names):
        return set(names) <= set(os.listdir(flags))

    flags = os.path.join(server.home, "flags")
    os.mkdir(flags)
    with case("jobs that end while the server is dead, before it heard that they began"):
        agents(signal.SIGSTOP)
        good = submit('touch "$1/good"')
        bad = submit('touch "$1/bad"; exit 3')
        again = submit('touch "$1/again"; exit 3', retries=1)
        late = submit('touch "$1/late"; sleep 60', time_limit_s=1)
        reach(dict.fromkeys((good, bad, again, late), "starting"))
        server.kill()
        agents(signal.SIGCONT)      # what it was told before the server died waits in its socket
        until(lambda: flagged(("good", "bad", "again", "late")), 30, what="that all four ran")
        until(lambda: not server.running("drover-shim"), 30, what="their ends")
        server.start()
        reach({good: "completed", bad: "failed", again: "failed", late: "timeout"})

    with case("cancelled before the node heard of them, while they run, and too late"):
        agents(signal.SIGSTOP)
        early = submit("sleep 60")
        reach({early: "starting"})
        cancel(early)
        check(state(early) == "cancelling")
        agents(signal.SIGCONT)
        there, quick = submit('touch "$1/there"; sleep 60'), submit('until [ -e "$1/go" ]; do sleep 0.1; done; touch "$1/quick"')
        reach({early: "cancelled", there: "running", quick: "running"})
        until(lambda: flagged(("there",)), 20, what="that both run")
        cancel(there)
        reach({there: "cancelled"})
        agents(signal.SIGSTOP)      # it ends well before the node hears of the cancel
        open(os.path.join(flags, "go"), "w").close()
        until(lambda: not server.running("drover-shim"), 20, what="its end")
        cancel(quick)
        check(state(quick) == "cancelling")
        agents(signal.SIGCONT)
        reach({quick: "completed"})

    with case("a node that falls silent, and is killed before it answers: jobs that end meanwhile"):
        ends = {"completed": submit('touch "$1/e1"; sleep 3'), "failed": submit('touch "$1/e2"; sleep 3; exit 3'),
                "timeout": submit('touch "$1/e3"; sleep 60', time_limit_s=4)}
        again = submit('touch "$1/e4"; sleep 3; [ -e "$1/second" ] || { touch "$1/second"; exit 3; }', retries=1)
        reach(dict.fromkeys((again, *ends.values()), "running"))
        until(lambda: flagged(("e1", "e2", "e3", "e4")), 20, what="that all run")
        agents(signal.SIGSTOP)
        reach(dict.fromkeys((again, *ends.values()), "unknown"), 90)
        agents(signal.SIGKILL)      # the server starts another one, which finds all of them
        reach({again: "completed", **{job: want for want, job in ends.items()}})

    with case("the same with jobs that run on, are cancelled meanwhile, and had not begun"):
        runs = submit('touch "$1/runs"; while [ ! -e "$1/end" ]; do sleep 0.2; done')
        unwanted = submit('touch "$1/e5"; sleep 60')
        reach({runs: "running", unwanted: "running"})
        until(lambda: flagged(("runs", "e5")), 20, what="that both run")
        agents(signal.SIGSTOP)
        placed = submit('touch "$1/placed"')
        reach(dict.fromkeys((runs, unwanted, placed), "unknown"), 90)
        check(server.get("/v1/nodes/n-1", token=token).json["state"] != "online")
        cancel(unwanted)
        check(state(unwanted) == "cancelling")
        agents(signal.SIGKILL)
        reach({runs: "running", unwanted: "cancelled", placed: "completed"})
        open(os.path.join(flags, "end"), "w").close()
        reach({runs: "completed"})


def main():
    note(f"seed {SEED}, {ROUNDS} rounds")
    with Server(env={"GPU_SIMULATE": "on", "AGENT_SILENT": "4s"}) as server:
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
        rows = table_rows()
        scenes(server, token)
        with case("every row of the jobs' state machine was taken"):
            moves = {(e["data"].get("from"), e["data"].get("to")) for e in all_events(server, token)
                     if e["type"] == "job.status.changed"}
            left = [f"{a}→{b}" for a, b in rows if (a, b) not in moves]
            note(f"{len(rows) - len(left)} of {len(rows)} rows covered")
            check(not left, "only the unit test (tests/unit/jobs_test.c) covers: " + ", ".join(left))
    finish()


if __name__ == "__main__":
    main()
