#!/usr/bin/env python3
"""Mail: links that verify an address and set a new password, through a real SMTP conversation; a mail server that
is away, refuses, or has a certificate nobody knows; and a server without mail."""
import os
import re
import sqlite3
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import Server, case, check, finish, require, until  # noqa: E402
from smtp_server import SmtpServer, certificate  # noqa: E402

PASSWORD, NEXT, THIRD = "correct-horse-1", "another-horse-2", "a-third-horse-3"
ZH = {"Accept-Language": "zh-CN"}


def text(mail):
    return mail[2].get_content()


def token_of(words):
    return re.search(r"#token=(\S+)", words).group(1)


def rows(server, sql, *args):
    with sqlite3.connect(f"file:{server.data}/database.db?mode=ro", uri=True) as db:
        return db.execute(sql, args).fetchall()


def forget_gap(server):
    """As if the minute between two mails to one address had passed."""
    with sqlite3.connect(f"{server.data}/database.db", timeout=10) as db:
        db.execute("UPDATE mails SET asked_at = asked_at - 120000000")


def documented(server, smtp):
    with case("who registers gets a link that verifies the address, once"):
        body = {"email": "li.na@example.com", "password": PASSWORD}
        require(server.post("/auth/register", body, token=None).status == 201)
        mail = until(lambda: smtp.mails and smtp.mails[-1], 15, 0.05, "the mail")
        check((mail[0], mail[1]) == ("drover@example.org", ["li.na@example.com"]), mail[:2])
        check(mail[2]["To"] == "li.na@example.com" and mail[2]["From"] == "Drover 放牧 <drover@example.org>", mail[2])
        check(mail[2]["Date"] and mail[2]["Message-ID"] and mail[2]["Subject"] == "Is this your address?", mail[2])
        check(f"http://127.0.0.1:{server.port}/verify-email#token=" in text(mail), text(mail))
        token = token_of(text(mail))
        check(server.post("/auth/verify", {"token": "x"}, token=None).json == {"detail": "VERIFY_USER_BAD_TOKEN"})
        check(server.post("/auth/reset-password", {"token": token, "password": NEXT}, token=None).status == 400,
              "a link is for one thing")
        answer = server.post("/auth/verify", {"token": token}, token=None)
        check(answer.status == 200 and answer.json["is_verified"] is True, answer)
        answer = server.post("/auth/verify", {"token": token}, token=None)
        check(answer.status == 400 and answer.json == {"detail": "VERIFY_USER_BAD_TOKEN"}, answer)

    with case("asking for a new password answers the same for everyone; the mail comes in the reader's language"):
        before = len(smtp.mails)
        for path, whole in (("/auth/forgot-password", None), ("/v1/password/forgot", {"mail": True})):
            took = {}
            for email in ("nobody@example.com", "LI.NA@example.com"):
                begun = time.monotonic()
                answer = server.post(path, {"email": email}, token=None, headers=ZH)
                took[email] = time.monotonic() - begun
                check(answer.status == 202 and answer.json == whole, answer)
        mail = until(lambda: len(smtp.mails) > before and smtp.mails[-1], 15, 0.05, "the mail")
        check(mail[2]["Subject"] == "重置 Drover 密码" and "一小时" in text(mail), text(mail))
        time.sleep(0.5)
        check(len(smtp.mails) == before + 1, "one mail a minute, and none to nobody", smtp.mails)
        check(server.post("/auth/forgot-password", {"email": "no address"}, token=None).status == 422)

    with case("the link sets a new password once, and every session is over"):
        session = server.post("/v1/session", {"email": "li.na@example.com", "password": PASSWORD}, token=None).json
        token = token_of(text(smtp.mails[-1]))
        answer = server.post("/auth/reset-password", {"token": token, "password": "short"}, token=None)
        check(answer.status == 400 and answer.json["detail"]["code"] == "RESET_PASSWORD_INVALID_PASSWORD", answer)
        answer = server.post("/auth/reset-password", {"token": token, "password": NEXT}, token=None)
        check(answer.status == 200 and answer.json is None, answer)
        answer = server.post("/auth/reset-password", {"token": token, "password": THIRD}, token=None)
        check(answer.status == 400 and answer.json == {"detail": "RESET_PASSWORD_BAD_TOKEN"}, answer)
        check(server.get("/auth/users/me", token=session["access_token"]).status == 401)
        answer = server.post("/v1/session/refresh", {"refresh_token": session["refresh_token"]}, token=None)
        check(answer.status == 401, answer)
        check(server.sign_in("li.na@example.com", NEXT))
        check(("POST", "ok") in rows(server, "SELECT method, outcome FROM audit_log WHERE route = ?",
                                     "/auth/reset-password"))

    with case("a link dies with the address it was sent to, with its hour, and with the account's activity"):
        user = server.new_user("moves@example.com", PASSWORD)
        link = server.local("POST", f"/v1/users/{user['id']}/reset-link")
        require(link.status == 201, link)
        server.request("PATCH", f"/v1/users/{user['id']}", {"email": "moved@example.com"})
        body = {"token": token_of(link.json["url"]), "password": NEXT}
        answer = server.post("/v1/password/reset", body, token=None)
        check(answer.status == 400 and answer.json["code"] == "LINK_BAD", answer)
        body["token"] = token_of(server.local("POST", f"/v1/users/{user['id']}/reset-link").json["url"])
        with sqlite3.connect(f"{server.data}/database.db", timeout=10) as db:
            db.execute("UPDATE account_links SET expires_at = expires_at - 3600000001")
        check(server.post("/v1/password/reset", body, token=None).status == 400, "too old")
        body["token"] = token_of(server.local("POST", f"/v1/users/{user['id']}/reset-link").json["url"])
        answer = server.post("/v1/password/reset", dict(body, password="short"), token=None, headers=ZH)
        check(answer.status == 422 and answer.json["errors"][0]["field"] == "password", answer)
        server.request("PATCH", f"/v1/users/{user['id']}", {"is_active": False})
        check(server.post("/v1/password/reset", body, token=None).status == 400, "not active")
        check(server.local("POST", f"/v1/users/{user['id']}/reset-link").status == 409)
        check(server.post(f"/v1/users/{user['id']}/reset-link", token=server.sign_in("li.na@example.com", NEXT)).status
              == 403)
        stored = b"".join(open(f"{server.data}/database.db{end}", "rb").read() for end in ("", "-wal"))
        for secret in (token, body["token"]):
            check(secret.encode() not in stored and secret not in server.printed(), "a link is stored")


def away(server, smtp):
    with case("a mail server that is away, and a restart, lose nothing; one that refuses is not asked for ever"):
        forget_gap(server)
        smtp.refuse = "451 later"
        before = len(smtp.mails)
        server.post("/v1/password/forgot", {"email": "li.na@example.com"}, token=None)
        until(lambda: rows(server, "SELECT 1 FROM mails WHERE state = 'waiting' AND error IS NOT NULL"), 15, 0.05,
              "a try that failed")
        server.kill()
        smtp.refuse = None
        with sqlite3.connect(f"{server.data}/database.db", timeout=10) as db:
            db.execute("UPDATE mails SET next_at = 0 WHERE state = 'waiting'")
        server.start()
        mail = until(lambda: len(smtp.mails) > before and smtp.mails[-1], 20, 0.05, "the mail")
        body = {"token": token_of(text(mail)), "password": THIRD}
        check(server.post("/v1/password/reset", body, token=None).status == 204)
        check(server.sign_in("li.na@example.com", THIRD))
        forget_gap(server)
        smtp.refuse = "550 no such person"
        server.post("/v1/password/forgot", {"email": "li.na@example.com"}, token=None)
        until(lambda: rows(server, "SELECT 1 FROM mails WHERE state = 'failed'"), 15, 0.05, "giving up")
        smtp.refuse = None


def main():
    with tempfile.TemporaryDirectory() as folder:
        tls = certificate(folder)
        with SmtpServer(tls, "drover", "p@ss word") as smtp:
            env = {"SMTP_URL": f"smtp://drover:p%40ss%20word@127.0.0.1:{smtp.port}", "SMTP_CA_FILE": tls[0],
                   "SMTP_TLS": "required", "MAIL_FROM": "Drover 放牧 <drover@example.org>"}
            with Server(env=env) as server:
                documented(server, smtp)
                away(server, smtp)
                with case("the password of the mail server goes over TLS only, and is not told"):
                    check(set(smtp.logins) == {("drover", "p@ss word")} and smtp.plain_logins == 0, smtp.logins)
                    check("p%40ss" not in server.printed())
            before = len(smtp.mails)
            with Server(env=dict(env, SMTP_CA_FILE="")) as server:
                with case("a certificate that nobody vouches for gets no mail"):
                    server.post("/auth/register", {"email": "a@example.com", "password": PASSWORD}, token=None)
                    until(lambda: rows(server, "SELECT error FROM mails WHERE error IS NOT NULL"), 15, 0.05, "a try")
                    check(len(smtp.mails) == before)

    with Server() as server:
        with case("without a mail server: on a machine of one's own the log has the link, and `drover user reset`"):
            server.new_user("solo@example.com", PASSWORD)
            answer = server.post("/v1/password/forgot", {"email": "solo@example.com"}, token=None)
            check(answer.status == 202 and answer.json == {"mail": False}, answer)
            until(lambda: "/reset-password#token=" in server.printed(), 15, 0.05, "the link in the log")
            done = server.cli("user", "reset", "solo@example.com")
            require(done.returncode == 0, done.stderr)
            body = {"token": token_of(done.stdout), "password": NEXT}
            check(server.post("/auth/reset-password", body, token=None).status == 200)
            check(server.sign_in("solo@example.com", NEXT))

    with Server(env={"SERVER_HOST": "0.0.0.0"}) as server:
        with case("where other machines listen, a server without mail writes no link anywhere"):
            server.new_user("open@example.com", PASSWORD)
            check(server.post("/v1/password/forgot", {"email": "open@example.com"}, token=None).json == {"mail": False})
            check(rows(server, "SELECT count(*) FROM mails") == [(0,)])

    with case("a start with a wrong SMTP_URL says what it looks like"):
        server = Server(env={"SMTP_URL": "mail.example.com"})
        try:
            server.start()
            check(False, "started")
        except RuntimeError as told:
            check("SMTP_URL looks like" in str(told), str(told))
        finally:
            server.close()
    finish()


if __name__ == "__main__":
    main()
