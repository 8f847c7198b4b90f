#!/usr/bin/env python3
"""Secrets: sealed in the store under a key outside of it, opened only in the job that names them; rotation of the key
survives kill -9; a wrong key is told at the start."""
import os
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import Server, case, check, finish, require, until  # noqa: E402

TEXT = "very-secret-text-4711"


def anywhere(folder, text):
    """Files below a folder that hold the text."""
    found = []
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            if os.path.isfile(path) and text.encode() in open(path, "rb").read():
                found.append(path)
    return found


with Server(demo=True) as server:
    key = os.path.join(server.data, "secret.key")

    def secret_in_job():
        done = server.cli("submit", "--secret", "hf-token", "--secret", "hf-token=OTHER", "--wait", "--follow", "--",
                          "sh", "-c", 'test "$OTHER" = "$HF_TOKEN" && printf %s "$HF_TOKEN" | md5sum')
        import hashlib
        return hashlib.md5(TEXT.encode()).hexdigest() in done.stdout or (done.returncode, done.stdout, done.stderr)

    with case("set, list, use in a job, never told"):
        done = server.cli("secret", "set", "hf-token", stdin=TEXT + "\n")
        require(done.returncode == 0 and TEXT not in done.stdout, done)
        listed = server.cli("secret", "list", "--json")
        check("hf-token" in listed.stdout and TEXT not in listed.stdout and "sealed" not in listed.stdout, listed.stdout)
        check(secret_in_job() is True, secret_in_job())
        check(server.post("/v1/jobs", {"command": ["true"], "secrets": {"X": "hf-token"}}).status == 422,
              "another account's secret was used")
        said = server.cli("submit", "--secret", "nothing", "--", "true")
        check(said.returncode != 0 and "drover secret set nothing" in said.stderr, said)
        check("sealed" not in server.request("GET", "/v1/secrets", unix=True).text)
        until(lambda: not anywhere(server.data, TEXT), 20, what=f"no trace of it in {server.data}")

    with case("it is not deleted while a job waits for it"):
        job = server.local("POST", "/v1/jobs", {"command": ["sleep", "60"], "secrets": {"X": "hf-token"}}).json["id"]
        said = server.cli("secret", "rm", "hf-token")
        check(said.returncode == 1 and job in said.stderr, said)
        check(server.local("POST", f"/v1/jobs/{job}/cancel", {"grace_s": 0}).status == 200)
        until(lambda: server.local("GET", f"/v1/jobs/{job}").json["state"] == "cancelled", 20)

    with case("rotation: a new key, the same texts, also when it is killed on the way"):
        before = open(key).read()
        done = server.cli("secret", "rotate")
        check(done.returncode == 0 and open(key).read() != before and len(open(key).read().split()) == 1, done)
        for n in range(400):
            require(server.local("PUT", f"/v1/secrets/s{n}", {"value": f"text {n}"}).status == 200)
        for delay in (0.0, 0.002, 0.01):
            turn = threading.Thread(target=lambda: subprocess.run(
                ["true"]) and server.cli("secret", "rotate"), daemon=True)
            lines = open(key).read()
            turn.start()
            until(lambda: open(key).read() != lines, 20, 0.0005, what="the new key")
            until(lambda: True, 1)
            threading.Event().wait(delay)
            server.kill()
            turn.join(30)
            server.start()
            check(len(open(key).read().split()) == 1, "the old key is still there")
            check(secret_in_job() is True, secret_in_job())

    with case("a wrong and a missing key are told at the start"):
        server.stop()
        right = open(key).read()
        for wrong in ("ab" * 32 + "\n", None):
            os.unlink(key)
            if wrong:
                with open(key, "w") as f:
                    f.write(wrong)
                os.chmod(key, 0o600)
            done = subprocess.run(server.args, env=server.environment(), cwd=server.home, capture_output=True,
                                  stdin=subprocess.DEVNULL, text=True, timeout=30)
            check(done.returncode == 1 and "secret.key is not the key file of this database" in done.stderr, done)
        with open(key, "w") as f:
            f.write(right)
        os.chmod(key, 0o600)
        server.start()
        check(secret_in_job() is True)
finish()
