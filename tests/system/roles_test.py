#!/usr/bin/env python3
"""The table of roles, made from the table of routes (`drover serve --print-routes`) and tried over HTTP: every route × who
asks × whose object. A route without an access column does not exist (the server refuses to start); a route of owners whose
objects this test cannot make fails it: add a row to OBJECTS."""
import http.client
import json
import os
import socket
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import DROVER, Server, WebSocket, _UnixConnection, case, check, finish, note, require, until  # noqa: E402

PASSWORD = "a-long-password-1"
SESSIONS = ("user", "operator", "engineer", "admin")
WHO = ("nobody", *SESSIONS, "key of a user", "key of an admin", "local")
ADMINS = ("admin", "local")
ALLOWED, UNKNOWN, FORBIDDEN, HIDDEN = "allowed", 401, 403, 404

# What a handler refuses although the column lets in: (route, who) → status.
REFUSED_INSIDE = {("token_create", "key of a user"): 403, ("token_create", "key of an admin"): 403}
# An opened stream is its opener's alone: an administrator opens another one.
MINE_ALONE = ("stream_socket",)
# What a schema alone does not tell.
EXEC = {"kind": "exec", "argv": ["true"]}
BODIES = {"stream_create": EXEC}
# Answers that come only when something happens.
QUERY = {"job_wait": "?timeout_s=0", "platform_recommendations": "?gpu_type=RTX4090"}
ENDS_SESSION = ("session_delete", "auth_logout")


def expected(access, who, foreign, trusted=False):
    key = who.startswith("key")
    if access == "anyone":
        return ALLOWED
    if access == "agent":
        return ALLOWED if who == "local" else UNKNOWN if who == "nobody" else FORBIDDEN
    if who == "nobody" and not (trusted and access in ("open", "ops")):
        return UNKNOWN
    if access == "admin":
        # a key of an administrator has every permission here
        return ALLOWED if who in ADMINS or who == "key of an admin" else FORBIDDEN
    if access == "ops":
        return FORBIDDEN if who == "user" else ALLOWED
    if access == "owner" and foreign:
        return ALLOWED if who in ADMINS else HIDDEN
    require(access in ("user", "owner", "open"), f"an access that this test does not know: {access}", key)
    return ALLOWED


class People:
    def __init__(self, server):
        self.server, self.ids, self.tokens, self.owners, self.long = server, {}, {}, {}, {}
        for who in (*SESSIONS, "victim"):
            role = who if who in SESSIONS else "user"
            self.ids[who] = server.new_user(f"{who}@example.com", PASSWORD, role)["id"]
            self.sign_in(who)
        for who, owner in (("key of a user", "user"), ("key of an admin", "admin")):
            self.tokens[who] = server.post("/v1/tokens", {"name": who}, token=self.tokens[owner]).json["token"]
            self.owners[who] = owner

    def sign_in(self, who):
        self.tokens[who] = self.server.sign_in(f"{who}@example.com", PASSWORD)

    def call(self, method, path, body, who):
        """Status and the first bytes: endless answers are not read to their end."""
        unix = who == "local"
        c = _UnixConnection(self.server.socket, 30) if unix else http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if who in self.tokens:
            headers["Authorization"] = "Bearer " + self.tokens[who]
        try:
            c.request(method, path, None if body is None else json.dumps(body), headers)
            answer = c.getresponse()
            return answer.status, "" if "event-stream" in answer.headers.get("Content-Type", "") else answer.read1(2000).decode("utf-8", "replace")
        finally:
            c.close()

    def socket_call(self, path, who):
        """What a WebSocket's handshake came to, as a status."""
        headers = {"Authorization": "Bearer " + self.tokens[who]} if who in self.tokens else {}
        if who == "local":
            real = socket.create_connection

            def by_unix(*_, **__):
                s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                s.settimeout(15)
                s.connect(self.server.socket)
                return s
            socket.create_connection = by_unix
            try:
                ws = WebSocket(self.server.port, path, headers)
            finally:
                socket.create_connection = real
        else:
            ws = WebSocket(self.server.port, path, headers)
        with ws:
            if ws.status != 101:
                return ws.status, ""
            ws.sock.settimeout(0.3)
            try:
                ws.receive()
            except (TimeoutError, socket.timeout, EOFError, ConnectionError, ValueError):
                pass
            return {4001: 401, 4003: 401 if who == "nobody" else 403, 4004: 404}.get(ws.closed, 101), str(ws.closed)

    # --- objects

    def post(self, path, body, owner):
        status, text = self.call("POST", path, body, owner)
        require(status == 201, path, status, text)
        return json.loads(text)

    def owner_of(self, who):
        return self.owners.get(who, who)

    def job(self, owner):
        return self.post("/v1/jobs", {"command": ["true"]}, owner)

    def running(self, owner):
        """One at a time: hosts with few processors run no more."""
        if owner not in self.long:
            for old in self.long.values():
                self.server.local("POST", f"/v1/jobs/{old['id']}/cancel", {"grace_s": 0})
            self.long = {owner: self.post("/v1/jobs", {"command": ["sleep", "600"]}, owner)}
            path = f"/v1/jobs/{self.long[owner]['id']}"
            until(lambda: self.server.local("GET", path).json["state"] == "running", 30, 0.02)
        return self.long[owner]

    def user_id(self, owner):
        if owner not in self.ids:    # "local" has no account: one that it made
            self.ids[owner] = self.post("/v1/users", {"email": "local-made@example.com"}, "local")["id"]
        return self.ids[owner]

    def token(self, owner):
        return self.post("/v1/tokens", {"name": "object"}, owner)["id"]

    def sign_in_of(self, owner):
        """Local is signed in nowhere and sees everybody's."""
        owner = "victim" if owner == "local" else owner
        token = self.server.sign_in(f"{owner}@example.com", PASSWORD)
        return self.server.get("/v1/sessions?limit=1000", token=token).json["items"][-1]["id"]

    def stream(self, owner):
        return self.post(f"/v1/jobs/{self.running(owner)['id']}/streams", EXEC, owner)["id"]


# Routes of owners, by the path up to the object: how to make one that is somebody's; gives its path.
OBJECTS = {
    "/v1/jobs/{id}/streams": lambda p, o: f"/v1/jobs/{p.running(o)['id']}/streams",
    "/v1/jobs/{id}": lambda p, o: f"/v1/jobs/{p.job(o)['id']}",
    "/v1/users/{id}": lambda p, o: f"/v1/users/{p.user_id(o)}",
    "/v1/tokens/{id}": lambda p, o: f"/v1/tokens/{p.token(o)}",
    "/v1/sessions/{id}": lambda p, o: f"/v1/sessions/{p.sign_in_of(o)}",
    "/v1/streams/{id}": lambda p, o: f"/v1/streams/{p.stream(o)}",
    "/api/gpu/tasks/{task_id}": lambda p, o: f"/api/gpu/tasks/{p.job(o)['uuid']}",
    "/api/gpu/jobs/{provider_name}/{job_id}": lambda p, o: f"/api/gpu/jobs/local/{p.job(o)['uuid']}",
}


def body_of(schema, whole):
    """The least that a schema takes."""
    if "$ref" in schema:
        return body_of(whole["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], whole)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {n: body_of(s, whole) for n, s in schema.get("properties", {}).items() if n in schema.get("required", ())}
    if kind == "array":
        return [body_of(schema["items"], whole)] * max(schema.get("minItems", 0), 1)
    if kind == "string":
        return {"email": "someone@example.com", "uuid": "6f1f64a8-3a0b-4f0e-9b39-0e1c6a1f0a1c"}.get(
            schema.get("format"), "x" * max(schema.get("minLength", 1), 1))
    return {"integer": schema.get("minimum", 1), "number": 1.0, "boolean": True}.get(kind)


def bodies(server):
    whole, found = server.get("/openapi.json").json, {}
    for path, methods in whole["paths"].items():
        for method, op in methods.items():
            content = op.get("requestBody", {}).get("content", {}) if isinstance(op, dict) else {}
            if "application/json" in content:
                found[method.upper(), path] = body_of(content["application/json"]["schema"], whole)
    return found


def routes():
    out = subprocess.run([DROVER, "serve", "--print-routes"], capture_output=True, text=True, timeout=60,
                         env={"PATH": os.environ["PATH"]}).stdout
    return [dict(zip(("method", "path", "access", "surface", "name", "permission", "group"), line.split("\t")))
            for line in out.splitlines()]


def plain_path(path):
    """Any object of a route that is not of owners: who may ask is settled before it is looked for."""
    for word, value in (("{provider_name}", "runpod"), ("{gpu_id}", "0")):
        path = path.replace(word, value)
    if "{id}" in path:
        path = path.replace("{id}", {"gpus": "gpu-001", "nodes": "n-1"}.get(path.split("/{id}")[0].rsplit("/", 1)[1], "x-1"))
    while "{" in path:
        path = path[:path.index("{")] + "x" + path[path.index("}") + 1:]
    return path


def try_one(people, route, path, body, who, foreign, trusted=False):
    if route["method"] == "WS":
        status, text = people.socket_call(path, who)
    else:
        status, text = people.call(route["method"], path + QUERY.get(route["name"], ""), body, who)
    if who in SESSIONS and route["name"] in ENDS_SESSION:
        people.sign_in(who)
    want = REFUSED_INSIDE.get((route["name"], who)) or expected(route["access"], who, foreign, trusted)
    if foreign and who != "nobody" and route["name"] in MINE_ALONE:
        want = HIDDEN
    if want == ALLOWED:
        refused = (401, 403) if not (route["access"] == "anyone" and route["group"] == "sign-in") else (403,)
        good = status not in refused and (status < 500 or status == 503) and not (route["access"] == "owner" and status == 404)
    else:
        good = status == want
    check(good, f"{route['method']} {path} ({route['access']}) by {who}, {'foreign' if foreign else 'own or shared'}: "
                f"{want} was expected, {status} came", text[:300])


def main():
    table = routes()
    require(len(table) > 50, "no routes")
    tried = 0
    with Server(demo=True, env={"AUTH_MODE": "strict"}) as server:
        people, body = People(server), bodies(server)
        groups = {}
        for route in table:
            groups.setdefault(route["access"], []).append(route)
        for access, rows in sorted(groups.items()):
            with case(f"{len(rows)} routes for \"{access}\""):
                for route in rows:
                    given = BODIES.get(route["name"], body.get((route["method"], route["path"])))
                    objects = access == "owner" and "{" in route["path"]
                    maker = next((m for m in sorted(OBJECTS, key=len, reverse=True) if route["path"].startswith(m)), None)
                    if objects and not check(maker, f"nobody can make the object of {route['path']}: add a row to OBJECTS"):
                        continue
                    for who in WHO:
                        for foreign in ((False, True) if objects else (False,)):
                            path = plain_path(route["path"])
                            if objects:
                                owner = "victim" if foreign or who == "nobody" else people.owner_of(who)
                                path = OBJECTS[maker](people, owner) + route["path"][len(maker):]
                            try_one(people, route, path, given, who, foreign)
                            tried += 1
    note(f"{tried} requests, {len(table)} routes, {len(WHO)} kinds of callers")
    with Server(demo=True, env={"AUTH_MODE": "trusted"}) as server:
        people = People(server)
        with case("without a credential from a trusted address: what is open, and nothing of anybody's"):
            for route in table:
                if route["method"] == "GET" and route["access"] in ("open", "ops", "user", "owner", "admin"):
                    try_one(people, route, plain_path(route["path"]), None, "nobody", False, True)


main()
finish()
