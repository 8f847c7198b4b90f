#!/usr/bin/env python3
"""Accounts as people use them and as thieves try to: the documented flow, sessions that end when they must,
refresh tokens that cannot be used twice, tokens and tickets, the last administrator, the unix socket, and the
rule that lets this machine in without a credential."""
import glob
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import TOP, Server, WebSocket, case, check, finish, require, skip, until  # noqa: E402

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PASSWORD = "correct-horse-1"
OPEN_ROUTE = "/v1/session"      # answers whoever the trusted-network rule lets in


def login(server, email, password=PASSWORD):
    """The documented sign-in."""
    form = urllib.parse.urlencode({"username": email, "password": password})
    return server.post("/auth/jwt/login", form, headers=FORM, token=None)


def session(server, email, password=PASSWORD):
    answer = server.post("/v1/session", {"email": email, "password": password}, token=None)
    require(answer.status == 200, answer)
    return answer.json


def me(server, token):
    return server.get("/auth/users/me", token=token).status


def patch(server, path, body, **more):
    return server.request("PATCH", path, body, **more)


def audit(server, what="outcome"):
    with sqlite3.connect(f"file:{server.data}/database.db?mode=ro", uri=True) as db:
        return [row[0] for row in db.execute(f"SELECT {what} FROM audit_log ORDER BY id")]


def documented(server):
    with case("register, sign in, use the token, be refused what is an administrator's"):
        answer = server.post("/auth/register", {
            "email": "Demo@Example.com", "password": PASSWORD, "first_name": "De", "last_name": "Mo",
            "organization": "Example", "role": "admin", "is_superuser": True, "is_verified": True}, token=None)
        require(answer.status == 201, answer)
        user = answer.json
        check(user["email"] == "demo@example.com" and user["role"] == "user", user)
        check((user["is_active"], user["is_superuser"], user["is_verified"]) == (True, False, False), user)
        answer = login(server, "demo@example.com")
        require(answer.status == 200 and answer.json["token_type"] == "bearer", answer)
        token = answer.json["access_token"]
        answer = server.get("/api/protected-route", token=token)
        check(answer.status == 200 and answer.json["user"] == "demo@example.com", answer)
        check(answer.json["user_data"]["total_cost"] == "0.0", answer)
        answer = server.get("/api/protected-route", token=None)
        check(answer.status == 401 and answer.headers["WWW-Authenticate"] == "Bearer", answer)
        check(answer.json == {"detail": "Unauthorized"}, answer)
        answer = server.get("/api/admin-only", token=token)
        check(answer.status == 403 and answer.json == {"detail": "Forbidden"}, answer)
        check(server.get("/api/admin-only").status == 200)
        check(server.get("/auth/users/me", token=token).json["last_login"] is not None)

    with case("what registration refuses, in the documented words and in Chinese"):
        body = {"email": "DEMO@example.com", "password": PASSWORD}
        answer = server.post("/auth/register", body, token=None)
        check(answer.status == 400 and answer.json == {"detail": "REGISTER_USER_ALREADY_EXISTS"}, answer)
        for password in ("short", "x" * 1025, "My-NEW@example.com"):
            answer = server.post("/auth/register", {"email": "new@example.com", "password": password}, token=None)
            check(answer.status == 400, answer)
            check(answer.json["detail"]["code"] == "REGISTER_INVALID_PASSWORD" and answer.json["detail"]["reason"],
                  answer)
        answer = server.post("/auth/register", {"email": "new@example.com", "password": "short"}, token=None,
                             headers={"Accept-Language": "zh-CN,zh;q=0.9"})
        check("密码" in answer.json["detail"]["reason"], answer)
        answer = server.post("/auth/register", {"email": "no address", "password": 1}, token=None)
        check(answer.status == 422 and [i["loc"] for i in answer.json["detail"]] == [["body", "email"],
                                                                                     ["body", "password"]], answer)

    with case("people register by themselves only from this machine; a page elsewhere or a proxy is not here"):
        for headers in ({"X-Forwarded-For": "203.0.113.9"}, {"Origin": "https://evil.example"},
                        {"Host": "evil.example"}):
            answer = server.post("/auth/register", {"email": "far@example.com", "password": PASSWORD}, token=None,
                                 headers=headers)
            check(answer.status == 403 and answer.json == {"detail": "REGISTER_CLOSED"}, headers, answer)

    with case("one answer, and one Argon2, for wrong password, unknown address and inactive account"):
        server.new_user("idle@example.com", PASSWORD)
        answer = server.local("GET", "/v1/users?limit=1000")
        idle = next(u for u in answer.json["items"] if u["email"] == "idle@example.com")
        patch(server, f"/v1/users/{idle['id']}", {"is_active": False}, unix=True)
        took = {}
        for email in ("demo@example.com", "nobody@example.com", "idle@example.com"):
            begun = time.monotonic()
            answer = login(server, email, PASSWORD if email.startswith("idle") else "wrong-password")
            took[email] = time.monotonic() - begun
            check(answer.status == 400 and answer.json == {"detail": "LOGIN_BAD_CREDENTIALS"}, answer)
        # an early way out would take a hundredth of it
        check(min(took.values()) > max(took.values()) / 20, took)
        answer = server.post("/auth/jwt/login", "username=demo@example.com", headers=FORM, token=None)
        check(answer.status == 422 and answer.json["detail"][0]["loc"] == ["body", "password"], answer)

    with case("refresh gives another token and leaves the old one; logout ends just the one"):
        old = login(server, "demo@example.com").json["access_token"]
        answer = server.post("/auth/refresh", token=old)
        require(answer.status == 200, answer)
        new = answer.json["access_token"]
        check(me(server, old) == 200 and me(server, new) == 200)
        check(server.post("/auth/jwt/logout", token=new).status == 204)
        check(me(server, new) == 401 and me(server, old) == 200)
        check(server.post("/auth/refresh", token=new).status == 401)
        check(server.post("/auth/refresh", token=None).status == 401)
    return old, new


def profile(server):
    with case("people change themselves, but not what they are"):
        token = login(server, "demo@example.com").json["access_token"]
        answer = patch(server, "/auth/users/me", {
            "nickname": "De", "phone": "1", "role": "admin", "is_superuser": True, "is_active": False,
            "is_verified": True}, token=token)
        check(answer.status == 200 and answer.json["nickname"] == "De", answer)
        check((answer.json["role"], answer.json["is_verified"]) == ("user", False), answer)
        answer = patch(server, "/auth/users/me", {"email": server.admin_email}, token=token)
        check(answer.status == 400 and answer.json == {"detail": "UPDATE_USER_EMAIL_ALREADY_EXISTS"}, answer)
        answer = patch(server, "/auth/users/me", {"password": "short"}, token=token)
        check(answer.status == 400 and answer.json["detail"]["code"] == "UPDATE_USER_INVALID_PASSWORD", answer)
        own = server.get("/v1/session", token=token).json["user"]
        answer = patch(server, f"/v1/users/{own['id']}", {"role": "admin"}, token=token)
        check(answer.status == 403, answer)
        answer = patch(server, f"/v1/users/{own['id']}", {"shoe_size": 43}, token=token)
        check(answer.status == 422 and answer.json["errors"][0]["field"] == "shoe_size", answer)
        check(server.get("/v1/users/u-1", token=token).status == 404, "another's account is not found")
        check(server.get("/v1/users", token=token).status == 403)
        check(server.get(f"/auth/users/{own['uuid']}", token=token).status == 403)
        check(server.get(f"/auth/users/{own['uuid']}").json["email"] == "demo@example.com")
        check(server.get("/auth/users/00000000-0000-4000-8000-000000000000").json == {"detail": "Not Found"})
        check(server.get("/auth/users/17").status == 422)

    with case("another e-mail is unverified again"):
        user = server.new_user("mover@example.com", PASSWORD)
        answer = patch(server, f"/auth/users/{user['uuid']}", {"is_verified": True})
        check(answer.status == 200 and answer.json["is_verified"], answer)
        token = login(server, "mover@example.com").json["access_token"]
        answer = patch(server, "/auth/users/me", {"email": "Moved@example.com"}, token=token)
        check(answer.status == 200, answer)
        check((answer.json["email"], answer.json["is_verified"]) == ("moved@example.com", False), answer)
        check(login(server, "moved@example.com").status == 200)
        check(login(server, "mover@example.com").status == 400)

    with case("a new password, a deactivated and a deleted account end every session at once"):
        user = server.new_user("gone@example.com", PASSWORD)
        first, second = session(server, "gone@example.com"), session(server, "gone@example.com")
        check(me(server, first["access_token"]) == 200)
        answer = patch(server, "/auth/users/me", {"password": "another-horse-2"}, token=first["access_token"])
        check(answer.status == 200, answer)
        for pair in (first, second):
            check(me(server, pair["access_token"]) == 401)
            answer = server.post("/v1/session/refresh", {"refresh_token": pair["refresh_token"]}, token=None)
            check(answer.status == 401, answer)
        check(login(server, "gone@example.com").status == 400)
        third = session(server, "gone@example.com", "another-horse-2")
        patch(server, f"/auth/users/{user['uuid']}", {"is_active": False})
        check(me(server, third["access_token"]) == 401)
        patch(server, f"/auth/users/{user['uuid']}", {"is_active": True})
        check(me(server, third["access_token"]) == 401, "a session does not come back to life")
        fourth = session(server, "gone@example.com", "another-horse-2")
        key = server.post("/v1/tokens", {"name": "x"}, token=fourth["access_token"]).json["token"]
        check(me(server, key) == 200)
        check(server.delete(f"/auth/users/{user['uuid']}").status == 204)
        check(me(server, fourth["access_token"]) == 401 and me(server, key) == 401)
        check(server.get(f"/auth/users/{user['uuid']}").status == 404)

    with case("a lower role counts at once, also for tokens"):
        user = server.new_user("ops@example.com", PASSWORD, "admin")
        token = session(server, "ops@example.com")["access_token"]
        key = server.post("/v1/tokens", {"name": "x"}, token=token).json["token"]
        check(server.get("/v1/users", token=token).status == 200)
        check(server.get("/v1/users", token=key).status == 200)
        patch(server, f"/auth/users/{user['uuid']}", {"is_superuser": False})
        check(server.get("/v1/users", token=token).status == 403)
        check(server.get("/v1/users", token=key).status == 403)


def sessions(server):
    with case("a refresh token works once; using it again ends the family, and that is written down"):
        first = session(server, "demo@example.com")
        check(first["user"]["email"] == "demo@example.com" and first["expires_in"] == 1800, first)
        answer = server.post("/v1/session/refresh", {"refresh_token": first["refresh_token"]}, token=None)
        require(answer.status == 200, answer)
        second = answer.json
        check(second["refresh_token"] != first["refresh_token"])
        check(me(server, second["access_token"]) == 200)
        # an answer that was lost (a page reloaded meanwhile) is given again for a moment: the same one
        again = server.post("/v1/session/refresh", {"refresh_token": first["refresh_token"]}, token=None)
        require(again.status == 200, again)
        check(again.json["refresh_token"] == second["refresh_token"], again)
        answer = server.post("/v1/session/refresh", {"refresh_token": second["refresh_token"]}, token=None)
        require(answer.status == 200, answer)
        third = answer.json
        # once its follower was used a token is dead, and who shows it ends the whole session
        answer = server.post("/v1/session/refresh", {"refresh_token": first["refresh_token"]}, token=None)
        check(answer.status == 401, answer)
        for pair in (first, second, third):
            check(me(server, pair["access_token"]) == 401)
            answer = server.post("/v1/session/refresh", {"refresh_token": pair["refresh_token"]}, token=None)
            check(answer.status == 401, answer)
        check("refresh token used twice" in audit(server), audit(server)[-8:])

    with case("refresh tokens that never were"):
        good = session(server, "demo@example.com")["refresh_token"]
        for bad in ("", "drr_", good[:-1], good + "x", "drv_" + good[4:], "drr_" + "0" * 48, "x" * 100000):
            answer = server.post("/v1/session/refresh", {"refresh_token": bad}, token=None)
            check(answer.status == 401, bad[:60], answer)
        answer = server.post("/v1/session/refresh", {"refresh_token": good}, token=None)
        check(answer.status == 200, "the good one is still good", answer)

    with case("signing out ends the access token and the refresh token"):
        pair = session(server, "demo@example.com")
        other = session(server, "demo@example.com")
        check(server.delete("/v1/session", token=pair["access_token"]).status == 204)
        check(me(server, pair["access_token"]) == 401 and me(server, other["access_token"]) == 200)
        answer = server.post("/v1/session/refresh", {"refresh_token": pair["refresh_token"]}, token=None)
        check(answer.status == 401, answer)

    with case("credentials that are none are refused, also where none is needed"):
        good = session(server, "demo@example.com")["access_token"]
        head, body, mac = good.split(".")
        for bad in ("x", "", "drv_x", f"{head}.{body}.", f"{head}.{body}", f"{body}.{head}.{mac}", good + "A",
                    "eyJhbGciOiJub25lIn0." + body + ".", "a" * 9000):
            answer = server.get(OPEN_ROUTE, token=None, headers={"Authorization": "Bearer " + bad})
            check(answer.status in (401, 431), bad[:60], answer)
        answer = server.get(OPEN_ROUTE, token=None, headers={"Authorization": "Basic YTpi"})
        check(answer.status == 401, answer)
        check(login(server, "demo@example.com").status == 200, "an old token keeps nobody from signing in")

    with case("one account's failures slow down that account only"):
        server.new_user("slow@example.com", PASSWORD)
        seen = [login(server, "slow@example.com", "wrong-password").status for _ in range(6)]
        check(seen[:5] == [400] * 5 and seen[5] == 429, seen)
        answer = login(server, "slow@example.com")
        check(answer.status == 429 and int(answer.headers["Retry-After"]) >= 1, answer)
        check(login(server, "demo@example.com").status == 200)
        until(lambda: login(server, "slow@example.com").status == 200, 10, 0.3, "the owner's sign-in")


def tokens(server):
    with case("service tokens: shown once, good at once, gone at once"):
        token = session(server, "demo@example.com")["access_token"]
        answer = server.post("/v1/tokens", {"name": "ci", "expires_in_days": 3}, token=token)
        require(answer.status == 201 and answer.json["token"].startswith("drv_"), answer)
        made = answer.json
        check(made["token"].startswith(made["prefix"]) and made["last_used_at"] is None, made)
        answer = server.get("/v1/tokens", token=made["token"])
        check(answer.status == 200 and made["token"] not in answer.text, answer)
        check([t["id"] for t in answer.json["items"]] == [made["id"]], answer)
        check(server.get("/v1/session", token=made["token"]).json["via"] == "token")
        check(server.post("/v1/tokens", {"name": "more"}, token=made["token"]).status == 403)
        own = server.get("/v1/session", token=token).json["user"]["id"]
        answer = patch(server, f"/v1/users/{own}", {"password": "stolen-horse-3"}, token=made["token"])
        check(answer.status == 403, "a token does not take over its account", answer)
        answer = patch(server, "/auth/users/me", {"password": "stolen-horse-3"}, token=made["token"])
        check(answer.status == 403, answer)
        check(server.post("/auth/refresh", token=made["token"]).status == 409)
        server.new_user("other@example.com", PASSWORD)
        other = session(server, "other@example.com")["access_token"]
        check(server.delete(f"/v1/tokens/{made['id']}", token=other).status == 404)
        check(server.delete(f"/v1/tokens/{made['id']}", token=token).status == 204)
        check(me(server, made["token"]) == 401)
        for bad in ({}, {"name": ""}, {"name": "x", "expires_in_days": 0}, {"name": "x", "days": 1}):
            check(server.post("/v1/tokens", bad, token=token).status == 422, bad)

    with case("a token of an ordinary account opens no operators' doors"):
        token = session(server, "demo@example.com")["access_token"]
        key = server.post("/v1/tokens", {"name": "x"}, token=token).json["token"]
        check(server.get("/v1/users", token=key).status == 403)
        check(server.post("/v1/users", {"email": "z@example.com"}, token=key).status == 403)

    with case("lists go on where the cursor says"):
        seen, cursor = [], ""
        while cursor is not None:
            page = server.get("/v1/users?limit=2" + (f"&cursor={cursor}" if cursor else "")).json
            check(len(page["items"]) <= 2)
            seen += [u["id"] for u in page["items"]]
            cursor = page["next_cursor"]
        check(len(seen) == len(set(seen)) >= 5, seen)
        check(server.get("/v1/users?cursor=x").status == 400)
        check(server.get("/v1/users?limit=0").status == 422)

    with case("a ticket opens one connection"):
        token = session(server, "demo@example.com")["access_token"]
        answer = server.post("/v1/session/ticket", token=token)
        require(answer.status == 200, answer)
        ticket = answer.json["ticket"]
        check(server.get("/v1/session?ticket=" + ticket, token=None).json.get("via") != "ticket",
              "an ordinary request takes no ticket")
        with WebSocket(server.port, "/v1/ws?ticket=" + ticket) as ws:
            check(ws.status == 101, ws.status)
        with WebSocket(server.port, "/v1/ws?ticket=" + ticket) as ws:
            check(ws.status == 401 or ws.receive() is None, ws.status)
        with WebSocket(server.port, "/v1/ws?token=" + token) as ws:
            check(ws.status == 401 or ws.receive() is None, "tokens in an address are for the documented sockets")
        check(server.post("/v1/session/ticket", token=None).status == 401)


def live(server):
    with case("a live connection ends with what it was opened with"):
        server.new_user("watcher@example.com", PASSWORD)
        pair = session(server, "watcher@example.com")
        other = session(server, "watcher@example.com")
        ticket = server.post("/v1/session/ticket", token=pair["access_token"]).json["ticket"]
        kept = server.post("/v1/session/ticket", token=other["access_token"]).json["ticket"]
        with WebSocket(server.port, "/v1/ws?ticket=" + ticket) as gone, \
                WebSocket(server.port, "/v1/ws?ticket=" + kept) as there, \
                WebSocket(server.port, "/v1/ws", {"Authorization": "Bearer " + pair["access_token"]}) as direct:
            require((gone.status, there.status, direct.status) == (101, 101, 101))
            check(server.delete("/v1/session", token=pair["access_token"]).status == 204)
            for ws in (gone, direct):
                while ws.receive() is not None:
                    pass
                check(ws.closed == 4003, ws.closed)
            there.send({"type": "subscribe", "topics": ["jobs"]})
            check(there.expect("subscribed") is not None, "the other session's connection goes on")
            user = pair["user"]["uuid"]
            patch(server, f"/auth/users/{user}", {"is_active": False})
            while there.receive() is not None:
                pass
            check(there.closed == 4003, there.closed)


def keys(server):
    with case("a documented API key: made by an administrator, shown once, with the permissions it was given"):
        user = server.new_user("keyed@example.com", PASSWORD)
        body = {"user_id": "keyed@example.com", "permissions": ["training", "fleet"], "expires_in_days": None}
        answer = server.post("/api/v1/auth/generate-key", body)
        require(answer.status == 201 and answer.json["code"] == 201, answer)
        made = answer.json["data"]
        check(re.fullmatch(r"sk_live_[A-Za-z0-9]{32}", made["api_key"]) and made["user_id"] == user["uuid"], made)
        check(made["permissions"] == ["training", "fleet"] and made["expires_at"] is None, made)
        key = made["api_key"]
        check(server.get("/auth/users/me", token=key).json["email"] == "keyed@example.com")
        check(server.get("/api/admin-only", token=key).status == 403)
        check(server.post("/v1/tokens", {"name": "x"}, token=key).status == 403, "a key makes no keys")
        body["expires_in_days"] = 7
        answer = server.post("/api/v1/auth/generate-key", {"user_id": user["uuid"], "permissions": []})
        check(answer.status == 201 and answer.json["data"]["expires_at"] is not None, "30 days unless told", answer)
        for change, status in (({"user_id": "nobody"}, 404), ({"permissions": ["root"]}, 422),
                               ({"expires_in_days": 0}, 422)):
            answer = server.post("/api/v1/auth/generate-key", dict(body, **change))
            check(answer.status == status and answer.json["code"] == status, change, answer)
        token = session(server, "keyed@example.com")["access_token"]
        check(server.post("/api/v1/auth/generate-key", body, token=token).status == 403)
        listed = server.get("/v1/tokens", token=token).json["items"]
        check([(t["prefix"], t["permissions"]) for t in listed]
              == [(key[:12], ["training", "fleet"]), (listed[1]["prefix"], [])], listed)
        check(server.post("/v1/tokens", {"name": "x", "permissions": ["fleet"]}, token=token).status == 403,
              "nobody gives himself more than his role has")
        check(server.post("/v1/tokens", {"name": "x", "permissions": ["root"]}, token=token).status == 422)
        check(server.delete(f"/v1/tokens/{listed[0]['id']}", token=token).status == 204)
        check(server.get("/auth/users/me", token=key).status == 401, "a deleted key ends at once")


def sign_ins(server):
    with case("where an account is signed in, and ending it there"):
        server.new_user("many@example.com", PASSWORD)
        pairs = [server.post("/v1/session", {"email": "many@example.com", "password": PASSWORD}, token=None,
                             headers={"User-Agent": f"browser {i}"}).json for i in range(3)]
        mine = pairs[0]["access_token"]
        items = server.get("/v1/sessions", token=mine).json["items"]
        check([(s["agent"], s["current"], s["address"]) for s in items]
              == [(f"browser {i}", i == 0, "127.0.0.1") for i in range(3)], items)
        check(server.delete(f"/v1/sessions/{items[1]['id']}", token=mine).status == 204)
        check(me(server, pairs[1]["access_token"]) == 401 and me(server, pairs[2]["access_token"]) == 200)
        check(server.delete(f"/v1/sessions/{items[1]['id']}", token=mine).status == 404)
        other = session(server, "demo@example.com")["access_token"]
        check(server.delete(f"/v1/sessions/{items[2]['id']}", token=other).status == 404)
        check(server.get(f"/v1/sessions?user={pairs[0]['user']['id']}", token=other).status == 404)
        check(len(server.get(f"/v1/sessions?user={pairs[0]['user']['id']}").json["items"]) == 2)
        check(server.delete(f"/v1/sessions/{items[2]['id']}").status == 204, "an administrator")
        check(me(server, pairs[2]["access_token"]) == 401)
        done = server.cli("session", "list", "--user", "many@example.com")
        check(done.returncode == 0 and "browser 0" in done.stdout and "browser 1" not in done.stdout, done)


def audited(server):
    with case("the audit log: filters, pages, lines of JSON, and only for administrators"):
        token = session(server, "demo@example.com")["access_token"]
        check(server.get("/v1/audit", token=token).status == 403)
        check(server.get("/v1/audit.jsonl", token=token).status == 403)
        seen, cursor = [], ""
        while cursor is not None:
            page = server.get("/v1/audit?limit=40" + (f"&cursor={cursor}" if cursor else "")).json
            seen += [int(a["id"][2:]) for a in page["items"]]
            cursor = page["next_cursor"]
        check(seen == sorted(set(seen), reverse=True) and len(seen) > 50, len(seen))
        rows = server.get("/v1/audit?route=/v1/sessions&outcome=ok&method=DELETE").json["items"]
        check(rows and {(a["route"], a["outcome"]) for a in rows} == {("/v1/sessions/{id}", "ok")}, rows)
        rows = server.get("/v1/audit?user=many@example.com").json["items"]
        check(rows and {a["principal"] for a in rows} == {"user:many@example.com"}, rows[:3])
        check(server.get("/v1/audit?since=2100-01-01T00:00:00Z").json["items"] == [])
        check(server.get("/v1/audit?user=nobody@example.com").status == 404)
        check(server.get("/v1/audit?cursor=x").status == 400)
        answer = server.get("/v1/audit.jsonl?limit=5")
        check(answer.headers["Content-Type"] == "application/x-ndjson" and answer.headers["X-Next-Cursor"], answer)
        check(len([json.loads(line) for line in answer.text.splitlines()]) == 5, answer)
        done = server.cli("audit", "--lines", "--outcome", "forbidden")
        check(done.returncode == 0 and all(json.loads(line)["outcome"] == "forbidden"
                                           for line in done.stdout.splitlines()) and done.stdout, done)
        found = server.get("/v1/users?q=MANY&role=user&active=yes").json["items"]
        check([u["email"] for u in found] == ["many@example.com"], found)


def doors(server):
    with case("this machine needs no credential where the documents show none"):
        answer = server.get(OPEN_ROUTE, token=None)
        check(answer.status == 200 and (answer.json["via"], answer.json["role"]) == ("trusted", "operator"), answer)
        here = f"127.0.0.1:{server.port}"
        rows = [({"Host": f"localhost:{server.port}"}, 200), ({"Origin": f"http://{here}"}, 200),
                ({"Origin": "http://localhost:3000"}, 200),
                ({"Origin": "https://evil.example"}, 401), ({"Origin": "null"}, 401), ({"Origin": "*"}, 401),
                ({"Host": "evil.example"}, 401), ({"Host": "127.0.0.1.evil.example"}, 401),
                ({"X-Forwarded-For": "127.0.0.1"}, 401), ({"Forwarded": "for=127.0.0.1"}, 401),
                ({"X-Real-IP": "127.0.0.1"}, 401), ({"Via": "1.1 proxy"}, 401)]
        for headers, status in rows:
            answer = server.get(OPEN_ROUTE, token=None, headers=headers)
            check(answer.status == status, headers, answer)
        check(server.get("/auth/users/me", token=None).status == 401)
        check(server.get("/v1/users", token=None).status == 401)

    with case("the unix socket: its owner is the administrator, another account is nobody"):
        answer = server.local("GET", "/v1/session")
        check(answer.json == {"user": None, "via": "unix", "role": "admin"}, answer)
        check(server.local("GET", "/api/admin-only").status == 200)
        token = session(server, "demo@example.com")["access_token"]
        answer = server.request("GET", "/v1/session", token=token, unix=True)
        check(answer.json["via"] == "session", "a credential that was sent counts", answer)
        if os.geteuid() != 0:
            skip("another account at the socket", "needs root")
            return
        folders = [server.home, server.data, server.socket]
        modes = [os.stat(f).st_mode & 0o777 for f in folders]
        check(modes[1] & 0o077 == 0, "the data folder is its owner's alone", oct(modes[1]))
        for f in folders:
            os.chmod(f, 0o777)      # as if someone had opened the way
        ask = ("import http.client,socket,sys\n"
               "c=http.client.HTTPConnection('localhost')\n"
               "c.sock=socket.socket(socket.AF_UNIX);c.sock.connect(sys.argv[1])\n"
               "c.request('GET',sys.argv[2]);print(c.getresponse().status)")
        for path in ("/v1/session", "/v1/users", "/auth/users/me"):
            said = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-c", ask,
                                   server.socket, path], capture_output=True, text=True)
            check(said.stdout.strip() == "401", path, said.stdout, said.stderr)
        for f, mode in zip(folders, modes):
            os.chmod(f, mode)


def last_administrator(server):
    with case("the last administrator stays"):
        admins = [u for u in server.local("GET", "/v1/users?limit=1000").json["items"]
                  if u["role"] == "admin" and u["is_active"]]
        require(len(admins) >= 2, admins)
        for user in admins[1:]:
            check(server.local("DELETE", f"/v1/users/{user['id']}").status == 204)
        last = admins[0]
        answer = server.local("DELETE", f"/v1/users/{last['id']}")
        check(answer.status == 409 and answer.json["code"] == "LAST_ADMINISTRATOR", answer)
        for body in ({"role": "user"}, {"is_active": False}):
            check(patch(server, f"/v1/users/{last['id']}", body, unix=True).status == 409, body)
        for method, body in (("DELETE", None), ("PATCH", {"is_superuser": False}), ("PATCH", {"is_active": False})):
            answer = server.request(method, f"/auth/users/{last['uuid']}", body, unix=True)
            check(answer.status == 400 and isinstance(answer.json["detail"], str), answer)


def secrets_stay_secret(server, told):
    with case("no password, token or key stands in the database, the log or the audit rows"):
        stored = b"".join(open(f, "rb").read() for f in glob.glob(server.data + "/database.db*"))
        stored += server.printed().split("data in", 1)[-1].encode()
        for secret in told:
            check(secret.encode() not in stored, secret[:12] + "…")
        check(oct(os.stat(server.data + "/secret.key").st_mode & 0o777) == "0o600")
        check({"ok", "unauthenticated", "forbidden"} <= set(audit(server)), set(audit(server)))


def main():
    with Server() as server:
        with case("the first start names an administrator and its password, once"):
            word = re.search(r"\b[a-z]+-[a-z]+-[a-z]+-[0-9]{4}\b", server.printed())
            require(word, server.printed())
            first_password = word.group()
            check(session(server, "admin@localhost", first_password)["user"]["role"] == "admin")
        old, dead = documented(server)
        profile(server)
        sessions(server)
        tokens(server)
        live(server)
        keys(server)
        sign_ins(server)
        audited(server)
        doors(server)
        pair = session(server, "demo@example.com")

        with case("what was revoked stays revoked after kill -9, what was not goes on"):
            server.kill()
            server.start()
            check(me(server, dead) == 401 and me(server, old) == 200)
            answer = server.post("/v1/session/refresh", {"refresh_token": pair["refresh_token"]}, token=None)
            check(answer.status == 200, answer)
            check(first_password not in server.printed())
        last_administrator(server)
        secrets_stay_secret(server, [PASSWORD, first_password, dead, old, pair["access_token"],
                                     pair["refresh_token"]])

    with Server(env={"FIRST_USER_IS_ADMIN": "true", "AUTH_MODE": "strict"}) as server:
        with case("FIRST_USER_IS_ADMIN: the first who registers, and nobody else"):
            roles = [server.post("/auth/register", {"email": f"{name}@example.com", "password": PASSWORD},
                                 token=None).json["role"] for name in ("first", "second")]
            check(roles == ["admin", "user"], roles)
        with case("AUTH_MODE=strict asks everyone"):
            check(server.get(OPEN_ROUTE, token=None).status == 401)
            token = login(server, "second@example.com").json["access_token"]
            check(server.get(OPEN_ROUTE, token=token).status == 200)

    with Server(env={"REGISTRATION": "closed"}) as server:
        with case("REGISTRATION=closed: only administrators make accounts"):
            answer = server.post("/auth/register", {"email": "a@example.com", "password": PASSWORD}, token=None)
            check(answer.status == 403 and answer.json == {"detail": "REGISTER_CLOSED"}, answer)
            check(server.new_user("a@example.com", PASSWORD)["role"] == "user")

    with Server(demo=True) as server:
        with case("the demo has the account of the documents, and not the one that they register"):
            check(login(server, "user123@example.com", "drover-demo").status == 200)
            emails = [u["email"] for u in server.local("GET", "/v1/users").json["items"]]
            check("demo@example.com" not in emails, emails)
        with case("whose account is deleted has no running jobs"):
            user = server.new_user("worker@example.com", PASSWORD)
            answer = server.post("/api/gpu/jobs/submit?preferred_provider=local", {
                "name": "sleeper", "image": "", "command": ["sleep", "100"], "gpu_spec": {
                    "gpu_type": "RTX4090", "gpu_count": 1, "memory_gb": 16, "vcpus": 1, "ram_gb": 1}},
                token=session(server, "worker@example.com")["access_token"])
            require(answer.status == 200, answer)

            def state():
                with sqlite3.connect(f"file:{server.data}/database.db?mode=ro", uri=True) as db:
                    return db.execute("SELECT state FROM jobs WHERE uuid = ?", (answer.json["task_id"],)).fetchone()[0]
            until(lambda: state() == "running", 20, 0.1, "the job's start")
            check(server.delete(f"/auth/users/{user['uuid']}").status == 204)
            until(lambda: state() == "cancelled", 20, 0.1, "the job's end")

    with case("starts that are refused, and say why"):
        for env, word in (({"AUTH_MODE": "open", "SERVER_HOST": "192.0.2.1"}, "ALLOW_OPEN"),
                          ({"TRUSTED_NETWORKS": "10.0.0.1/8"}, "TRUSTED_NETWORKS"),
                          ({"ALGORITHM": "none"}, "ALGORITHM"),
                          ({"DROVER_KEY_FILE": "/dev/null"}, "/dev/null")):
            server = Server(env=env)
            try:
                server.start()
                check(False, f"started with {env}")
            except RuntimeError as told:
                check(word in str(told), env, str(told))
            finally:
                server.close()

    server = Server()
    shutil.copy(os.path.join(TOP, ".env.example"), os.path.join(server.home, ".env"))
    with server:
        with case("a copy of .env.example starts, and its comments are no signing key"):
            with sqlite3.connect(f"file:{server.data}/database.db?mode=ro", uri=True) as db:
                kept = db.execute("SELECT count(*) FROM settings WHERE name = 'signing_key'").fetchone()
            check(kept == (1,), "the key was made, as SECRET_KEY is empty there")

    with Server() as server:
        with case("another key file does not open this database"):
            token = server.admin_token()
            server.stop()
            kept = open(server.data + "/secret.key").read()
            with open(server.data + "/secret.key", "w") as f:
                f.write("0" * 64 + "\n")
            try:
                server.start()
                check(False, "started")
            except RuntimeError as told:
                check("secret.key" in str(told), str(told))
            with open(server.data + "/secret.key", "w") as f:
                f.write(kept)
            server.start()
            check(me(server, token) == 200)
    finish()


if __name__ == "__main__":
    main()
