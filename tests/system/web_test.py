#!/usr/bin/env python3
"""The browser test (tests/web/run) against a real server in the demo, from sign-in to a finished job, and against the
mock that web developers use, so that the two do not drift apart."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import TOP, Server, free_port  # noqa: E402

with Server(demo=True) as server:
    server.admin_token()    # makes the account
    status = subprocess.run([os.path.join(TOP, "tests/web/run")], cwd=TOP, env={
        **os.environ, "DROVER_TEST_URL": server.url, "DROVER_TEST_EMAIL": server.admin_email,
        "DROVER_TEST_PASSWORD": server.admin_password, "DROVER_TEST_PORT": str(free_port())}).returncode
sys.exit(status)
