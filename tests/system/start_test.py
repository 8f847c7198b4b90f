#!/usr/bin/env python3
"""Starts that must not go on as if nothing were wrong: a database with damaged pages, a host whose GPUs another server
has already."""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import BUILD, Server, case, check, finish, require, until  # noqa: E402

PAGE = 4096


def start_and_see(server):
    """Exit status and words of a start that is expected to fail."""
    done = subprocess.run(server.args, env=server.environment(), cwd=server.home, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    return done.returncode, done.stdout


with Server(env={"LOCAL_AGENT": "off"}) as server:
    database = os.path.join(server.data, "database.db")
    with case("damaged pages are found before anything is served"):
        for n in range(40):
            require(server.post("/v1/jobs", {"command": ["true"], "env": {"FILL": "x" * 4000}}).status == 201)
        server.stop()
        server.start()
        check(server.get("/v1/jobs?limit=100").json["items"][39]["state"] == "queued")
        server.kill()
        shutil.copy(database, database + ".backup")
        middle = os.path.getsize(database) // 2 // PAGE * PAGE
        with open(database, "r+b") as f:
            f.seek(middle)
            f.write(b"\xa5" * 2 * PAGE)
        status, said = start_and_see(server)
        check(status == 65, status, said)
        check(database in said and ".recover" in said and "backup" in said, said)
        status, said = start_and_see(server)
        check(status == 65, "the second start was not refused", status, said)

    with case("with the backup in its place it starts"):
        shutil.copy(database + ".backup", database)
        server.start()
        check(len(server.get("/v1/jobs?limit=100").json["items"]) == 40)

with tempfile.TemporaryDirectory(prefix="drover-locks-") as locks:
    script = os.path.join(locks, "nvml")
    with open(script, "w") as f:
        for n in range(2):
            f.write(f"gpu {n} name NVIDIA GeForce RTX 4090\ngpu {n} uuid GPU-0000000{n}-1111-2222-3333-444444444444\n"
                    f"gpu {n} total 25757220864\ngpu {n} used 1048576\n")
    env = {"DROVER_LOCK_DIR": locks, "FAKE_NVML_SCRIPT": script, "GPU_MONITOR_INTERVAL": "1",
           "DROVER_NVML_PATH": os.path.join(BUILD, "tests/fake_nvml/libnvidia-ml.so.1")}

    def gpus(server, state):
        """All GPUs, once there are two and all are in that state."""
        items = server.get("/v1/gpus").json["items"]
        return items if len(items) == 2 and all(g["state"] == state for g in items) else None

    with Server(env=env) as second:
        with Server(env=env) as first:
            with case("two servers on one host never offer the same GPU"):
                until(lambda: gpus(first, "available") or gpus(second, "available"), 30, what="two GPUs")
                owner, other = (first, second) if gpus(first, "available") else (second, first)
                held = until(lambda: gpus(other, "foreign"), 30, what="GPUs that are held")
                check(gpus(owner, "available"))
                check("another agent" in held[0]["note"] and owner.data in held[0]["note"], held[0]["note"])
                job = other.post("/v1/jobs", {"command": ["true"], "gpus": 1}).json
                check(job["state"] == "queued", job)
                said = other.get("/v1/overview").json["problems"]
                check(any("used by others" in p["text"] for p in said), said)
            with case("when the one that has them ends, the other takes them"):
                owner.stop()
                check(other.wait_job(job["id"])["state"] == "completed")
                check(gpus(other, "available"))
finish()
