#!/usr/bin/env python3
"""Starts that must not go on as if nothing were wrong: a database with damaged pages."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import Server, case, check, finish, require  # noqa: E402

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
finish()
