#!/usr/bin/env python3
"""A full disk while jobs log and end: nothing crashes, nothing acknowledged is lost, and once there is room every
job is told to its end by itself. The data folder is a small tmpfs of the test's own."""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import Server, case, check, finish, require, until  # noqa: E402

small = tempfile.mkdtemp(prefix="drover-small-")


def mount(*words):
    return subprocess.run(["mount", *words], capture_output=True, text=True).returncode == 0


if os.geteuid() != 0 or not mount("-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", small):
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

        with case("the disk fills up while one job logs and another ends"):
            victim = submit("echo begun; sleep 4; echo done", gpus=1)
            filler = submit("head -c 12000000 /dev/urandom | base64")
            until(lambda: os.statvfs(small).f_bavail < 16, 30, what="a full disk")
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
