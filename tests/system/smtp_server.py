"""A small mail server for tests: SMTP with STARTTLS and AUTH PLAIN, that can be away or refuse. Mails
are kept as (from, to, message) with message an email.message."""
import base64
import email
import email.policy
import os
import socket
import ssl
import subprocess
import threading


def certificate(folder):
    """A certificate for 127.0.0.1, signed by itself: (certificate, key)."""
    crt, key = os.path.join(folder, "smtp.crt"), os.path.join(folder, "smtp.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", crt],
                   check=True, capture_output=True)
    return crt, key


class SmtpServer:
    def __init__(self, tls=None, user=None, password=None, port=0):
        self.mails, self.logins, self.plain_logins = [], [], 0
        self.refuse = None      # "451 …" or "550 …": what every recipient is answered
        self.user, self.password = user, password
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*tls)
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock):
        try:
            self._session(sock)
        except (OSError, ssl.SSLError):
            pass
        finally:
            sock.close()

    def _session(self, sock):
        sock.settimeout(30)
        sock.sendall(b"220 test ESMTP\r\n")
        lines, secure, signed_in = sock.makefile("rb"), False, self.user is None
        sender, to = None, []
        while True:
            line = lines.readline().decode().rstrip("\r\n")
            if not line:
                return
            word = line.upper()
            answer = "250 ok"
            if word.startswith("EHLO"):
                offers = ["250-test"]
                if self.context and not secure:
                    offers.append("250-STARTTLS")
                if self.user:
                    offers.append("250-AUTH PLAIN")
                answer = "\r\n".join([*offers, "250 8BITMIME"])
            elif word == "STARTTLS" and self.context:
                sock.sendall(b"220 go\r\n")
                sock = self.context.wrap_socket(sock, server_side=True)
                lines, secure = sock.makefile("rb"), True
                continue
            elif word.startswith("AUTH PLAIN"):
                given = line[10:].strip()
                if not given:
                    sock.sendall(b"334 \r\n")
                    given = lines.readline().decode().strip()
                _, user, password = base64.b64decode(given).decode().split("\0")
                self.logins.append((user, password))
                self.plain_logins += not secure
                signed_in = (user, password) == (self.user, self.password)
                answer = "235 welcome" if signed_in else "535 no"
            elif word.startswith("MAIL FROM:"):
                sender, to = line[10:].split(">")[0].strip(" <"), []
                answer = "250 ok" if signed_in else "530 sign in first"
            elif word.startswith("RCPT TO:"):
                to.append(line[8:].strip(" <>"))
                answer = self.refuse or "250 ok"
            elif word == "DATA":
                sock.sendall(b"354 go on\r\n")
                data = b""
                while True:
                    more = lines.readline()
                    if more in (b".\r\n", b""):
                        break
                    data += more[1:] if more.startswith(b"..") else more
                self.mails.append((sender, to, email.message_from_bytes(data, policy=email.policy.default)))
            elif word == "QUIT":
                sock.sendall(b"221 bye\r\n")
                return
            sock.sendall(answer.encode() + b"\r\n")
