#!/usr/bin/env python3
"""A full disk while jobs log and end. Logs alone cannot fill it: they stop at the floor (DISK_FLOOR_MIB) and say so, and
what is below it keeps cancels, ends and leases going. When another program fills the rest, nothing crashes, nothing
acknowledged is lost, and once there is room every job is told to its end by itself. The data folder is a small tmpfs
of the test's own."""
import contextlib
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import Server, case, check, finish, require, until  # noqa: E402

small = tempfile.mkdtemp(prefix="drover-small-")


def mount(*words):
    return subprocess.run(["mount", *words], capture_output=True, text=True).returncode == 0


if os.geteuid() != 0 or not mount("-t", "tmpfs", "-o", "size=40m,mode=700", "tmpfs", small):
    print("a tmpfs cannot be mounted here")
    sys.exit(77)
try:
    with Server(demo=True, data=small) as server:
        def state(job):
            return server.get(f"/v1/jobs/{job['id']}").json["state"]

        def submit(script, **more):
            answer = server.post("/v1/jobs", {"command": ["sh", "-c", script], **more})
            require(answer.status == 201, answer)
            return answer.json

        def free():
            v = os.statvfs(small)
            return v.f_bavail * v.f_frsize

        def log(job):
            return [line["text"] for line in server.get(f"/v1/jobs/{job['id']}/log?tail=20").json["items"]]

        with case("logs stop at the floor, control goes on"):
            filler = submit("head -c 60000000 /dev/urandom | base64; echo last >&2; sleep 600")
            sleeper = submit("echo begun; sleep 600", gpus=1)
            until(lambda: "degraded" in server.get("/ready").json["checks"]["disk"], 60, what="a stopped log")
            check(server.get("/ready").json["status"] == "ready")
            check("\ngpuplat_logs_stopped 1" in server.get("/metrics").text)
            check(any("disk is almost full" in p["text"] for p in server.get("/v1/overview").json["problems"]))
            until(lambda: any(t.startswith("log stopped: disk almost full") for t in log(filler)), 20,
                  what="the line that says so")
            check(free() > 2 << 20, free())
            until(lambda: state(sleeper) == "running", 20, what="the start of another job")
            for job in (filler, sleeper):
                answer = server.post(f"/v1/jobs/{job['id']}/cancel", {"grace_s": 1})
                check(answer.status == 200, answer)
            until(lambda: state(filler) == state(sleeper) == "cancelled", 30, what="the ends of both")
            check(state(submit("true")) in ("queued", "starting", "running", "completed"))
            until(lambda: not any(g["holder"] for g in server.get("/v1/gpus").json["items"]), 10, what="free GPUs")

        with case("with room again logs go on"):
            require(mount("-o", "remount,size=80m", small))
            until(lambda: server.get("/ready").json["checks"]["disk"] == "ok", 20, what="room")
            after = submit("echo after")
            until(lambda: state(after) == "completed" and log(after) == ["after"], 30, what="a whole log")
            require(mount("-o", "remount,size=40m", small))

        with case("another program fills the disk while one job logs and another ends"):
            victim = submit("echo begun; sleep 4; echo done", gpus=1)
            filler = submit("head -c 1000000 /dev/urandom | base64")
            with open(os.path.join(small, "foreign"), "wb", 0) as f, contextlib.suppress(OSError):
                while f.write(b"x" * 65536):
                    pass
            check(free() < 16 * 4096, free())
            # the victim ends by itself meanwhile; its node writes that down in room kept for it
            until(lambda: not any("sleep 4" in open(f"/proc/{p}/cmdline").read().replace("\0", " ")
                                  for p in server.others() if os.path.exists(f"/proc/{p}/cmdline")), 30,
                  what="the end of the victim's processes")
            check(server.get("/health").status == 200)
            answer = server.post("/v1/jobs", {"command": ["true"]})
            check(answer.status in (201, 507, 503), answer)

        with case("with room again both come to their end, and the GPU is free"):
            require(mount("-o", "remount,size=200m", small))
            until(lambda: state(victim) == "completed" and state(filler) == "completed", 30, what="both ends")
            until(lambda: not any(g["holder"] for g in server.get("/v1/gpus").json["items"]), 10, what="free GPUs")
            until(lambda: server.get(f"/v1/jobs/{victim['id']}/log").json["complete"], 30, what="the victim's log")
            texts = [line["text"] for line in server.get(f"/v1/jobs/{victim['id']}/log").json["items"]]
            check(texts[0] == "begun" and (texts[-1] == "done" or "dropped" in texts[-1]), texts)
            check(state(submit("true")) in ("queued", "starting", "running", "completed"))
finally:
    subprocess.run(["umount", "-l", small], check=False)
    os.rmdir(small)
finish()
