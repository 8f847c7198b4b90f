/* libcurl, wrapped. One connection that is kept, calls with a time limit, and streams of
 * server-sent events that Ctrl-C can stop.
 *
 * What may be repeated after a failed connection: GET, and a POST with an Idempotency-Key. A
 * sign-in that has run out is renewed once, under a lock across processes, before a call or after
 * a 401.
 */
#include "cli/client.h"

#include "cli/out.h"

#include "base/json.h"
#include "base/str.h"
#include "base/world.h"
#include "io/ws.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    BODY_MAX = 64 << 20, /* of an answer: a page of a log is far below */
    EVENT_MAX = 4 << 20, /* one event of a stream */
    TIMEOUT_S = 30,
    CONNECT_MS = 5000,
    ATTEMPTS = 4,  /* of a call that may be repeated */
    SILENT_S = 60, /* a stream says something every 15 s */
    RENEW_BEFORE_S = 30,
    DETAILS_MAX = 16,
};

struct client {
    struct server server;
    CURL *easy;
    CURLM *multi;
    struct arena arena; /* of the last error's details */
    char *details[DETAILS_MAX];
    size_t n_details;
    char *hint;
    const char *token; /* DROVER_TOKEN */
    struct credential who;
    bool catching;
};

/* ---- Ctrl-C ---- */

static int interrupt_pipe[2] = {-1, -1};
static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
    int saved = errno;
    interrupted = 1;
    if (write(interrupt_pipe[1], "", 1) < 0)
        _exit(130); /* the pipe is full of earlier ones: nobody listens */
    errno = saved;
}

void client_catch_interrupt(struct client *c)
{
    if (c->catching)
        return;
    if (interrupt_pipe[0] < 0 && pipe2(interrupt_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return;
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    c->catching = true;
}

bool client_nap(struct client *c, int ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000L};
    if (!interrupted)
        nanosleep(&left, NULL);
    return interrupted != 0;
}

/* ---- open, close ---- */

int client_open(const char *named_server, struct client **out, struct err *e)
{
    struct client *c = mem_alloc(sizeof(*c));
    int k = server_find(named_server, &c->server, e);
    if (k == OK)
        k = credential_load(c->server.url, &c->who, e);
    if (k == OK && curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        k = err_set(e, ERR_INTERNAL, "libcurl does not start");
    if (k != OK) {
        mem_free(c);
        return k;
    }
    c->token = getenv("DROVER_TOKEN");
    if (c->token != NULL && *c->token == '\0')
        c->token = NULL;
    c->easy = curl_easy_init();
    c->multi = curl_multi_init();
    *out = c;
    return OK;
}

void client_close(struct client *c)
{
    if (c == NULL)
        return;
    curl_easy_cleanup(c->easy);
    curl_multi_cleanup(c->multi);
    curl_global_cleanup();
    if (c->catching)
        signal(SIGINT, SIG_DFL);
    arena_fini(&c->arena);
    mem_free(c);
}

const struct server *client_server(const struct client *c)
{
    return &c->server;
}

void reply_fini(struct reply *r)
{
    jv_free(TAKE(r->json));
    buf_fini(&r->body);
}

const char *url_part(struct arena *a, const char *s)
{
    AUTO(buf) struct buf b = {0};
    for (; *s != '\0'; s++) {
        unsigned char ch = (unsigned char)*s;
        bool plain = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                     (ch >= '0' && ch <= '9') || strchr("-._~,", ch) != NULL;
        if (plain)
            buf_addc(&b, (char)ch);
        else
            buf_printf(&b, "%%%02X", ch);
    }
    return arena_strdup(a, buf_str(&b));
}

/* ---- one request ---- */

struct exchange {
    struct buf body;
    int retry_after_s;
    int64_t date_s;
};

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
    struct exchange *x = ctx;
    return buf_add(&x->body, p, size * n) ? size * n : 0;
}

static size_t on_header(char *p, size_t size, size_t n, void *ctx)
{
    struct exchange *x = ctx;
    char line[64];
    int64_t seconds;
    snprintf(line, sizeof(line), "%.*s", (int)(size * n < sizeof(line) ? size * n : 0), p);
    line[strcspn(line, "\r\n")] = '\0';
    if (strncasecmp(line, "Retry-After: ", 13) == 0 && str_int(line + 13, &seconds))
        x->retry_after_s = (int)seconds;
    if (strncasecmp(line, "Date: ", 6) == 0)
        x->date_s = (int64_t)curl_getdate(line + 6, NULL);
    return size * n;
}

/* A header; kept in *list, which curl_slist_free_all() frees. */
static void add_header(struct curl_slist **list, const char *name, const char *value)
{
    AUTO(mem) char *line = mem_printf("%s: %s", name, value);
    *list = curl_slist_append(*list, line);
}

static const char *bearer_of(const struct client *c, const struct call *q)
{
    if (q->anonymous)
        return NULL;
    if (q->bearer != NULL)
        return q->bearer;
    if (c->token != NULL)
        return c->token;
    return c->who.access[0] != '\0' ? c->who.access : NULL;
}

/* A call ends early after Ctrl-C; libcurl asks about once a second. */
static int on_progress(void *ctx, curl_off_t dl, curl_off_t down, curl_off_t ul, curl_off_t up)
{
    return interrupted;
}

/* Everything that calls and streams have in common. */
static struct curl_slist *prepare(struct client *c, const struct call *q)
{
    struct curl_slist *headers = NULL;
    CURL *h = c->easy;
    curl_easy_reset(h);
    bool is_unix = c->server.unix_path[0] != '\0';
    AUTO(mem) char *url = mem_printf("%s%s", is_unix ? "http://localhost" : c->server.url, q->path);
    curl_easy_setopt(h, CURLOPT_URL, url);
    if (is_unix)
        curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, c->server.unix_path);
    if (server_is_here(&c->server))
        curl_easy_setopt(h, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(h, CURLOPT_USERAGENT, "drover/" DROVER_VERSION);
    add_header(&headers, "Accept-Language", err_lang() == LANG_ZH ? "zh" : "en");
    const char *bearer = bearer_of(c, q);
    if (bearer != NULL) {
        AUTO(mem) char *value = mem_printf("Bearer %s", bearer);
        add_header(&headers, "Authorization", value);
    }
    return headers;
}

/* The system's own words where they are shorter than libcurl's. */
static int unreachable(const struct client *c, CURLcode code, const char *why, struct err *e)
{
    long number = 0;
    curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &number);
    if (code == CURLE_COULDNT_CONNECT && number != 0)
        why = strerror((int)number);
    else if (code == CURLE_GOT_NOTHING)
        why = err_tr("it closed the connection without an answer");
    else if (code == CURLE_OPERATION_TIMEDOUT)
        why = err_tr("no answer in time");
    else if (*why == '\0')
        why = curl_easy_strerror(code);
    return err_code(e, ERR_UNAVAILABLE, "UNREACHABLE", "cannot reach the server at %s: %s",
                    c->server.url, why);
}

static int perform(struct client *c, const struct call *q, struct exchange *x, int *status,
                   struct err *e)
{
    struct curl_slist *headers = prepare(c, q);
    CURL *h = c->easy;
    char why[CURL_ERROR_SIZE] = "";
    bool has_body = q->body != NULL || (q->method != NULL && strcmp(q->method, "POST") == 0);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(h, CURLOPT_TIMEOUT, (long)(q->timeout_s > 0 ? q->timeout_s : TIMEOUT_S));
    curl_easy_setopt(h, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, x);
    if (has_body) {
        const char *body = q->body != NULL ? q->body : "";
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, body);
        add_header(&headers, "Content-Type", q->body != NULL ? "application/json" : "");
        headers = curl_slist_append(headers, "Expect:");
    }
    if (c->catching) {
        curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_progress);
    }
    if (q->method != NULL)
        curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, q->method);
    if (q->idempotency_key != NULL)
        add_header(&headers, "Idempotency-Key", q->idempotency_key);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
    x->body.max = BODY_MAX;
    CURLcode code = curl_easy_perform(h);
    long http = 0;
    curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &http);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, NULL);
    curl_slist_free_all(headers);
    *status = (int)http;
    if (code == CURLE_WRITE_ERROR)
        return err_set(e, ERR_UPSTREAM, "the server's answer is larger than %d MiB",
                       BODY_MAX >> 20);
    return code == CURLE_OK ? OK : unreachable(c, code, why, e);
}

/* ---- errors of the server (RFC 9457) ---- */

static void forget_details(struct client *c)
{
    arena_reset(&c->arena);
    c->n_details = 0;
    c->hint = NULL;
}

static enum err_kind kind_of(const struct jv *problem, int status)
{
    const char *type = jv_get_text(problem, "type");
    const char *name = type != NULL ? strrchr(type, '/') : NULL;
    for (int kind = OK + 1; kind < ERR_KINDS; kind++)
        if (name != NULL && strcmp(err_row((enum err_kind)kind)->name, name + 1) == 0)
            return (enum err_kind)kind;
    for (int kind = OK + 1; kind < ERR_KINDS; kind++)
        if (err_row((enum err_kind)kind)->http_status == status)
            return (enum err_kind)kind;
    return status >= 500 ? ERR_UPSTREAM : ERR_INVALID;
}

static int problem(struct client *c, const struct reply *r, int retry_after_s, struct err *e)
{
    /* What is no problem document was not written by the native API. */
    bool ours = jv_get_text(r->json, "type") != NULL;
    enum err_kind kind = ours ? kind_of(r->json, r->status) : ERR_UPSTREAM;
    const char *text = ours ? jv_get_text(r->json, "detail") : NULL,
               *code = jv_get_text(r->json, "code");
    const char *hint = jv_get_text(r->json, "hint");
    if (ours && text == NULL)
        text = jv_get_text(r->json, "title");
    if (text != NULL)
        err_code(e, kind, code != NULL ? code : "", "%s", text_clean(&c->arena, text));
    else
        err_set(e, kind,
                "the server at %s answers %d: it is no Drover server, or of another version",
                c->server.url, r->status);
    if (e != NULL)
        e->retry_after_s = retry_after_s;
    if (hint != NULL)
        c->hint = text_clean(&c->arena, hint);
    const struct jv *errors = jv_get(r->json, "errors");
    for (size_t i = 0; i < jv_len(errors) && c->n_details < DETAILS_MAX; i++) {
        const char *field = jv_get_text(jv_at(errors, i), "field");
        const char *message = jv_get_text(jv_at(errors, i), "message");
        const char *line = arena_printf(&c->arena, "%s: %s", field != NULL ? field : "",
                                        message != NULL ? message : "");
        /* What the first line says already is not said again. */
        if (text == NULL || strstr(text, line) == NULL)
            c->details[c->n_details++] = text_clean(&c->arena, line);
    }
    return kind;
}

void client_explain(const struct client *c, const struct err *e)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->n_details; i++)
        fprintf(stderr, "  %s\n", c->details[i]);
    if (c->hint != NULL)
        fprintf(stderr, "  %s\n", c->hint);
    if (e->kind == ERR_UNAVAILABLE && strcmp(e->code, "UNREACHABLE") == 0) {
        if (c->server.tried[0] != '\0' && c->server.unix_path[0] == '\0') {
            say(stderr, "  No local server's socket was found; looked for\n");
            for (const char *line = c->server.tried; *line != '\0';) {
                size_t n = strcspn(line, "\n");
                fprintf(stderr, "    %.*s\n", (int)n, line);
                line += n + (line[n] == '\n');
            }
        }
        say(stderr, "  Start one here: drover serve    or name another: "
                    "DROVER_URL=http://host:8080 drover …\n");
    }
    if (e->kind == ERR_UNAUTHENTICATED && c->hint == NULL) {
        if (c->token != NULL)
            say(stderr, "  DROVER_TOKEN is set and not accepted; make a new one: drover token "
                        "create NAME\n");
        else
            say(stderr, "  Sign in: drover login\n");
    }
}

int client_fail(const struct client *c, const struct err *e)
{
    struct term t = term_of(STDERR_FILENO);
    fflush(stdout);
    fprintf(stderr, "%s%s%s\n", hue_on(&t, HUE_RED), e->text, hue_off(&t, HUE_RED));
    client_explain(c, e);
    return err_row(e->kind)->exit_code;
}

/* ---- renewing a sign-in ---- */

static int renew(struct client *c, struct err *e)
{
    AUTO(fd) int lock = -1;
    int k = credential_lock(&lock, e);
    if (k != OK)
        return k;
    /* Another process may have done it while we waited. */
    struct credential now;
    if ((k = credential_load(c->server.url, &now, e)) != OK)
        return k;
    if (now.access[0] != '\0' && strcmp(now.access, c->who.access) != 0) {
        c->who = now;
        return OK;
    }
    AUTO(buf) struct buf body = {0};
    struct json j = json_to(&body);
    json_open(&j, '{');
    json_ktext(&j, "refresh_token", now.refresh);
    json_close(&j, '}');
    AUTO(reply) struct reply r = {0};
    struct exchange x = {0};
    struct call q = {
        .method = "POST", .path = "/v1/session/refresh", .body = buf_str(&body), .anonymous = true};
    k = perform(c, &q, &x, &r.status, e);
    r.body = x.body;
    if (k != OK)
        return k;
    if (jv_parse(buf_str(&r.body), r.body.len, &r.json, NULL, NULL) != OK)
        r.json = NULL;
    if (r.status >= 500)
        return problem(c, &r, x.retry_after_s, e);
    if (r.status != 200 || !credential_of_answer(r.json, &now))
        return err_set(e, ERR_UNAUTHENTICATED, "your sign-in at %s has ended", c->server.url);
    c->who = now;
    return credential_save(c->server.url, &now, e);
}

static bool may_renew(const struct client *c, const struct call *q)
{
    return !q->anonymous && q->bearer == NULL && c->token == NULL && c->who.refresh[0] != '\0';
}

int client_call(struct client *c, const struct call *q, struct reply *out, struct err *e)
{
    bool is_get = (q->method == NULL && q->body == NULL) ||
                  (q->method != NULL && strcmp(q->method, "GET") == 0);
    bool repeatable = is_get || q->idempotency_key != NULL;
    bool renewed = false;
    forget_details(c);
    if (may_renew(c, q) && c->who.expires_us < now_us() + RENEW_BEFORE_S * US_PER_S) {
        int k = renew(c, e);
        if (k != OK)
            return k;
        renewed = true;
    }
    for (int attempt = 1;; attempt++) {
        struct reply r = {0};
        struct exchange x = {0};
        int k = perform(c, q, &x, &r.status, e);
        r.body = x.body;
        r.date_s = x.date_s;
        if (k == OK && jv_parse(buf_str(&r.body), r.body.len, &r.json, NULL, NULL) != OK)
            r.json = NULL;
        if (k == OK && r.status < 400) {
            *out = r;
            return OK;
        }
        if (k == OK && r.status == 401 && !renewed && may_renew(c, q)) {
            reply_fini(&r);
            if ((k = renew(c, e)) != OK)
                return k;
            renewed = true;
            continue;
        }
        int wait_ms = 100 << attempt;
        bool again = k == ERR_UNAVAILABLE;
        if (k == OK) {
            forget_details(c);
            k = problem(c, &r, x.retry_after_s, e);
            again = (r.status == 503 || r.status == 429) && x.retry_after_s <= 5;
            if (x.retry_after_s > 0)
                wait_ms = x.retry_after_s * 1000;
        }
        reply_fini(&r);
        if (!again || !repeatable || attempt >= ATTEMPTS)
            return k;
        if (client_nap(c, wait_ms))
            return k;
    }
}

/* ---- a body of any length ---- */

struct download {
    CURL *easy;
    FILE *to;
    struct buf error_body;
};

static size_t on_download(char *p, size_t size, size_t n, void *ctx)
{
    struct download *d = ctx;
    long status = 0;
    curl_easy_getinfo(d->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200)
        return buf_add(&d->error_body, p, size * n) ? size * n : 0;
    return fwrite(p, 1, size * n, d->to);
}

int client_download(struct client *c, const char *path, FILE *to, struct err *e)
{
    struct call q = {.path = path};
    int k = OK;
    forget_details(c);
    if (may_renew(c, &q) && c->who.expires_us < now_us() + RENEW_BEFORE_S * US_PER_S)
        k = renew(c, e);
    if (k != OK)
        return k;
    struct curl_slist *headers = prepare(c, &q);
    struct download d = {.easy = c->easy, .to = to, .error_body.max = EVENT_MAX};
    char why[CURL_ERROR_SIZE] = "";
    long status = 0;
    curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c->easy, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(c->easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c->easy, CURLOPT_LOW_SPEED_TIME, (long)SILENT_S);
    curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_download);
    curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, &d);
    CURLcode code = curl_easy_perform(c->easy);
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, NULL);
    curl_slist_free_all(headers);
    if (status >= 400) {
        AUTO(reply) struct reply r = {.status = (int)status};
        if (jv_parse(buf_str(&d.error_body), d.error_body.len, &r.json, NULL, NULL) != OK)
            r.json = NULL;
        k = problem(c, &r, 0, e);
    } else if (code == CURLE_WRITE_ERROR) {
        k = err_sys(e, "writing");
    } else if (code != CURLE_OK) {
        k = unreachable(c, code, why, e);
    }
    buf_fini(&d.error_body);
    return k;
}

/* ---- WebSockets ---- */

int client_socket(const struct client *c, const char *path, const char *protocol,
                  size_t message_max, struct ws_client **out, struct err *e)
{
    static const struct call plain;
    struct dial_to to = {0};
    int k = dial_parse(c->server.url, &to, e);
    struct ws_client_config w = {.to = &to,
                                 .path = path,
                                 .bearer = bearer_of(c, &plain),
                                 .protocol = protocol,
                                 .message_max = message_max,
                                 .timeout_ms = TIMEOUT_S * 1000};
    return k != OK ? k : ws_client_connect(&w, out, e);
}

/* ---- server-sent events (WHATWG HTML, section 9.2) ---- */

struct sse {
    stream_fn *fn;
    void *ctx;
    struct buf line, data;
    char event[64], id[64];
    bool over; /* fn wants no more */
    bool too_large;
    int64_t heard_us;
    CURL *easy;
    struct buf error_body; /* an answer that is no stream */
};

static void sse_dispatch(struct sse *s)
{
    if (s->data.len > 0) {
        AUTO(jv) struct jv *data = NULL;
        if (jv_parse(s->data.data, s->data.len, &data, NULL, NULL) == OK && !s->over)
            s->over = !s->fn(s->ctx, s->event[0] != '\0' ? s->event : "message", s->id, data);
    }
    buf_reset(&s->data);
    s->event[0] = '\0';
}

static void sse_line(struct sse *s, char *line)
{
    if (*line == '\0') {
        sse_dispatch(s);
        return;
    }
    char *value = line + strcspn(line, ":");
    if (*value == ':')
        *value++ = '\0';
    value += *value == ' ';
    if (strcmp(line, "data") == 0) {
        if (s->data.len > 0)
            buf_addc(&s->data, '\n');
        buf_adds(&s->data, value);
    } else if (strcmp(line, "event") == 0) {
        snprintf(s->event, sizeof(s->event), "%s", value);
    } else if (strcmp(line, "id") == 0) {
        snprintf(s->id, sizeof(s->id), "%s", value);
    }
}

static size_t on_stream(char *p, size_t size, size_t n, void *ctx)
{
    struct sse *s = ctx;
    size_t all = size * n;
    long status = 0;
    curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
    s->heard_us = mono_us();
    if (status != 200)
        return buf_add(&s->error_body, p, all) ? all : 0;
    for (size_t at = 0; at < all && !s->over;) {
        const char *end = memchr(p + at, '\n', all - at);
        size_t take = end != NULL ? (size_t)(end - (p + at)) : all - at;
        if (!buf_add(&s->line, p + at, take) || s->data.overflow) {
            s->too_large = true;
            return 0;
        }
        at += take;
        if (end == NULL)
            break;
        at++;
        if (s->line.len > 0 && s->line.data[s->line.len - 1] == '\r')
            s->line.data[--s->line.len] = '\0';
        if (s->line.len == 0)
            sse_dispatch(s);
        else
            sse_line(s, s->line.data);
        buf_reset(&s->line);
    }
    return s->over ? 0 : all;
}

/* Runs the transfer until it ends, is stopped, interrupted or silent for too long. */
static CURLcode stream_run(struct client *c, struct sse *s)
{
    CURLcode code = CURLE_OK;
    int running = 1;
    while (running > 0 && !s->over && !interrupted) {
        if (curl_multi_perform(c->multi, &running) != CURLM_OK)
            return CURLE_RECV_ERROR;
        if (running == 0 || s->over)
            break;
        if (mono_us() - s->heard_us > SILENT_S * US_PER_S)
            return CURLE_OPERATION_TIMEDOUT;
        struct curl_waitfd extra = {.fd = interrupt_pipe[0], .events = CURL_WAIT_POLLIN};
        curl_multi_poll(c->multi, &extra, c->catching ? 1 : 0, 1000, NULL);
    }
    int left;
    CURLMsg *m;
    while ((m = curl_multi_info_read(c->multi, &left)) != NULL)
        if (m->msg == CURLMSG_DONE)
            code = m->data.result;
    return code;
}

int client_stream(struct client *c, const char *path, const char *last_id, stream_fn *fn, void *ctx,
                  enum stream_end *end, struct err *e)
{
    struct call q = {.path = path};
    forget_details(c);
    if (may_renew(c, &q) && c->who.expires_us < now_us() + RENEW_BEFORE_S * US_PER_S) {
        int k = renew(c, e);
        if (k != OK)
            return k;
    }
    struct curl_slist *headers = prepare(c, &q);
    struct sse s = {.fn = fn, .ctx = ctx, .easy = c->easy, .heard_us = mono_us()};
    s.line.max = s.data.max = s.error_body.max = EVENT_MAX;
    if (last_id != NULL && *last_id != '\0')
        add_header(&headers, "Last-Event-ID", last_id);
    headers = curl_slist_append(headers, "Accept: text/event-stream");
    char why[CURL_ERROR_SIZE] = "";
    curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_stream);
    curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, &s);
    curl_multi_add_handle(c->multi, c->easy);
    CURLcode code = stream_run(c, &s);
    long status = 0;
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_multi_remove_handle(c->multi, c->easy);
    curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, NULL);
    curl_slist_free_all(headers);
    int k = OK;
    if (interrupted) {
        *end = STREAM_INTERRUPTED;
    } else if (s.over) {
        *end = STREAM_DONE;
    } else if (s.too_large) {
        k = err_set(e, ERR_UPSTREAM, "the server's answer is larger than %d MiB", EVENT_MAX >> 20);
    } else if (status >= 400) {
        struct reply r = {.status = (int)status};
        if (jv_parse(buf_str(&s.error_body), s.error_body.len, &r.json, NULL, NULL) != OK)
            r.json = NULL;
        k = problem(c, &r, 0, e);
        reply_fini(&r);
    } else if (status == 0 && code != CURLE_OK) {
        k = unreachable(c, code, why, e);
    } else {
        *end = STREAM_CUT;
    }
    buf_fini(&s.line);
    buf_fini(&s.data);
    buf_fini(&s.error_body);
    return k;
}
