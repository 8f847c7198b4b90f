#!/usr/bin/env python3
"""The native API by a whole server: submit, wait, logs and their streams, events, the fleet, the live channel, the
forms of errors, and the front door's files."""
import http.client
import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import Server, WebSocket, case, check, finish, require, until  # noqa: E402

JOB = ["id", "uuid", "name", "kind", "state", "reason", "owner", "owner_id", "priority", "priority_value", "command",
       "env", "secrets", "cwd", "image", "gpus", "gpu_type", "cpus", "memory_mib", "time_limit_s", "retries", "attempt", "labels",
       "node", "node_name", "gpu_ids", "exit_code", "signal", "end_reason", "created_at", "started_at", "ended_at",
       "waited_s", "ran_s", "position", "cost", "currency", "simulated",
       "cpus_counted", "notes", "log_lines"]
LINE = ["n", "offset", "at", "stream", "text", "attempt", "partial"]
GPU = ["id", "node", "node_name", "index", "uuid", "name", "type", "memory_total_mib", "memory_used_mib", "utilization",
       "memory_utilization", "temperature_c", "power_w", "power_limit_w", "state", "holder", "processes", "simulated",
       "driver", "cuda", "updated_at", "note", "health", "health_reason", "parent", "profile", "age_ms", "throttle",
       "free_milli", "holders", "clock_sm_mhz"]


def submit(server, script, token="admin", **more):
    answer = server.post("/v1/jobs", {"command": ["sh", "-c", script], **more}, token=token)
    require(answer.status == 201, answer)
    return answer.json


def ended(server, job, token="admin"):
    answer = server.get(f"/v1/jobs/{job}/wait?timeout_s=60", token=token, timeout=70)
    require(answer.status == 200, answer)
    return answer.json


class Stream:
    """Server-sent events of one request."""

    def __init__(self, server, path, token="admin", headers=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        token = server.admin_token() if token == "admin" else token
        self.connection.request("GET", path, headers={"Authorization": "Bearer " + token, **(headers or {})})
        self.response = self.connection.getresponse()
        self.status, self.type = self.response.status, self.response.headers["Content-Type"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.response.close()
        self.connection.close()

    def events(self):
        kind, last, data = "message", "", None
        for line in self.response:
            line = line.decode().rstrip("\n")
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("id: "):
                last = line[4:]
            elif line.startswith("data: "):
                data = line[6:]
            elif not line and data is not None:
                yield kind, last, json.loads(data)
                kind, data = "message", None


def jobs(server, user):
    with case("a job: submitted, waited for, shown"):
        made = submit(server, "echo one; echo two >&2; exit 3", name="three", labels={"team": "a"}, priority="high")
        check(list(made) == JOB, list(made))
        check(made["id"].startswith("j-") and made["state"] == "queued" and made["position"] == 1 and
              made["priority"] == "high" and made["priority_value"] == 8 and made["labels"] == {"team": "a"}, made)
        job = ended(server, made["id"])
        check((job["state"], job["exit_code"], job["end_reason"], job["reason"]) ==
              ("failed", 3, "exited", "exit code 3"), job)
        until(lambda: server.get(f"/v1/jobs/{job['id']}/log").json["complete"], what="the whole log")
        job = server.get(f"/v1/jobs/{job['id']}").json
        check(job["log_lines"] == 2 and job["position"] is None and job["node"] == "n-1" and job["node_name"], job)
        check(server.get("/v1/jobs/" + job["uuid"]).json["id"] == job["id"])

    with case("a script finds the number of its try, not Drover's id"):
        made = submit(server, "echo $DROVER_ATTEMPT; exit 1", retries=2)
        ended(server, made["id"])
        lines = until(lambda: (r := server.get(f"/v1/jobs/{made['id']}/log").json)["complete"] and r["items"], what="its log")
        check([l["text"] for l in lines if l["stream"] == "out"] == ["3"], lines)

    with case("what is counted and what is not enforced is told at submit"):
        enforces = server.get("/v1/nodes").json["items"][0]["enforces"]
        made = submit(server, "true", memory_mib=64, cpus=1)
        check(made["cpus_counted"] == 1 and
              ("memory" not in enforces) == any("memory limit is not enforced" in n for n in made["notes"]), made)
        plain = submit(server, "true")
        check((plain["cpus"], plain["cpus_counted"], plain["notes"]) == (None, 1, []), plain)

    with case("a wait ends with the job, or with its time"):
        slow = submit(server, "sleep 30")
        begun = time.monotonic()
        answer = server.get(f"/v1/jobs/{slow['id']}/wait?timeout_s=1")
        check(answer.json["state"] in ("queued", "starting", "running"), answer)
        check(0.9 < time.monotonic() - begun < 4, time.monotonic() - begun)
        answers = []
        waiters = [threading.Thread(target=lambda: answers.append(ended(server, slow["id"]))) for _ in range(8)]
        for w in waiters:
            w.start()
        time.sleep(0.3)
        cancelled = server.post(f"/v1/jobs/{slow['id']}/cancel", {"grace_s": 0})
        check(cancelled.status == 200 and cancelled.json["state"] in ("cancelling", "cancelled"), cancelled)
        begun = time.monotonic()
        for w in waiters:
            w.join(20)
        check(len(answers) == 8 and all(a["state"] == "cancelled" for a in answers), answers)
        check(time.monotonic() - begun < 10)
        again = server.post(f"/v1/jobs/{slow['id']}/cancel")
        check(again.status == 200 and again.json["state"] == "cancelled", again)

    with case("what happened to a job, in order"):
        job = ended(server, submit(server, "true")["id"])
        answer = server.get(f"/v1/jobs/{job['id']}/events?limit=1000")
        require(answer.status == 200, answer)
        items = answer.json["items"]
        check([e["type"] for e in items] == ["job.created"] + ["job.status.changed"] * (len(items) - 1), items)
        # a job of a few milliseconds may end before anyone has seen it run
        moves = [e["data"]["to"] for e in items if e["data"]["to"] != "running"]
        check(moves == ["queued", "starting", "completed"], items)
        page = server.get(f"/v1/jobs/{job['id']}/events?limit=2").json
        rest = server.get(f"/v1/jobs/{job['id']}/events?limit=10&cursor={page['next_cursor']}").json
        check([e["id"] for e in page["items"] + rest["items"]] == [e["id"] for e in items], page, rest)
        check(rest["next_cursor"] is None)

    with case("lists: states, owners, text, pages"):
        made = [submit(server, "true", name=f"page-{i}", token=user)["id"] for i in range(5)]
        for one in made:
            ended(server, one, user)
        mine = server.get("/v1/jobs?owner=me&q=page-&limit=2", token=user).json
        check([j["id"] for j in mine["items"]] == made[:2:-1], mine)
        seen, cursor = [], None
        while True:
            page = server.get("/v1/jobs?q=page-&limit=2" + (f"&cursor={cursor}" if cursor else ""), token=user).json
            seen += [j["id"] for j in page["items"]]
            cursor = page["next_cursor"]
            if not cursor:
                break
        check(seen == made[::-1], seen)
        check(server.get("/v1/jobs?state=active&q=page-").json["items"] == [])
        check(len(server.get("/v1/jobs?state=ended,queued&q=page-").json["items"]) == 5)
        check(server.get("/v1/jobs?state=asleep").status == 422)
        check(server.get("/v1/jobs?cursor=x").status == 400)
        check(server.get("/v1/jobs?owner=u-1", token=user).status == 403)
        first = server.get(f"/v1/jobs?q={made[0]}").json["items"]
        check([j["id"] for j in first] == [made[0]], first)

    with case("somebody else's job is not found, and near names are told"):
        theirs = submit(server, "true", name="secret")["id"]
        for path in ("", "/wait", "/log", "/log.txt", "/log/stream", "/events"):
            check(server.get(f"/v1/jobs/{theirs}{path}", token=user).status == 404, path)
        check(server.post(f"/v1/jobs/{theirs}/cancel", token=user).status == 404)
        own = submit(server, "true", name="resnet", token=user)["id"]
        answer = server.get("/v1/jobs/resnt", token=user)
        check(answer.status == 404 and answer.json["detail"] == "no job resnt", answer)
        check(answer.json["hint"].startswith(f"Did you mean {own} (resnet, yours"), answer)
        zh = server.get("/v1/jobs/resnt", token=user, headers={"Accept-Language": "zh-CN"})
        check("没有任务" in zh.json["detail"] and "您是指" in zh.json["hint"], zh)

    with case("what can never run is refused with what would fit"):
        answer = server.post("/v1/jobs", {"command": ["true"], "gpus": 9})
        check(answer.status == 409 and answer.json["code"] == "no_capacity", answer)
        check("has 4 GPUs" in answer.json["hint"] and "RTX4090" in answer.json["hint"], answer)

    with case("an idempotency key gives the first answer again"):
        key = {"Idempotency-Key": "k-1"}
        one = server.post("/v1/jobs", {"command": ["true"], "name": "once"}, headers=key)
        two = server.post("/v1/jobs", {"command": ["true"], "name": "once"}, headers=key)
        check(one.status == two.status == 201 and one.json["id"] == two.json["id"], one, two)
        check(len(server.get("/v1/jobs?q=once").json["items"]) == 1)
        check(server.post("/v1/jobs", {"command": ["false"]}, headers=key).status == 409)


def logs(server, user):
    with case("a log by tail, by offset, by stream, as text"):
        job = ended(server, submit(server, "for i in $(seq 20); do echo line $i; done; echo bad >&2; printf 'a\\0b\\377c'")
                    ["id"])["id"]
        until(lambda: server.get(f"/v1/jobs/{job}/log").json["complete"], what="the whole log")
        whole = server.get(f"/v1/jobs/{job}/log").json
        check(list(whole) == ["items", "next_offset", "complete"] and list(whole["items"][0]) == LINE, whole)
        check([line["n"] for line in whole["items"]] == list(range(1, 23)), whole)
        out = [line["text"] for line in whole["items"] if line["stream"] == "out"]
        check(out[:20] == [f"line {i}" for i in range(1, 21)] and out[20] == "a\ufffdb\ufffdc", out[19:])
        tail = server.get(f"/v1/jobs/{job}/log?tail=3").json["items"]
        check(tail == whole["items"][-3:], tail)
        part = server.get(f"/v1/jobs/{job}/log?offset=0&limit=5").json
        check(part["items"] == whole["items"][:5] and not part["complete"], part)
        rest = server.get(f"/v1/jobs/{job}/log?offset={part['next_offset']}").json
        check(rest["items"] == whole["items"][5:] and rest["complete"], rest)
        err = server.get(f"/v1/jobs/{job}/log?stream=err").json["items"]
        check([line["text"] for line in err] == ["bad"], err)
        text = server.get(f"/v1/jobs/{job}/log.txt")
        check(text.headers["Content-Type"].startswith("text/plain") and b"a\0b\377c" in text.body and
              text.body.startswith(b"line 1\nline 2\n"), text)
        check(server.get(f"/v1/jobs/{job}/log?tail=1&offset=0").status == 400)
        check(server.get(f"/v1/jobs/{job}/log?attempt=2").status == 404)
        check(server.get(f"/v1/jobs/{job}/log?stream=loud").status == 422)

    with case("a stream: the lines, the states, the end; resumed without loss"):
        job = submit(server, "for i in 1 2 3 4 5 6; do echo tick $i; sleep 0.15; done")["id"]
        got, last, states = [], "", []
        with Stream(server, f"/v1/jobs/{job}/log/stream") as s:
            check(s.status == 200 and s.type.startswith("text/event-stream"), s.status, s.type)
            for kind, last, data in s.events():
                if kind == "state":
                    states.append(data["state"])
                elif kind == "message":
                    got.append(data["text"])
                if len(got) == 3:
                    break
        check(last.startswith("1:"), last)
        check(states and states[-1] == "running", states)
        with Stream(server, f"/v1/jobs/{job}/log/stream", headers={"Last-Event-ID": last}) as s:
            for kind, _, data in s.events():
                if kind == "message":
                    got.append(data["text"])
                elif kind == "end":
                    check(data["state"] == "completed" and data["id"] == job, data)
        check(got == [f"tick {i}" for i in range(1, 7)], got)
        with Stream(server, f"/v1/jobs/{job}/log/stream?tail=2") as s:
            kinds = [(kind, data.get("text")) for kind, _, data in s.events()]
        check(kinds == [("message", "tick 5"), ("message", "tick 6"), ("end", None)], kinds)
        check(server.get(f"/v1/jobs/{job}/log/stream", headers={"Last-Event-ID": "nonsense"}).status == 400)

    with case("a stream goes on with the next try"):
        script = "if [ -e $D/again ]; then echo second; else touch $D/again; echo first; exit 1; fi"
        job = submit(server, script, retries=1, env={"D": server.home})["id"]
        lines, end = [], None
        with Stream(server, f"/v1/jobs/{job}/log/stream") as s:
            for kind, _, data in s.events():
                if kind == "message":
                    lines.append((data["attempt"], data["text"]))
                elif kind == "end":
                    end = data
        check(lines == [(1, "first"), (2, "second")], lines)
        check(end and end["state"] == "completed" and end["attempt"] == 2, end)
        check(server.get(f"/v1/jobs/{job}/log?attempt=1").json["items"][0]["text"] == "first")
        check(server.get(f"/v1/jobs/{job}/log.txt").text == "second\n")

    with case("a ticket opens a stream of a browser"):
        job = ended(server, submit(server, "echo hi", token=user)["id"], user)["id"]
        ticket = server.post("/v1/session/ticket", token=user).json["ticket"]
        answer = server.get(f"/v1/jobs/{job}/log/stream?ticket={ticket}", token=None)
        check(answer.status == 200 and "hi" in answer.text, answer)
        check(server.get(f"/v1/jobs/{job}/log/stream?ticket={ticket}", token=None).status == 401)

    with case("a large log comes whole and byte for byte"):
        job = ended(server, submit(server, "seq 1 400000")["id"])["id"]
        want = b"".join(b"%d\n" % i for i in range(1, 400001))
        until(lambda: server.get(f"/v1/jobs/{job}/log?tail=1").json["complete"], 30, what="the whole log")
        text = server.get(f"/v1/jobs/{job}/log.txt", timeout=60)
        check(text.body == want, len(text.body), len(want))


def subscribe(ws, *topics):
    ws.send({"type": "subscribe", "topics": list(topics)})
    return ws.expect("subscribed")


def fleet(server, user):
    with case("GPUs and nodes"):
        answer = server.get("/v1/gpus", token=user)
        require(answer.status == 200 and len(answer.json["items"]) == 4, answer)
        check(list(answer.json["items"][0]) == GPU, list(answer.json["items"][0]))
        check([g["id"] for g in answer.json["items"]] == [f"gpu-00{i}" for i in (1, 2, 3, 4)], answer)
        page = server.get("/v1/gpus?limit=3").json
        rest = server.get("/v1/gpus?limit=3&cursor=" + page["next_cursor"]).json
        check([g["id"] for g in page["items"] + rest["items"]] == [g["id"] for g in answer.json["items"]], page, rest)
        check(server.get("/v1/gpus/gpu-002").json["index"] == 1)
        check(server.get("/v1/gpus/gpu-999").status == 404)
        nodes = server.get("/v1/nodes").json["items"]
        check(len(nodes) == 1 and nodes[0]["state"] == "online" and nodes[0]["gpus"] == 4, nodes)
        check(server.get("/v1/nodes/n-1").json["name"] == nodes[0]["name"])
        check(server.get("/v1/nodes/n-99").status == 404 and server.get("/v1/nodes/99").status == 422)

    with case("who holds a GPU is told to who may know"):
        job = submit(server, "sleep 20", gpus=2, name="hidden")["id"]
        held = until(lambda: [g for g in server.get("/v1/gpus").json["items"] if g["holder"]], what="a held GPU")
        check(len(held) == 2 and held[0]["state"] == "leased", held)
        check(held[0]["holder"]["id"] == job and held[0]["holder"]["name"] == "hidden", held)
        seen = server.get("/v1/gpus/" + held[0]["id"], token=user).json["holder"]
        check(seen["kind"] == "job" and seen["name"] is None and seen["owner"] is None, seen)
        overview = server.get("/v1/overview").json
        check(overview["gpus"]["leased"] == 2 and overview["gpus"]["total"] == 4 and overview["demo"], overview)
        blocked = submit(server, "true", gpus=4, name="waits")
        waiting = until(lambda: [j for j in server.get("/v1/overview").json["waiting"] if j["reason"]],
                        what="a job that waits and says why")
        check(waiting[0]["id"] == blocked["id"] and waiting[0]["position"] == 1, waiting)
        server.post(f"/v1/jobs/{job}/cancel", {"grace_s": 0})
        check(ended(server, blocked["id"])["state"] == "completed")

    with case("events: one's own, or all for operators"):
        every = server.get("/v1/events?limit=1000").json["items"]
        mine = server.get("/v1/events?limit=1000", token=user).json["items"]
        check(len(every) > len(mine) > 0, len(every), len(mine))
        check({e["type"] for e in every} >= {"node.online", "job.created"}, {e["type"] for e in every})
        after = server.get(f"/v1/events?limit=3&after={every[4]['id']}").json
        check([e["id"] for e in after["items"]] == [e["id"] for e in every[5:8]], after)
        check(server.get("/v1/events?after=x").status == 400)


def live(server, user):
    token = server.admin_token()
    auth = {"Authorization": "Bearer " + token}

    with case("topics are granted or refused; seq rises by one"):
        with WebSocket(server.port, "/v1/ws", auth) as ws:
            check(ws.receive()["type"] == "connection_established")
            said = subscribe(ws, "jobs", "nodes", "job:j-99999", "nonsense", "log:")
            check(said["topics"] == ["jobs", "nodes"] and said["refused"] == ["job:j-99999", "nonsense", "log:"], said)
            job = submit(server, "echo hello; sleep 0.3; echo there")["id"]
            said = subscribe(ws, "log:" + job, "job:" + job)
            check(said["refused"] == [], said)
            seq, states, lines = [], [], []
            while "completed" not in states or "there" not in lines:
                message = ws.receive()
                require(message is not None)
                if "topic" in message:
                    seq.append(message["seq"])
                    check("timestamp" in message and "type" in message, message)
                if message["type"] == "job_update" and message["topic"] == "jobs":
                    check(list(message["data"]) == JOB, list(message["data"]))
                    states.append(message["data"]["state"])
                elif message["type"] == "job_log":
                    check(message["data"]["job"] == job, message)
                    lines += [line["text"] for line in message["data"]["lines"]]
            check(seq and seq == list(range(seq[0], seq[0] + len(seq))), seq)
            check(states[-1] == "completed" and lines[-1] == "there", states, lines)
            ws.send({"type": "unsubscribe", "topics": ["jobs"]})
            check("jobs" not in ws.expect("subscribed")["topics"])

    with case("GPUs by the native and by the documented form"):
        with WebSocket(server.port, "/v1/ws", auth) as ws:
            subscribe(ws, "gpu")
            message = ws.expect("gpu_metrics")
            check(list(message["data"]["gpus"][0]) == GPU and len(message["data"]["gpus"]) == 4, message)
        with WebSocket(server.port, "/api/gpu/ws?token=" + token) as ws:
            ws.send({"type": "subscribe_gpu_metrics"})
            message = ws.expect("gpu_metrics")
            check(list(message["data"]) == ["timestamp", "gpus", "total_usage", "total_memory_usage"], message)
            check(set(message["data"]["gpus"][0]) == {"id", "name", "usage", "memory_usage", "memory_total",
                                                      "temperature", "power_usage"}, message)

    with case("a user sees own jobs only"):
        with WebSocket(server.port, "/v1/ws", {"Authorization": "Bearer " + user}) as ws:
            said = subscribe(ws, "jobs", "events")
            check(said["topics"] == ["jobs"] and said["refused"] == ["events"], said)
            submit(server, "true", name="not-yours")
            own = submit(server, "true", name="yours", token=user)["id"]
            message = ws.expect("job_update")
            check(message["data"]["id"] == own, message)

    with case("one task by its documented socket"):
        job = submit(server, "echo out; sleep 0.4; echo late", token=user)
        path = f"/api/gpu/tasks/{job['uuid']}/ws"
        with WebSocket(server.port, f"{path}?token={user}") as ws:
            first = ws.receive()
            check(first["type"] == "connection_established" and first["task_id"] == job["uuid"] and
                  first["connection_id"].startswith("conn_"), first)
            status = ws.receive()
            check(status["type"] == "current_status" and status["task_id"] == job["uuid"] and
                  {"status", "message", "progress", "created_at", "started_at", "completed_at", "provider",
                   "priority"} <= set(status), status)
            counts = server.get(f"/api/gpu/tasks/{job['uuid']}/connections", token=user)
            check(counts.json["connection_count"] == 1 and counts.json["has_active_connections"] is True, counts)
            stats = server.get("/api/gpu/websocket/stats", token=user).json["websocket_statistics"]
            check(stats["task_connection_counts"] == {job["uuid"]: 1}, stats)
            done = ws.expect("task_completed")
            check(done["success"] is True and done["result_data"]["exit_code"] == 0 and
                  isinstance(done["execution_time"], float), done)
            ws.send({"type": "get_status"})
            check(ws.expect("status_response")["status"] == "completed")
            ws.send("not json")
            ws.send({"type": "dance"})
            check(ws.expect("error")["message"])
            ws.send({"type": "ping"})
            check(ws.expect("pong")["task_id"] == job["uuid"])
        for how, code in ((path, 4001), (path + "?token=nonsense", 4003),
                          ("/api/gpu/tasks/00000000-0000-4000-8000-000000000000/ws?token=" + user, 4004)):
            with WebSocket(server.port, how) as ws:
                check(ws.status == 101 and ws.receive() is None and ws.closed == code, how, ws.closed)
        other = submit(server, "true")
        with WebSocket(server.port, f"/api/gpu/tasks/{other['uuid']}/ws?token={user}") as ws:
            check(ws.receive() is None and ws.closed == 4004, "somebody else's task", ws.closed)

    with case("a reader that does not read is closed with 1013"):
        with WebSocket(server.port, "/v1/ws", auth) as ws:
            job = submit(server, "sleep 1; seq 1 300000")["id"]
            subscribe(ws, "log:" + job)
            ended(server, job)
            until(lambda: server.get(f"/v1/jobs/{job}/log?tail=1").json["complete"], 30, what="the whole log")
            time.sleep(4)       # a second behind before it counts, looked at twice a second
            while ws.receive() is not None:
                pass
            check(ws.closed == 1013, ws.closed)

    with case("sockets of one user are bounded"):
        open_ones = []
        try:
            for _ in range(12):
                open_ones.append(WebSocket(server.port, "/v1/ws", {"Authorization": "Bearer " + user}))
            kinds = [ws.receive() for ws in open_ones]
            check(sum(k is not None for k in kinds) == 10, kinds)
            check([ws.closed for ws in open_ones if ws.closed] == [4000, 4000])
        finally:
            for ws in open_ones:
                ws.sock.close()


def forms(server):
    with case("errors are RFC 9457 problems"):
        answer = server.post("/v1/jobs", {"gpus": 2000, "priority": "huge", "colour": "red"})
        check(answer.status == 422 and answer.headers["Content-Type"].startswith("application/problem+json"), answer)
        body = answer.json
        check(list(body) == ["type", "title", "status", "detail", "code", "request_id", "errors", "hint"], body)
        check([(i["field"], i["rule"]) for i in body["errors"]] ==
              [("command", "missing"), ("gpus", "less_than_equal"), ("colour", "extra_forbidden")], body)
        answer = server.post("/v1/jobs", {"command": ["true"], "priority": "huge"})
        check(answer.status == 422 and answer.json["errors"][0]["field"] == "priority", answer)
        check(server.post("/v1/jobs", "{", headers={"Content-Type": "application/json"}).status == 422)
        check(server.post("/v1/jobs", "x=1", headers={"Content-Type": "text/plain"}).status == 415)
        check(server.post("/v1/jobs", b'{"command":["' + b"x" * (2 << 20) + b'"]}',
                          headers={"Content-Type": "application/json"}).status == 413)
        answer = server.request("DELETE", "/v1/jobs")
        check(answer.status == 405 and answer.headers["Allow"] == "GET, HEAD, POST", answer, answer.headers["Allow"])
        check(server.get("/v1/nothing").json["type"] == "/problems/not_found")
        check(server.get("/v1/jobs", token=None).status == 401)

    with case("ETag, HEAD, request ids"):
        one = server.get("/v1/nodes/n-1")
        same = server.request("GET", "/openapi.json", token=None)
        again = server.request("GET", "/openapi.json", token=None, headers={"If-None-Match": same.headers["ETag"]})
        check(again.status == 304 and again.body == b"" and one.headers["ETag"], again)
        head = server.request("HEAD", "/v1/version", token=None)
        check(head.status == 200 and head.body == b"" and int(head.headers["Content-Length"]) > 20, head)
        wanted = "11111111-2222-4333-8444-555555555555"
        check(server.get("/v1/version", headers={"X-Request-ID": wanted}).headers["X-Request-ID"] == wanted)

    with case("the front door"):
        check(server.request("GET", "/health", token=None).body == b'{"status":"healthy"}')
        more = server.get("/health?verbose=1", token=None).json
        check(set(more) == {"status", "timestamp", "version", "uptime_seconds"}, more)
        ready = server.get("/ready", token=None).json
        check(ready["status"] == "ready" and list(ready["checks"])[:2] == ["database", "event_bus"] and
              ready["checks"]["gpu_monitor"] == "simulated", ready)
        plain = server.get("/", token=None)
        check(plain.json["message"] == "Welcome to GPU Compute Platform API", plain)
        metrics = server.get("/metrics").text
        for name in ("gpuplat_build_info", "gpuplat_http_requests_total", "gpuplat_websocket_connections",
                     "gpuplat_jobs", "gpuplat_db_commits_total"):
            check(name in metrics, name)
        check(all(metrics.count(f"# TYPE {n} ") == 1 for n in
                  {line.split()[2] for line in metrics.splitlines() if line.startswith("# TYPE")}))

    with case("files of the web interface"):
        html = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
        page = server.get("/", token=None, headers=html)
        check(page.headers["Content-Type"].startswith("text/html") and b"shell" in page.body, page)
        policy = page.headers["Content-Security-Policy"]
        check("default-src 'self'" in policy and "script-src" not in policy.replace("script-src 'self'", ""), policy)
        inner = server.get("/jobs/j-1", token=None, headers=html)
        check(inner.status == 200 and inner.body == page.body, inner)
        check(server.get("/jobs/j-1", token=None).status == 404, "not for programs")
        check(server.get("/api/nothing", token=None, headers=html).json == {"detail": "Not Found"})
        script = server.get("/assets/index-DX2DBB5I.js", token=None)
        check(script.headers["Content-Type"].startswith("text/javascript") and
              "immutable" in script.headers["Cache-Control"] and script.headers["ETag"], script.headers.items())
        check(server.get("/assets/gone.js", token=None, headers=html).status == 404)
        for path in ("/../secret", "/assets/../../secret", "/%2e%2e/secret", "/assets/%2e%2e%2f%2e%2e%2fsecret"):
            check(server.get(path, token=None).status in (400, 404), path)


def share(folder):
    os.makedirs(os.path.join(folder, "web", "assets"))
    for name, text in (("web/index.html", "<!doctype html><p>shell"), ("secret", "secret"),
                       ("web/assets/index-DX2DBB5I.js", "console.log(1)")):
        with open(os.path.join(folder, name), "w") as f:
            f.write(text)


METRICS = """build_info uptime_seconds http_requests_total http_request_duration_seconds websocket_connections
gpu_utilization_percent gpu_memory_used_bytes gpu_memory_total_bytes gpu_temperature_celsius gpu_power_watts
gpu_power_limit_watts gpu_state jobs job_duration_seconds queue_depth nodes events_total provider_score host_cpu_percent
host_memory_used_bytes host_disk_used_bytes host_network_bytes_total snapshot_requests_total
db_query_duration_seconds""".split()


def edges(server, user):
    """What surfaces share: conditions, keys, early refusals, the documented names of things."""
    with case("If-Match: a change of a state that is gone is refused, and changes nothing"):
        me = server.get("/v1/session", token=user).json["user"]["id"]
        seen = server.get(f"/v1/users/{me}", token=user)
        require(seen.headers["ETag"], seen)

        def change(name, match):
            return server.request("PATCH", f"/v1/users/{me}", {"nickname": name}, token=user, headers={"If-Match": match})
        check(change("first", seen.headers["ETag"]).status == 200)
        late = change("second", seen.headers["ETag"])
        check(late.status == 412 and late.json["code"] == "precondition_failed" and
              late.headers["Content-Type"] == "application/problem+json", late)
        check(server.get(f"/v1/users/{me}", token=user).json["nickname"] == "first")
        check(change("third", "*").status == 200)
    with case("Idempotency-Key: one token and one user, however often the create is sent"):
        for path, body in (("/v1/tokens", {"name": "once"}), ("/v1/users", {"email": "once@example.com"})):
            key = {"Idempotency-Key": "k-" + path}
            first = server.post(path, body, headers=key)
            again = server.post(path, body, headers=key)
            other = server.post(path, {**body, "email": "o@example.com"} if "users" in path else {"name": "o"}, headers=key)
            check(first.status == 201 and again.status == 409 and other.status == 409, first, again, other)
        key = {"Idempotency-Key": "job"}
        first, again = (server.post("/v1/jobs", {"command": ["true"]}, headers=key) for _ in range(2))
        check(first.status == again.status == 201 and first.json["id"] == again.json["id"], first, again)
    with case("a key of an administrator acts as its user on routes of owners, never as administrator"):
        theirs = submit(server, "true", token=user)
        key = server.post("/v1/tokens", {"name": "admin's"}).json["token"]
        task = server.get(f"/v1/jobs/{theirs['id']}").json["uuid"]
        for path in (f"/v1/jobs/{theirs['id']}", f"/api/gpu/tasks/{task}", f"/v1/jobs/{theirs['id']}/log"):
            check(server.get(path).status == 200, path)
            check(server.get(path, token=key).status == 404, server.get(path, token=key))
        check(server.post(f"/api/gpu/tasks/{task}/cancel", token=key).status == 404)
        seen = [j["id"] for j in server.get("/v1/jobs?owner=all", token=key).json["items"]]
        check(theirs["id"] not in seen and seen, seen)
    with case("what is refused early has the envelope of its path and an X-Request-ID"):
        for path, member in (("/v1/a%00b", "request_id"), ("/api/v1/gpu/%00", "timestamp"), ("/api/v1/gpus/%00", "message"),
                             ("/api/gpu/%00", "detail")):
            answer = server.get(path)
            check(answer.status == 400 and member in answer.json and answer.headers["X-Request-ID"], path, answer)
        big = server.get("/v1/jobs", headers={"X-Big": "a" * 6000})
        check(big.status == 431 and big.json["status"] == 431 and
              big.json["request_id"] == big.headers["X-Request-ID"], big)
    with case("a WebSocket's path in plain HTTP: 426, in the surface's words"):
        for path in ("/v1/ws", "/api/v1/ws", "/ws"):
            answer = server.get(path, token=user)
            check(answer.status == 426 and answer.headers["Upgrade"] == "websocket" and not answer.headers["Allow"], answer)
    with case("GPU routes: this machine is server-001, lists are sorted, the task's id is the documented one"):
        job = submit(server, "sleep 5", gpus=1)
        until(lambda: server.get(f"/v1/jobs/{job['id']}").json["state"] == "running", 20)
        status = until(lambda: next((g for g in server.get("/api/v1/gpu/status?server_id=server-001").json["data"]["gpus"]
                                     if g["current_task"] and g["current_task"]["task_id"] == job["uuid"]), None), 10)
        check(server.get(f"/api/gpu/tasks/{status['current_task']['task_id']}").status == 200)
        for path in ("/api/v1/gpu/summary", "/api/v1/gpu/available", "/api/v1/gpu/0", "/api/v1/gpu/0/details"):
            check(server.get(path + "?server_id=server-001").status == 200, path)
            check(server.get(path + "?server_id=elsewhere").status == 404, path)
        ids = [g["id"] for g in server.get("/api/v1/gpus?server_id=server-001").json["data"]]
        down = [g["id"] for g in server.get("/api/v1/gpus?sort=-id").json["data"]]
        check(down == sorted(ids, reverse=True) and len(ids) > 1, ids, down)
        states = [g["status"] for g in server.get("/api/v1/gpus?sort=status").json["data"]]
        check(states == sorted(states, key=["available", "allocated", "in_use", "error"].index), states)
        check(server.get("/api/v1/gpus?sort=colour").status == 400)
    with case("documented details: order of /ready, totals, what a broken rule was sent"):
        check(list(server.get("/ready").json["checks"])[:4] == ["database", "event_bus", "scheduler", "gpu_monitor"])
        tasks = server.get("/api/gpu/tasks?limit=1")
        check(int(tasks.headers["X-Total-Count"]) == tasks.json["total"] > 1, tasks)
        answer = server.post("/api/gpu/jobs/submit", {"name": "x", "image": "", "command": ["true"], "gpu_spec": {
            "gpu_type": "RTX4090", "gpu_count": 1, "memory_gb": 1, "vcpus": 1, "ram_gb": 1}})
        check(answer.status == 422 and answer.json["detail"][0]["input"] == "", answer)
        answer = server.get("/api/gpu/tasks/nonsense/connections")
        check(answer.status == 422 and answer.json["detail"][0]["type"] == "uuid_parsing", answer)
    with case("every documented metric of a room that exists"):
        text = server.get("/metrics").text
        missing = [m for m in METRICS if f"# TYPE gpuplat_{m} " not in text]
        check(not missing, missing)
        check('gpuplat_events_total{subject="job.created"}' in text and
              "gpuplat_db_query_duration_seconds_count" in text, text[:2000])


with Server(demo=True, env={"LIVE_CONNECTIONS_PER_USER": "10"}) as the_server:
    the_server.stop()
    share(os.path.join(the_server.home, "share"))
    the_server.settings["SHARE_DIR"] = os.path.join(the_server.home, "share")
    the_server.start()
    the_server.new_user("user@example.com", "a-long-password-1")
    user_token = the_server.sign_in("user@example.com", "a-long-password-1")
    forms(the_server)
    jobs(the_server, user_token)
    logs(the_server, user_token)
    fleet(the_server, user_token)
    live(the_server, user_token)
    edges(the_server, user_token)
    with case("SIGTERM ends the server in order, with streams and waits open"):
        held_job = submit(the_server, "sleep 60")["id"]
        held_ws = WebSocket(the_server.port, "/v1/ws", {"Authorization": "Bearer " + user_token})
        held_stream = Stream(the_server, f"/v1/jobs/{held_job}/log/stream")
        held_wait = threading.Thread(target=lambda: the_server.get(f"/v1/jobs/{held_job}/wait?timeout_s=100"))
        held_wait.start()
        time.sleep(0.5)
        check(the_server.stop() == 0, the_server.process.returncode, the_server.printed()[-3000:])
        held_wait.join(5)
        check(not held_wait.is_alive(), "the wait was answered")
        check("ERROR: AddressSanitizer" not in the_server.printed() and
              "LeakSanitizer" not in the_server.printed(), the_server.printed()[-3000:])
finish()
