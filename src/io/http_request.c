/* One request from its first line to its answer: libmicrohttpd's callbacks, the state that
 * settles who answers, and what the embedder may read.
 *
 * The state moves HANDLER → ANSWERED when the answer is there before the handler returns, else
 * HANDLER → WAITING (suspended) → ANSWERED or STOPPED. Whoever moves it from WAITING resumes the
 * connection, so it is resumed exactly once.
 *
 * libmicrohttpd 0.9.75 reads C strings: a NUL inside a line hides what follows it, a line may
 * end in a bare LF, and folded lines are joined wrongly. It cuts the lines in place, so the head
 * is still one run of bytes, and head_layout() checks that the pieces told to us fill it
 * without a gap. Newer versions refuse such requests themselves.
 *
 * An answer that is endless or not HTTP any more (WebSocket) takes the socket away: it is
 * duplicated for the loop, and the library is told to drop its connection (MHD_USE_TURBO keeps
 * it from shutting the socket down).
 */
#include "io/http_guard.h"
#include "io/http_internal.h"
#include "io/http_mhd.h"

#include "base/str.h"
#include "base/world.h"

#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void request_unref(struct http_request *q)
{
    if (atomic_fetch_sub(&q->refs, 1) > 1)
        return;
    struct http_server *s = q->server;
    if (q->told && s->app.gone != NULL)
        s->app.gone(s->app.ctx, q);
    if (q->response != NULL)
        MHD_destroy_response(q->response);
    if (q->takeover != NULL)
        loop_conn_attach(q->takeover, -1);
    buf_fini(&q->body);
    arena_fini(&q->arena);
    http_front_peer_unref(q->front);
    mem_free(q);
    http_server_unref(s);
}

static void conn_phase(struct http_conn *conn, enum http_phase phase)
{
    atomic_store(&conn->since_us, mono_us());
    atomic_store(&conn->phase, phase);
}

static struct http_conn *conn_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

/* The request line is there: the target must be kept before the library cuts it up. */
void *http_mhd_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct http_conn *conn = conn_of(mhd);
    if (conn == NULL)
        return NULL;
    struct http_server *s = conn->listening->server;
    struct http_request *q = mem_alloc(sizeof(*q));
    atomic_fetch_add(&s->refs, 1);
    atomic_fetch_add(&s->n_active, 1);
    q->server = s;
    q->conn = conn;
    q->mhd = mhd;
    atomic_store(&q->refs, 1);
    atomic_store(&q->state, STATE_HANDLER);
    q->method = q->query = "";
    q->peer = conn->peer;
    q->front = conn->front;
    if (q->front != NULL)
        atomic_fetch_add(&q->front->refs, 1);
    q->listener = conn->listening->index;
    q->raw_target = uri;
    q->raw_target_n = uri != NULL ? strlen(uri) : 0;
    q->target = arena_strndup(&q->arena, uri != NULL ? uri : "", q->raw_target_n);
    conn_phase(conn, PHASE_HEAD);
    return q;
}

size_t http_mhd_unescape(void *cls, struct MHD_Connection *mhd, char *s)
{
    return strlen(s);
}

void http_mhd_completed(void *cls, struct MHD_Connection *mhd, void **req_cls,
                        enum MHD_RequestTerminationCode code)
{
    struct http_request *q = *req_cls;
    if (q == NULL)
        return;
    *req_cls = NULL;
    struct http_server *s = q->server;
    conn_phase(q->conn, PHASE_IDLE);
    if (q->listed) {
        pthread_mutex_lock(&s->lock);
        if (q->waiting_prev != NULL)
            q->waiting_prev->waiting_next = q->waiting_next;
        else
            s->waiting = q->waiting_next;
        if (q->waiting_next != NULL)
            q->waiting_next->waiting_prev = q->waiting_prev;
        pthread_mutex_unlock(&s->lock);
    }
    atomic_fetch_sub(&s->n_active, 1);
    request_unref(q);
}

/* ---- answers of the server itself ---- */

/* While stopping another thread may still work with the request and its arena: this one touches
 * neither. */
static enum MHD_Result stopped(struct http_request *q)
{
    static const char text[] = "503 The server is stopping.\n";
    atomic_fetch_add(&q->server->refused, 1);
    struct MHD_Response *r = MHD_create_response_from_buffer(sizeof(text) - 1, (void *)text,
                                                             MHD_RESPMEM_PERSISTENT);
    if (r == NULL)
        return MHD_NO;
    MHD_add_response_header(r, "Content-Type", "text/plain; charset=utf-8");
    MHD_add_response_header(r, "Connection", "close");
    MHD_add_response_header(r, "Retry-After", "1");
    enum MHD_Result result = MHD_queue_response(q->mhd, 503, r);
    MHD_destroy_response(r);
    return result;
}

/* The path as far as it can be read, for the choice of an envelope. */
static void path_guess(struct http_request *q)
{
    if (q->path != NULL)
        return;
    size_t n = strcspn(q->target, "?");
    char *path = arena_strndup(&q->arena, q->target, n);
    if (http_percent_decode(q->target, n, false, path) < 0)
        memcpy(path, q->target, n);
    q->path = path;
}

static void refusal(struct http_request *q, int status, const char *text, struct http_answer *a)
{
    struct http_server *s = q->server;
    atomic_fetch_add(&s->refused, 1);
    path_guess(q);
    *a = (struct http_answer){.status = status, .close = true};
    if (s->app.refuse != NULL) {
        s->app.refuse(s->app.ctx, q, text, a);
        return;
    }
    const char *body = arena_printf(&q->arena, "%d %s\n", status, text);
    a->type = "text/plain; charset=utf-8";
    a->body = body;
    a->n = strlen(body);
}

/* Before the embedder was asked. */
static enum MHD_Result refuse(struct http_request *q, int status, const char *text)
{
    struct http_answer a;
    refusal(q, status, text, &a);
    struct MHD_Response *r = http_answer_build(q, &a, &status);
    enum MHD_Result result = MHD_queue_response(q->mhd, (unsigned)status, r);
    MHD_destroy_response(r);
    return result;
}

/* Where the library takes no answer, in the middle of a body, or has no room for one: nothing has
 * been sent, so ours can go straight to the socket before it is closed. */
static enum MHD_Result slam(struct http_request *q, int status, const char *text)
{
    struct http_answer a;
    AUTO(buf) struct buf out = {0};
    refusal(q, status, text, &a);
    http_head_write(&out, q, &a);
    buf_printf(&out, "Connection: close\r\nContent-Length: %zu\r\n\r\n", a.n);
    if (!q->is_head)
        buf_add(&out, a.body, a.n);
    (void)!send(q->conn->fd, out.data, out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    return MHD_NO;
}

/* The library keeps the request's head, a record for each header and query argument, and the
 * head of the answer in one pool: a request may not use so much that no answer fits. */
static bool leaves_room(struct http_request *q)
{
    enum { RECORD_BYTES = 64 };
    const union MHD_ConnectionInfo *head = MHD_get_connection_info(
        q->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    int records = MHD_get_connection_values(
        q->mhd, MHD_HEADER_KIND | MHD_GET_ARGUMENT_KIND | MHD_COOKIE_KIND, NULL, NULL);
    size_t used = head != NULL ? head->header_size : 0;
    used += (size_t)(records > 0 ? records : 0) * RECORD_BYTES;
    return used + HTTP_ANSWER_HEAD_MAX <= HTTP_POOL_BYTES;
}

/* ---- the head ---- */

struct fields {
    struct http_request *q;
    struct http_guard guard;
    const char *fault;
    size_t max;
    const char *at; /* where the next line must start; NULL: not checked */
};

static bool layout_is_ours(void)
{
    return strncmp(MHD_get_version(), "0.9.75", 6) == 0;
}

static enum MHD_Result take_field(void *cls, enum MHD_ValueKind kind, const char *name,
                                  size_t n_name, const char *value, size_t n_value)
{
    struct fields *f = cls;
    struct http_request *q = f->q;
    if (value == NULL) {
        value = "";
        n_value = 0;
    }
    if (f->at != NULL) {
        bool whole = name == f->at && value > name + n_name;
        for (const char *p = name + n_name + 1; whole && p < value; p++)
            whole = *p == ' ' || *p == '\t';
        if (!whole) {
            f->fault = "The header lines are not well formed.";
            return MHD_NO;
        }
        f->at = value + n_value + 2;
    }
    f->fault = http_guard_field(&f->guard, name, n_name, value, n_value);
    if (f->fault != NULL)
        return MHD_NO;
    while (n_value > 0 && (value[n_value - 1] == ' ' || value[n_value - 1] == '\t'))
        n_value--;
    if (q->n_fields == f->max) {
        f->fault = "There are too many headers.";
        return MHD_NO;
    }
    q->fields[q->n_fields++] = (struct http_header_pair){arena_strndup(&q->arena, name, n_name),
                                                         arena_strndup(&q->arena, value, n_value)};
    return MHD_YES;
}

/* NULL: good. The request's members are set then. */
static const char *read_head(struct http_request *q, const char *method, const char *version,
                             struct http_guard *guard)
{
    const char *fault = http_guard_method(method);
    if (fault == NULL)
        fault = http_guard_target(q->target, q->raw_target_n);
    if (fault == NULL && strncmp(version, "HTTP/1.", 7) != 0)
        fault = "The protocol must be HTTP/1.1.";
    if (fault != NULL)
        return fault;
    q->http11 = strcmp(version, "HTTP/1.0") != 0;

    struct fields f = {.q = q};
    bool check = layout_is_ours();
    if (check) {
        if (method + strlen(method) + 1 != q->raw_target ||
            q->raw_target + q->raw_target_n + 1 != version)
            return "The request line is not well formed.";
        f.at = version + strlen(version) + 2;
    }
    int n = MHD_get_connection_values(q->mhd, MHD_HEADER_KIND, NULL, NULL);
    f.max = n > 0 ? (size_t)n : 0;
    q->fields = arena_alloc(&q->arena, (f.max + 1) * sizeof(*q->fields));
    MHD_get_connection_values_n(q->mhd, MHD_HEADER_KIND, take_field, &f);
    if (f.fault != NULL)
        return f.fault;
    const union MHD_ConnectionInfo *size = MHD_get_connection_info(
        q->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    if (check && (size == NULL || f.at + 2 != method + size->header_size))
        return "The header lines are not well formed.";
    *guard = f.guard;
    fault = http_guard_end(guard, q->http11);
    if (fault != NULL)
        return fault;

    q->method = q->is_head ? "GET" : arena_strdup(&q->arena, method);
    const char *mark = strchr(q->target, '?');
    q->query = mark != NULL ? mark + 1 : "";
    size_t n_path = mark != NULL ? (size_t)(mark - q->target) : q->raw_target_n;
    char *path = arena_alloc(&q->arena, n_path + 1);
    if (http_percent_decode(q->target, n_path, false, path) < 0)
        return "The path has an escape that is not text.";
    q->path = path;
    q->wants_100 = guard->expects_continue && q->http11;
    return NULL;
}

/* ---- giving the answer to the connection ---- */

/* For a long-lived connection: small pieces go at once, and a peer that vanished without a word is
 * found out by the kernel. */
static int take_socket(int fd)
{
    enum { PROBE_AFTER_S = 60, GIVE_UP_AFTER_MS = 120000 };
    int taken = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    int one = 1, probe = PROBE_AFTER_S, give_up = GIVE_UP_AFTER_MS;
    setsockopt(taken, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(taken, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(taken, IPPROTO_TCP, TCP_KEEPIDLE, &probe, sizeof(probe));
    setsockopt(taken, IPPROTO_TCP, TCP_USER_TIMEOUT, &give_up, sizeof(give_up));
    return taken;
}

static enum MHD_Result deliver(struct http_request *q)
{
    if (q->takeover != NULL) {
        struct loop_conn *taken = TAKE(q->takeover);
        loop_conn_attach(taken, take_socket(q->conn->fd));
        return MHD_NO;
    }
    struct MHD_Response *r = TAKE(q->response);
    enum MHD_Result result = MHD_queue_response(q->mhd, (unsigned)q->status, r);
    MHD_destroy_response(r);
    return result;
}

void http_request_answered(struct http_request *q)
{
    struct MHD_Connection *mhd = q->mhd;
    int state = atomic_load(&q->state);
    while (state != STATE_STOPPED &&
           !atomic_compare_exchange_weak(&q->state, &state, STATE_ANSWERED))
        ;
    if (state == STATE_WAITING)
        MHD_resume_connection(mhd);
    /* When it was stopped the connection has its 503 and the answer goes with the request. */
    request_unref(q);
}

/* The whole request is there, or it needs no more of it. */
static enum MHD_Result finish(struct http_request *q)
{
    struct http_server *s = q->server;
    if (!q->served && atomic_load(&q->state) == STATE_HANDLER) {
        q->served = true;
        conn_phase(q->conn, PHASE_BUSY);
        atomic_fetch_add(&q->refs, 1);
        s->app.serve(s->app.ctx, q);
    }
    int state = atomic_load(&q->state);
    if (state == STATE_ANSWERED)
        return deliver(q);
    if (state == STATE_STOPPED)
        return stopped(q);

    /* Still to be answered: let the thread go. */
    pthread_mutex_lock(&s->lock);
    state = STATE_HANDLER;
    if (atomic_load(&s->stopping)) {
        bool ours = atomic_compare_exchange_strong(&q->state, &state, STATE_STOPPED);
        pthread_mutex_unlock(&s->lock);
        return ours ? stopped(q) : deliver(q);
    }
    MHD_suspend_connection(q->mhd);
    bool waits = atomic_compare_exchange_strong(&q->state, &state, STATE_WAITING);
    if (waits) {
        q->listed = true;
        q->waiting_next = s->waiting;
        if (s->waiting != NULL)
            s->waiting->waiting_prev = q;
        s->waiting = q;
    }
    pthread_mutex_unlock(&s->lock);
    if (!waits)
        MHD_resume_connection(q->mhd);
    return MHD_YES;
}

void http_requests_stop(struct http_server *s)
{
    pthread_mutex_lock(&s->lock);
    for (struct http_request *q = s->waiting; q != NULL; q = q->waiting_next) {
        int state = STATE_WAITING;
        if (atomic_compare_exchange_strong(&q->state, &state, STATE_STOPPED))
            MHD_resume_connection(q->mhd);
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- the library's handler ---- */

static enum MHD_Result begin(struct http_request *q, const char *method, const char *version)
{
    struct http_server *s = q->server;
    struct http_guard guard;
    atomic_fetch_add(&s->requests, 1);
    q->is_head = strcmp(method, "HEAD") == 0;
    if (!leaves_room(q))
        return slam(q, 431, "The request's head is too large.");
    const char *fault = read_head(q, method, version, &guard);
    if (fault != NULL)
        return refuse(q, 400, fault);
    if (atomic_load(&s->stopping))
        return refuse(q, 503, "The server is stopping.");
    if (http_server_over(s, http_listening_slack(q->conn->listening)))
        return refuse(q, 503, "Too many connections.");

    bool has_body = guard.codings > 0 || guard.length > 0;
    q->told = true;
    atomic_fetch_add(&q->refs, 1);
    q->welcome = s->app.head(s->app.ctx, q);
    bool answered = q->welcome < 0;
    if (!answered)
        atomic_fetch_sub(&q->refs, 1);
    if (!has_body)
        return MHD_YES; /* answering now would make the library close the connection */
    conn_phase(q->conn, PHASE_BODY);
    q->too_large = !answered && guard.length > q->welcome;
    q->draining = answered || q->too_large;
    /* A body that nobody wants is read only when it is small and already on its way. */
    if (!q->draining || (!q->wants_100 && guard.length <= HTTP_DRAIN_MAX))
        return MHD_YES;
    return finish(q);
}

static enum MHD_Result take_body(struct http_request *q, const char *data, size_t n)
{
    atomic_store(&q->conn->since_us, mono_us());
    if (!q->draining && (int64_t)(q->body.len + n) > q->welcome) {
        q->too_large = q->draining = true;
        buf_fini(&q->body);
    }
    if (q->draining) {
        q->drained += (int64_t)n;
        return q->drained <= HTTP_DRAIN_MAX ? MHD_YES : slam(q, 413, "The body is too large.");
    }
    if (q->body.max == 0)
        q->body.max = (size_t)q->welcome;
    return buf_add(&q->body, data, n) ? MHD_YES : MHD_NO;
}

enum MHD_Result http_mhd_handle(void *cls, struct MHD_Connection *mhd, const char *url,
                                const char *method, const char *version, const char *data,
                                size_t *n, void **req_cls)
{
    struct http_request *q = *req_cls;
    if (q == NULL) {
        q = *req_cls = http_mhd_uri(cls, "", mhd);
        q->begun = true;
        return refuse(q, 400, "The request line is not well formed.");
    }
    if (!q->begun) {
        q->begun = true;
        return begin(q, method, version);
    }
    if (*n > 0) {
        size_t had = *n;
        *n = 0;
        return take_body(q, data, had);
    }
    return finish(q);
}

/* ---- reading ---- */

const char *http_method(const struct http_request *q)
{
    return q->method;
}

bool http_is_head(const struct http_request *q)
{
    return q->is_head;
}

const char *http_path(const struct http_request *q)
{
    return q->path;
}

const char *http_target(const struct http_request *q)
{
    return q->target;
}

const char *http_query(const struct http_request *q)
{
    return q->query;
}

const char *http_header(const struct http_request *q, const char *name)
{
    for (size_t i = 0; i < q->n_fields; i++) {
        if (str_eq_nocase(q->fields[i].name, name))
            return q->fields[i].value;
    }
    return NULL;
}

const char *http_header_last(const struct http_request *q, const char *name)
{
    for (size_t i = q->n_fields; i > 0; i--) {
        if (str_eq_nocase(q->fields[i - 1].name, name))
            return q->fields[i - 1].value;
    }
    return NULL;
}

const char *http_body(const struct http_request *q, size_t *n)
{
    if (n != NULL)
        *n = q->body.len;
    return buf_str(&q->body);
}

bool http_too_large(const struct http_request *q)
{
    return q->too_large;
}

const char *http_peer(const struct http_request *q)
{
    return q->peer.text;
}

bool http_peer_unix(const struct http_request *q, uid_t *uid, pid_t *pid)
{
    if (!q->peer.is_unix)
        return false;
    if (uid != NULL)
        *uid = q->peer.uid;
    if (pid != NULL)
        *pid = q->peer.pid;
    return true;
}

bool http_is_tls(const struct http_request *q)
{
    return q->front != NULL;
}

const struct http_peer_cert *http_peer_cert(const struct http_request *q)
{
    return q->front != NULL && q->front->has_cert ? &q->front->cert : NULL;
}

size_t http_listener_index(const struct http_request *q)
{
    return q->listener;
}

struct arena *http_arena(struct http_request *q)
{
    return &q->arena;
}

void http_set_user(struct http_request *q, void *user)
{
    q->user = user;
}

void *http_user(const struct http_request *q)
{
    return q->user;
}
