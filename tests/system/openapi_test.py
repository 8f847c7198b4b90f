#!/usr/bin/env python3
"""The OpenAPI document holds: an independent validator accepts it, and a server that gets random
requests over all of it never answers 5xx, answers only with documented statuses, and each answer has
exactly the members of the closed schema of its status.

Starts a demo server of its own, or asks the one at DROVER_TEST_URL (DROVER_TEST_EMAIL,
DROVER_TEST_PASSWORD: an administrator). DROVER_TEST_SEED repeats a run, DROVER_TEST_REQUESTS says how
many. Left out: answers that never end (SSE, WebSocket).
"""
import contextlib
import http.client
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import warnings

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import TOP, Answer, Server, case, check, finish, note, require  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jsonschema

METHODS = ("get", "post", "put", "patch", "delete", "head", "options", "trace")
SEED = int(os.environ.get("DROVER_TEST_SEED", "20240607"))
REQUESTS = int(os.environ.get("DROVER_TEST_REQUESTS", "2500"))
SECONDS = float(os.environ.get("DROVER_TEST_SECONDS", "75"))
dice = random.Random(SEED)
# What the documents themselves answer with a 5xx.
DOCUMENTED_5XX = {("POST", "/api/gpu/jobs/submit"): "No available providers for the requested GPU specification"}
# Whatever a member that names a program holds, the server may run it: only harmless ones are sent.
PROGRAMS = {"command", "script", "entrypoint", "cmd", "argv", "args"}
HARMLESS = (["true"], ["false"], ["sleep", "0.05"], ["seq", "20"])


class Document:
    def __init__(self, doc):
        self.doc = doc
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.resolver = jsonschema.RefResolver("", doc)
        self.validators = {}
        self.operations = []
        for path, item in doc["paths"].items():
            for method in METHODS:
                if method in item:
                    op = item[method]
                    parameters = [self.deref(p) for p in item.get("parameters", []) + op.get("parameters", [])]
                    self.operations.append((method.upper(), path, op, parameters))

    def deref(self, node):
        while isinstance(node, dict) and "$ref" in node:
            node = self.resolver.resolve(node["$ref"])[1]
        return node

    def validator(self, schema):
        key = json.dumps(schema, sort_keys=True)
        if key not in self.validators:
            self.validators[key] = jsonschema.Draft202012Validator(schema, resolver=self.resolver)
        return self.validators[key]

    def response(self, op, status):
        responses = op.get("responses", {})
        for key in (str(status), f"{status // 100}XX", "default"):
            if key in responses:
                return self.deref(responses[key])
        return None

    def schema_of(self, op, status, content_type):
        response = self.response(op, status)
        media = ((response or {}).get("content") or {}).get(content_type)
        return (media or {}).get("schema")

    def streams(self, op):
        responses = op.get("responses", {})
        return "101" in responses or any(
            "text/event-stream" in (self.deref(r).get("content") or {}) for r in responses.values())


# --- values from schemas -----------------------------------------------------------------------

WORDS = ("a", "gpu", "RTX4090", "j-1", "n-1", "u-1", "default", "测试", "x" * 40, "0", "-1", "é\u0301", "a b", "%2e%2e",
         "'; --", "<b>", "2026-01-01T00:00:00Z", "running", "queued", "local")
seen_ids = {"j-1", "n-1", "gpu-001", "0", "1"}
protected_ids = set()


def text_value(schema):
    if schema.get("format") in ("uuid",):
        return dice.choice(["00000000-0000-4000-8000-%012x" % dice.randrange(2**40), "not-a-uuid"])
    if schema.get("format") == "date-time":
        return dice.choice(["2026-01-01T00:00:00.000000Z", "2026-13-01", "1969-12-31T23:59:59Z"])
    if schema.get("format") == "email":
        return "person%d@example.com" % dice.randrange(10**6)
    low, high = schema.get("minLength", 0), schema.get("maxLength", 60)
    value = dice.choice(WORDS) + str(dice.randrange(1000))
    if pattern := schema.get("pattern"):
        if m := re.fullmatch(r"\^?([a-z]+)-\[0-9\]\+\$?", pattern):
            return f"{m[1]}-{dice.randrange(1, 30)}"
    value = (value * (low // max(1, len(value)) + 1)) if len(value) < low else value
    return value[:max(high, 0)]


def number_value(schema, integer):
    low = schema.get("minimum", schema.get("exclusiveMinimum", -5))
    high = schema.get("maximum", schema.get("exclusiveMaximum", max(low, 0) + 50))
    pick = dice.choice((low, high, None, None, None, None))
    if pick is None:
        pick = dice.uniform(low, min(high, low + 100))
    return int(pick) if integer else pick


def valid_value(document, schema, name="", depth=0):
    schema = document.deref(schema)
    if schema is True or not isinstance(schema, dict):
        return dice.choice(WORDS)
    if name in PROGRAMS:
        words = dice.choice(HARMLESS)
        kinds = schema.get("type", "string")
        return words if "array" in (kinds if isinstance(kinds, list) else [kinds]) else " ".join(words)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return dice.choice(schema["enum"])
    for key in ("oneOf", "anyOf"):
        if key in schema:
            return valid_value(document, dice.choice(schema[key]), name, depth + 1)
    if "allOf" in schema:
        merged = {}
        for part in schema["allOf"]:
            value = valid_value(document, part, name, depth + 1)
            if isinstance(value, dict):
                merged.update(value)
        return merged
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = dice.choice(kind)
    if kind == "null":
        return None
    if kind == "boolean":
        return dice.random() < 0.5
    if kind in ("integer", "number"):
        return number_value(schema, kind == "integer")
    if kind == "array":
        low = schema.get("minItems", 0)
        count = min(schema.get("maxItems", low + 3), low + dice.randrange(3))
        return [] if depth > 6 else [valid_value(document, schema.get("items", True), name, depth + 1)
                                     for _ in range(count)]
    if kind == "object":
        made = {}
        required = schema.get("required", ())
        for key, sub in schema.get("properties", {}).items():
            if key in required or (depth < 6 and dice.random() < 0.4):
                made[key] = valid_value(document, sub, key, depth + 1)
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict) and depth < 4:
            for n in range(dice.randrange(3)):
                made[f"KEY{n}"] = valid_value(document, extra, "", depth + 1)
        return made
    return text_value(schema)


ODD = (None, True, 0, -1, 2**31, 2**63, 2**64, -2**63 - 1, 1e308, 0.5, "", " ", "\u0000", "x" * 5000, [], {}, [[]], {"a": {}},
       [None], "NaN", "☃" * 300)


def mutated(value):
    """One thing of a valid body made wrong, somewhere."""
    if isinstance(value, dict) and value and dice.random() < 0.8:
        value = dict(value)
        key = dice.choice(list(value))
        how = dice.randrange(4)
        if how == 0:
            del value[key]
        elif how == 1 and key not in PROGRAMS:
            value[key] = dice.choice(ODD)
        elif how == 2:
            value["unknown_member_%d" % dice.randrange(9)] = dice.choice(ODD)
        else:
            value[key] = mutated(value[key]) if key not in PROGRAMS else dice.choice((None, [], "", 7))
        return value
    if isinstance(value, list) and value and dice.random() < 0.7:
        return [*value[:-1], mutated(value[-1])]
    return dice.choice(ODD)


def raw_garbage():
    return dice.choice((b"", b"{", b"[1,", b'{"a":1,"a":2}', b"\xff\xfe", b"null", b'"text"', b"[" * 3000, b"{}x",
                        b'{"a":01}', b'{"a":1e999}', b'{"a":"\x01"}', b"\xef\xbb\xbf{}", b"x" * 70000))


# --- sending -----------------------------------------------------------------------------------

class Client:
    """One connection kept alive, opened again when the server closed it."""

    def __init__(self, base):
        parts = urllib.parse.urlsplit(base)
        self.host, self.port, self.connection = parts.hostname, parts.port, None

    def send(self, method, target, body, headers):
        for fresh in (False, True):
            if self.connection is None or fresh:
                self.connection = http.client.HTTPConnection(self.host, self.port, timeout=40)
            try:
                self.connection.request(method, target, body, headers)
                response = self.connection.getresponse()
                answer = Answer(response.status, response.headers, response.read())
                if response.will_close:
                    self.connection.close()
                    self.connection = None
                return answer
            except (http.client.HTTPException, OSError):
                self.connection.close()
                self.connection = None
                if fresh:
                    raise
        return None


def json_media(content):
    for media in content or {}:
        if media.split(";")[0].endswith("json"):
            return media
    return None


def build(document, method, path, op, parameters):
    """A random request for the operation: target, body, headers, and whether it was meant to be valid."""
    target, query, headers = path, [], {}
    for p in parameters:
        schema = p.get("schema", {})
        name = p["name"]
        if p["in"] == "path":
            roll = dice.random()
            if roll < 0.6:
                value = dice.choice(sorted(seen_ids - protected_ids))
            elif roll < 0.85:
                value = valid_value(document, schema, name)
            else:
                value = dice.choice(("..", "%00", "99999999999999999999", "-1", "x" * 300, "ü", "*", "a.b", "~"))
            if str(value) in protected_ids:     # not the account that asks
                value = "u-999999"
            target = target.replace("{%s}" % name, urllib.parse.quote(str(value), safe="") or "x")
        elif p["in"] == "query" and (p.get("required") or dice.random() < 0.35):
            if "timeout" in name:
                value = dice.choice((0, 1))
            elif dice.random() < 0.25:
                value = dice.choice(("", "-1", "abc", "1e9", "9" * 30, "\x00", "%", "null", "true"))
            else:
                value = valid_value(document, schema, name)
            for one in value if isinstance(value, list) else [value]:
                query.append((name, "true" if one is True else "false" if one is False else str(one)))
        elif p["in"] == "header" and (p.get("required") or dice.random() < 0.2):
            value = str(valid_value(document, schema, name))
            headers[name] = "".join(c for c in value if " " <= c < "\x7f") or "x"
    if dice.random() < 0.05:
        query.append(("unknown_parameter", "1"))
    if query:
        target += "?" + urllib.parse.urlencode(query)
    body = None
    content = document.deref(op.get("requestBody", {})).get("content") or {}
    if content:
        media = dice.choice(list(content))
        value = valid_value(document, content[media].get("schema", True))
        roll = dice.random()
        if media == "application/x-www-form-urlencoded":
            if roll > 0.6:
                value = mutated(value)
            pairs = value.items() if isinstance(value, dict) else [("a", "b")]
            body = urllib.parse.urlencode([(k, v if isinstance(v, str) else json.dumps(v)) for k, v in pairs]).encode()
        elif media.split(";")[0].endswith("json"):
            if roll < 0.45:
                body = json.dumps(value).encode()
            elif roll < 0.85:
                for _ in range(dice.randrange(1, 3)):
                    value = mutated(value)
                body = json.dumps(value).encode()
            else:
                body = raw_garbage()
        else:
            body = b"--x\r\n\r\n--x--\r\n"
        headers["Content-Type"] = media if dice.random() < 0.93 else dice.choice(
            ("text/plain", "application/xml", "", "application/json; charset=latin1", "multipart/form-data"))
        if dice.random() < 0.03:
            body = None
    return target, body, headers


class Findings:
    def __init__(self):
        self.kinds = {"5xx": {}, "status": {}, "body": {}, "id": {}, "broken": {}}

    def add(self, kind, where, what):
        self.kinds[kind].setdefault(where, what)

    def show(self, kind, limit=15):
        for where, what in list(self.kinds[kind].items())[:limit]:
            note(f"{where}: {what}")
        if len(self.kinds[kind]) > limit:
            note(f"… and {len(self.kinds[kind]) - limit} more operations")
        return not self.kinds[kind]


def body_problem(document, op, method, answer):
    """None, or what is wrong with the body of an answer whose status is documented."""
    response = document.response(op, answer.status)
    content = response.get("content") or {}
    if method == "HEAD" or answer.status in (204, 304):
        return "has a body" if answer.body else None
    sent = (answer.headers.get("Content-Type") or "").split(";")[0].strip().lower()
    if not content:
        return f"an undocumented body of type {sent}" if answer.body else None
    types = {m.split(";")[0].lower(): m for m in content}
    if sent not in types:
        return f"type {sent or '(none)'}, documented: {', '.join(types)}"
    if not sent.endswith("json") or sent == "application/x-ndjson":
        return None
    try:
        value = json.loads(answer.body)
    except ValueError as e:
        return f"not JSON: {e}"
    schema = content[types[sent]].get("schema")
    if schema is None:
        return "its schema is missing in the document"
    error = next(iter(document.validator(schema).iter_errors(value)), None)
    if error is not None:
        place = "/".join(map(str, error.absolute_path))
        return f"{place or '(top)'}: {error.message[:200]}"
    return None


def learn_ids(value, depth=0):
    if depth > 6 or len(seen_ids) > 400:
        return
    if isinstance(value, dict):
        for key, v in value.items():
            if key in ("id", "uuid", "task_id", "job_id", "gpu_id", "node_id", "name") and isinstance(v, (str, int)) and str(v):
                seen_ids.add(str(v)[:100])
            learn_ids(v, depth + 1)
    elif isinstance(value, list):
        for v in value[:20]:
            learn_ids(v, depth + 1)


def object_schemas(document, schema, path, done, into):
    schema = schema if isinstance(schema, dict) else {}
    if "$ref" in schema:
        if schema["$ref"] in done:
            return
        done.add(schema["$ref"])
        path, schema = schema["$ref"], document.deref(schema)
    if "properties" in schema:
        into.append((path, schema))
    for key in ("oneOf", "anyOf", "allOf"):
        for n, sub in enumerate(schema.get(key, ())):
            object_schemas(document, sub, f"{path}/{key}/{n}", done, into)
    for key, sub in schema.get("properties", {}).items():
        object_schemas(document, sub, f"{path}/{key}", done, into)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            object_schemas(document, schema[key], f"{path}/{key}", done, into)


def doctored(document, op, answer):
    """The schema must notice one member too many and one too few: what it failed to notice, or None."""
    schema = document.schema_of(op, answer.status, "application/json")
    value = answer.json
    if schema is None or not isinstance(value, dict) or not value:
        return "not usable"
    validator = document.validator(schema)
    if not validator.is_valid(value):
        return "the untouched answer is not valid"
    if validator.is_valid({**value, "one_member_too_many": 1}):
        return "a member too many is not noticed"
    top = document.deref(schema)
    for key in top.get("required", ()):
        if validator.is_valid({k: v for k, v in value.items() if k != key}):
            return f"that {key} is missing is not noticed"
    return None if top.get("required") else "no member is required"


def main():
    server = None
    base = os.environ.get("DROVER_TEST_URL")
    if base:
        client = Client(base)
        body = json.dumps({"email": os.environ["DROVER_TEST_EMAIL"], "password": os.environ["DROVER_TEST_PASSWORD"]})
        signed = client.send("POST", "/v1/session", body, {"Content-Type": "application/json"}).json
        token, sign_in = signed["access_token"], None
        protected_ids.update(str(signed["user"][k]) for k in ("id", "uuid") if k in signed["user"])
    else:
        server = Server(demo=True).start()
        client = Client(server.url)
        made = []

        def sign_in():
            """Anew; with a new account where a random request has changed the old one's e-mail or password."""
            with contextlib.suppress(RuntimeError, IndexError):
                return server.sign_in(made[-1], "correct-horse-battery")
            made.append(f"fuzz-admin-{len(made)}@example.com")
            user = server.new_user(made[-1], "correct-horse-battery", "admin")
            protected_ids.update(str(user[k]) for k in ("id", "uuid") if k in user)
            return server.sign_in(made[-1], "correct-horse-battery")
        token = sign_in()
    try:
        run(client, token, sign_in, server)
    finally:
        if server:
            server.close()
    finish()


def run(client, token, sign_in, server):
    answer = client.send("GET", "/openapi.json", None, {})
    with case("the server gives its OpenAPI document"):
        require(answer.status == 200, answer)
        check(answer.json["openapi"].startswith("3.1"), answer.json["openapi"])
    doc = answer.json
    document = Document(doc)

    node_modules = os.path.join(TOP, "tests/openapi/node_modules")
    subprocess.run([os.path.join(TOP, "tools/npm-ci"), "tests/openapi"], cwd=TOP, stdout=subprocess.DEVNULL)
    if os.path.isdir(node_modules):
        with case("an independent validator accepts it"), tempfile.NamedTemporaryFile("w", suffix=".json") as f:
            json.dump(doc, f)
            f.flush()
            said = subprocess.run(["node", os.path.join(TOP, "tests/openapi/validate.mjs"), f.name],
                                  capture_output=True, text=True, timeout=120)
            check(said.returncode == 0, said.stderr[:2000])
    else:
        with case("an independent validator accepts it"):
            check(False, "its npm packages could not be fetched")

    with case("every object that an answer holds is closed"):
        found, done = [], set()
        for method, path, op, _ in document.operations:
            for status, response in op.get("responses", {}).items():
                for media in (document.deref(response).get("content") or {}).values():
                    object_schemas(document, media.get("schema", {}), f"{method} {path} {status}", done, found)
        is_open = [p for p, s in found if "additionalProperties" not in s and "unevaluatedProperties" not in s]
        check(not is_open, *is_open[:10])
        check(found, "no object schema at all")

    findings = Findings()
    reached, good, sent = set(), set(), 0
    sample = None
    operations = [o for o in document.operations if not document.streams(o[2])]
    note(f"seed {SEED}, {len(operations)} operations, {len(document.operations) - len(operations)} streams left out")
    deadline = time.monotonic() + SECONDS
    while sent < REQUESTS and time.monotonic() < deadline:
        # Every operation in turn, so that each gets its share; the order is new each round.
        for method, path, op, parameters in dice.sample(operations, len(operations)):
            sent += 1
            target, body, headers = build(document, method, path, op, parameters)
            roll = dice.random()
            asked = method
            if roll < 0.85:
                headers["Authorization"] = "Bearer " + token
            elif roll < 0.92:
                headers["Authorization"] = dice.choice(("Bearer x", "Basic QTpC", "Bearer ", "Bearer " + token[:-2] + "AA"))
            if dice.random() < 0.04:
                asked = dice.choice(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"))
            where = f"{method} {path}"
            try:
                answer = client.send(asked, target, body, headers)
            except (OSError, http.client.HTTPException) as e:
                findings.add("broken", where, f"{type(e).__name__} {e} for {asked} {target[:150]} {(body or b'')[:150]!r}")
                if server and server.process.poll() is not None:
                    note("the server ended")
                    return report(findings, sent, reached, good, operations, document, sample)
                continue
            if target.split("?")[0] != path and target.split("?")[0] in document.doc["paths"]:
                continue        # the random id made it another route: a literal wins
            told = f"{asked} {target[:120]} {(body or b'')[:200]!r} → {answer.status} {answer.text[:200]}"
            if answer.status >= 500 and DOCUMENTED_5XX.get((asked, path), "\0") not in answer.text:
                findings.add("5xx", where, told)
            if not answer.headers.get("X-Request-ID"):
                findings.add("id", where, told)
            if asked != method:
                continue        # not the documented operation; it must only not break
            reached.add((method, path))
            if document.response(op, answer.status) is None:
                findings.add("status", f"{where} {answer.status}", told)
                continue
            if problem := body_problem(document, op, method, answer):
                findings.add("body", f"{where} {answer.status}", f"{problem} | {told}")
            elif 200 <= answer.status < 300:
                good.add((method, path))
                if (answer.headers.get("Content-Type") or "").startswith("application/json") and answer.body:
                    learn_ids(answer.json)
                    if sample is None and document.schema_of(op, answer.status, "application/json"):
                        if doctored(document, op, answer) != "not usable":
                            sample = (op, answer, where)
            if answer.status == 401 and roll < 0.85 and sign_in:
                token = sign_in()   # a random request ended the session
    report(findings, sent, reached, good, operations, document, sample)


def report(findings, sent, reached, good, operations, document, sample):
    note(f"{sent} requests; {len(reached)} of {len(operations)} operations asked, {len(good)} succeeded at least once")
    never = sorted(f"{m} {p}" for m, p, *_ in operations if (m, p) not in good)
    if never:
        note("never succeeded: " + ", ".join(never[:40]))
    with case("one member too many or too few is noticed (checked on a doctored answer)"):
        if require(sample is not None, "no answer to doctor"):
            problem = doctored(document, sample[0], sample[1])
            check(problem is None, f"{sample[2]}: {problem}")
    with case("every operation was asked"):
        check(len(reached) == len(operations), f"{len(operations) - len(reached)} not asked in the time given")
    for kind, name in (("5xx", "never a 5xx"), ("broken", "every request is answered"),
                       ("status", "every status is documented"), ("body", "every answer matches its schema"),
                       ("id", "every answer carries X-Request-ID")):
        with case(name):
            check(findings.show(kind))


if __name__ == "__main__":
    main()
