"""A stand-in for the native API that keeps its state in memory and remembers every request: enough to
test the command line without a server. On a TCP port of the loopback or on a unix socket.

    with FakeNative() as fake:
        fake.jobs["j-1"] = fake.job(1, state="running")
        ... fake.requests[-1].path
"""
import contextlib
import http.server
import json
import os
import socketserver
import tempfile
import threading
import time
import urllib.parse


class Request:
    def __init__(self, method, path, headers, body):
        self.method, self.target, self.headers, self.body = method, path, headers, body
        parts = urllib.parse.urlsplit(path)
        self.path, self.query = parts.path, dict(urllib.parse.parse_qsl(parts.query))

    @property
    def json(self):
        return json.loads(self.body)


class Problem(Exception):
    def __init__(self, status, kind, detail, hint=None, errors=(), code=None, headers=None):
        self.status, self.headers = status, headers or {}
        self.body = {"type": "/problems/" + kind, "title": kind, "status": status, "detail": detail,
                     "code": code or kind, "request_id": "r", "errors": list(errors), "hint": hint}


AT = "2026-11-23T07:00:00.000000Z"


class FakeNative:
    def __init__(self, unix=False):
        self.home = tempfile.mkdtemp(prefix="drover-fake-")
        self.requests, self.jobs, self.logs, self.events = [], {}, {}, {}
        self.gpus, self.nodes, self.users, self.tokens = [], [], [], []
        self.keys, self.next_job = {}, 17
        self.fail = []              # [(status or "drop", times)]: what the next requests meet instead
        self.drop_stream_after = None
        self.foreign = False        # some other service answers
        self.access, self.refresh_token, self.need_auth = "access-1", "refresh-1", False
        self.rotations = 0
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def address_string(self):
                return "unix"

            def handle_one(self):
                try:
                    fake.handle(self)
                except ConnectionError:         # a follower left
                    self.close_connection = True

            do_GET = do_POST = do_PATCH = do_DELETE = handle_one

        if unix:
            self.path = os.path.join(self.home, "drover.sock")
            self.server = type("S", (socketserver.ThreadingMixIn, socketserver.UnixStreamServer),
                               {"daemon_threads": True})(self.path, Handler)
            self.url = "unix:" + self.path
        else:
            self.server = type("S", (socketserver.ThreadingMixIn, http.server.HTTPServer),
                               {"daemon_threads": True})(("127.0.0.1", 0), Handler)
            self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    # --- what is there

    def job(self, n, **more):
        job = {"id": f"j-{n}", "uuid": f"00000000-0000-4000-8000-{n:012d}", "name": f"job{n}", "kind": "plain",
               "state": "queued", "reason": "GPUs: 1 of 2 free", "owner": "local", "owner_id": "u-1",
               "priority": "normal", "priority_value": 5, "command": ["true"], "env": {}, "cwd": None,
               "image": None, "gpus": 0, "gpu_type": [], "cpus": None, "memory_mib": None,
               "time_limit_s": None, "retries": 0, "attempt": 1, "labels": {}, "node": None,
               "node_name": None, "gpu_ids": [], "exit_code": None, "signal": None, "end_reason": None,
               "created_at": AT, "started_at": None, "ended_at": None, "waited_s": 12.0, "ran_s": None,
               "position": 3, "cost": None, "currency": None, "simulated": False, "log_lines": 0,
               "cpus_counted": 0, "notes": []}
        job.update(more)
        return job

    def add_job(self, n, **more):
        self.jobs[f"j-{n}"] = self.job(n, **more)
        return self.jobs[f"j-{n}"]

    def print(self, job, *lines):
        log = self.logs.setdefault(job, [])
        for line in lines:
            stream, text, partial = (line + (False,))[:3] if isinstance(line, tuple) else ("out", line, False)
            log.append({"n": len(log) + 1, "offset": 100 * len(log), "at": AT, "stream": stream, "text": text,
                        "attempt": 1, "partial": partial})

    # --- answering

    def handle(self, h):
        n = int(h.headers.get("Content-Length") or 0)
        q = Request(h.command, h.path, h.headers, h.rfile.read(n))
        self.requests.append(q)
        if self.foreign:
            return self.send(h, 404, {"detail": "Not Found"})
        if self.fail:
            what, times = self.fail[0]
            self.fail[0] = (what, times - 1)
            if times <= 1:
                self.fail.pop(0)
            if what == "drop":
                h.close_connection = True
                return
            if what == "drop-after":        # it was done, but the answer is lost
                with contextlib.suppress(Problem):
                    self.route(h, q)
                h.close_connection = True
                return
            return self.send(h, what, Problem(what, "unavailable", "busy").body, {"Retry-After": "0"})
        try:
            self.check(q)
            answer = self.route(h, q)
        except Problem as p:
            return self.send(h, p.status, p.body, p.headers)
        if answer is not None:
            self.send(h, *answer)

    def send(self, h, status, body, headers=None):
        data = b"" if body is None else json.dumps(body).encode()
        h.send_response(status)
        h.send_header("Content-Type", "application/json" if status < 400 else "application/problem+json")
        h.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            h.send_header(name, value)
        h.end_headers()
        h.wfile.write(data)

    def check(self, q):
        if q.path in ("/v1/session", "/v1/session/refresh") and q.method == "POST":
            return
        if self.need_auth and q.headers.get("Authorization") not in ("Bearer " + self.access, "Bearer drv_good"):
            raise Problem(401, "unauthenticated", "sign in first")

    def page(self, q, items):
        at, limit = int(q.query.get("cursor", 0)), int(q.query.get("limit", 50))
        more = str(at + limit) if at + limit < len(items) else None
        return 200, {"items": items[at:at + limit], "next_cursor": more}

    def session(self):
        self.rotations += 1
        self.access, self.refresh_token = f"access-{self.rotations}", f"refresh-{self.rotations}"
        return 200, {"access_token": self.access, "refresh_token": self.refresh_token, "expires_in": 1800,
                     "user": {"id": "u-1", "email": "li.na@example.com"}}

    def route(self, h, q):
        parts = q.path.split("/")[2:]
        if q.path == "/v1/session" and q.method == "POST":
            if q.json["password"] != "correct-horse":
                raise Problem(401, "unauthenticated", "email or password is wrong", code="LOGIN_BAD_CREDENTIALS")
            return self.session()
        if q.path == "/v1/session/refresh":
            if q.json["refresh_token"] != self.refresh_token:
                raise Problem(401, "unauthenticated", "this refresh token is dead")
            return self.session()
        if q.path == "/v1/session" and q.method == "DELETE":
            return 204, None
        if parts[0] == "jobs":
            return self.route_jobs(h, q, parts)
        lists = {"gpus": self.gpus, "nodes": self.nodes, "users": self.users, "tokens": self.tokens}
        if parts[0] in lists and len(parts) == 1 and q.method == "GET":
            return self.page(q, lists[parts[0]])
        if parts[0] == "users":
            return self.route_users(q, parts)
        if parts[0] == "tokens":
            return self.route_tokens(q, parts)
        raise Problem(404, "not_found", "no such route")

    def route_users(self, q, parts):
        if len(parts) == 1:
            user = {"id": f"u-{len(self.users) + 1}", "email": q.json["email"], "role": q.json.get("role", "user"),
                    "is_active": True}
            self.users.append(user)
            return 201, {**user, **({} if "password" in q.json else {"password": "kite-lamp-orbit-73"})}
        for user in self.users:
            if user["id"] == parts[1]:
                if q.method == "DELETE":
                    self.users.remove(user)
                    return 204, None
                return 200, user
        raise Problem(404, "not_found", f"no user {parts[1]}")

    def route_tokens(self, q, parts):
        if len(parts) == 1:
            token = {"id": f"t-{len(self.tokens) + 1}", "name": q.json["name"], "prefix": "drv_ab", "created_at": AT,
                     "last_used_at": None, "expires_at": None}
            self.tokens.append(token)
            return 201, {**token, "token": "drv_abcdef"}
        self.tokens[:] = [t for t in self.tokens if t["id"] != parts[1]]
        return 204, None

    def route_jobs(self, h, q, parts):
        if len(parts) == 1 and q.method == "POST":
            key = q.headers.get("Idempotency-Key")
            if key in self.keys:
                return 200, self.keys[key]
            spec = q.json
            if spec.get("gpus", 0) > 8:
                raise Problem(409, "no_capacity", "cannot run here: no node has 9 GPUs (the largest, n-01, has 8).",
                              hint="Ask for 8 or fewer.")
            if spec["command"] == ["bad"]:
                raise Problem(422, "invalid", "the job is not valid",
                              errors=[{"field": "command", "rule": "value", "message": "must not be bad"}])
            job = self.add_job(self.next_job, **{k: v for k, v in spec.items()})
            job["name"] = spec.get("name", os.path.basename(spec["command"][0]))
            self.next_job += 1
            self.keys[key] = job
            return 201, job
        if len(parts) == 1:
            jobs = sorted(self.jobs.values(), key=lambda j: -int(j["id"][2:]))
            states = q.query.get("state")
            ended = ("completed", "failed", "timeout", "cancelled")
            if states == "active":
                jobs = [j for j in jobs if j["state"] not in ended]
            elif states:
                jobs = [j for j in jobs if j["state"] in states.split(",")]
            return self.page(q, jobs)
        job = self.jobs.get(parts[1])
        if job is None:
            raise Problem(404, "not_found", f"no job {parts[1]}")
        what = "/".join(parts[2:])
        if what == "":
            return 200, job
        if what == "cancel":
            job["state"], job["reason"] = "cancelled", "cancelled by local"
            return 200, job
        if what == "wait":
            deadline = time.monotonic() + 0.2
            while job["state"] in ("queued", "running") and time.monotonic() < deadline:
                time.sleep(0.01)
            return 200, job
        if what == "events":
            return self.page(q, self.events.get(job["id"], []))
        log = self.logs.get(job["id"], [])
        stream = q.query.get("stream")
        if stream:
            log = [line for line in log if line["stream"] == stream]
        if "since" in q.query:
            log = [line for line in log if line["at"] >= q.query["since"]]
        if what == "log":
            if "tail" in q.query:
                lines = log[len(log) - int(q.query["tail"]):] if int(q.query["tail"]) else []
            else:
                lines = [x for x in log if x["offset"] >= int(q.query.get("offset", 0))][:int(q.query.get("limit", 100))]
            after = lines[-1]["offset"] + 100 if lines else 100 * len(log)
            return 200, {"items": lines, "next_offset": after, "complete": after >= 100 * len(log)}
        if what == "log/stream":
            return self.stream(h, q, job, log)
        raise Problem(404, "not_found", "no such route")

    def stream(self, h, q, job, log):
        h.send_response(200)
        h.send_header("Content-Type", "text/event-stream")
        h.send_header("Connection", "close")
        h.end_headers()
        h.close_connection = True

        def event(data, kind=None, ident=None):
            text = (f"event: {kind}\n" if kind else "") + (f"id: {ident}\n" if ident is not None else "")
            h.wfile.write((text + "data: " + json.dumps(data) + "\n\n").encode())
            h.wfile.flush()

        last = int(h.headers.get("Last-Event-ID") or -1)
        lines = [line for line in log if line["offset"] > last]
        if "tail" in q.query and last < 0:
            lines = lines[len(lines) - min(len(lines), int(q.query["tail"])):]
        h.wfile.write(b": hello\n\n")
        event({**job, "state": "running", "node_name": "n-01"}, "state")
        for i, line in enumerate(lines):
            event(line, ident=line["offset"])
            if self.drop_stream_after is not None and i + 1 >= self.drop_stream_after:
                self.drop_stream_after = None
                return
        while job["state"] in ("queued", "running"):
            time.sleep(0.02)
            if self.server is None:
                return
            h.wfile.write(b": beat\n\n")
        event(job, "end")
