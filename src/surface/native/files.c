/* Code and results: the WebSockets on which trees travel (files/sync.h), and what a job has.
 *
 * Three doors to one conversation: a person's own store; a job's store for who may see it, to read
 * only; and a node's agent for an attempt that it holds, which may read the code and leave results.
 *
 * What must stay true: messages of one connection are worked on in order, by one worker at a time;
 * what waits for a connection is bounded; an agent reaches only the store of the job's owner. */
#include "surface/native/files.h"

#include "surface/native/jobs.h"
#include "surface/native/views.h"
#include "surface/surface.h"

#include "base/str.h"
#include "base/world.h"
#include "files/blobs.h"
#include "io/ws.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { INBOX_MAX = 24 << 20, BACKLOG_MAX = 24 << 20 };

extern const struct module native_files_module;

struct files {
    struct blobs *blobs;
    int64_t keep_us;
};
static struct files *files_of(const struct house *h)
{
    return house_state(h, &native_files_module);
}

bool files_tree_there(const struct house *h, int64_t owner, const char *id)
{
    return tree_there(files_of(h)->blobs, owner, id);
}

/* ---- one connection ---- */

enum door { DOOR_OWN, DOOR_JOB, DOOR_AGENT };
struct message {
    struct message *next;
    size_t n;
    char data[];
};
struct talk {
    struct house *house;
    enum door door;
    int64_t owner, job;
    pthread_mutex_t lock;
    struct ws *ws; /* NULL: closed */
    struct message *first, **last;
    size_t waiting;
    bool scheduled;
    int refs; /* the socket's and the worker's */
};

static void talk_put(struct talk *t)
{
    pthread_mutex_lock(&t->lock);
    bool last = --t->refs == 0;
    pthread_mutex_unlock(&t->lock);
    if (!last)
        return;
    while (t->first != NULL) {
        struct message *next = t->first->next;
        mem_free(t->first);
        t->first = next;
    }
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

static void answer(struct talk *t, const struct buf *b)
{
    pthread_mutex_lock(&t->lock);
    if (t->ws != NULL)
        ws_send_binary(t->ws, b->data, b->len);
    pthread_mutex_unlock(&t->lock);
}

struct result_call {
    int64_t job;
    const char *tree, *note;
};

static int result_tx(struct tx *tx, void *ctx, struct err *e)
{
    const struct result_call *c = ctx;
    return job_set_result(tx, c->job, c->tree, c->note, e);
}

static int keep_result(struct talk *t, const char *tree, const char *note, struct err *e)
{
    struct result_call c = {t->job, tree, note};
    return store_tx(house_store(t->house), result_tx, &c, e);
}

static int work(struct talk *t, const struct message *m, struct buf *out, struct err *e)
{
    struct blobs *b = files_of(t->house)->blobs;
    const uint8_t *p = (const uint8_t *)m->data + 1;
    size_t n = m->n - 1;
    char op = m->data[0], id[TREE_ID_SIZE];
    bool writes = t->door != DOOR_JOB;
    int rc = OK;
    buf_addc(out, op);
    switch (op) {
    case 'T':
        snprintf(id, sizeof(id), "%.*s", (int)n, (const char *)p);
        return tree_load(b, t->owner, id, out, e);
    case 'G':
        if (n == HASH_SIZE)
            return blob_read(b, t->owner, p, out, e);
        break;
    case 'M':
        for (size_t i = 0; i + HASH_SIZE <= n && n % HASH_SIZE == 0; i += HASH_SIZE)
            buf_addc(out, blob_has(b, t->owner, p + i) ? 0 : 1);
        if (n % HASH_SIZE == 0)
            return OK;
        break;
    case 'P':
        if (writes && n > HASH_SIZE)
            return blob_put(b, t->owner, p, p + HASH_SIZE, n - HASH_SIZE, e);
        break;
    case 'C':
        if (!writes)
            break;
        rc = tree_keep(b, t->owner, (const char *)p, n, id, e);
        if (rc == OK && t->door == DOOR_AGENT)
            rc = keep_result(t, id, NULL, e);
        buf_adds(out, rc == OK ? id : "");
        return rc;
    case 'X':
        if (t->door == DOOR_AGENT) {
            AUTO(arena) struct arena a = {0};
            const char *why = arena_strndup(&a, (const char *)p, n < 400 ? n : 400);
            return keep_result(t, NULL, arena_strndup(&a, why, utf8_fit(why, 400)), e);
        }
        break;
    }
    return err_set(e, ERR_INVALID, "this question is not understood here");
}

static void talk_work(void *ctx)
{
    struct talk *t = ctx;
    for (;;) {
        pthread_mutex_lock(&t->lock);
        struct message *m = t->first;
        if (m != NULL) {
            t->first = m->next;
            t->waiting -= m->n;
            if (t->first == NULL)
                t->last = &t->first;
        }
        t->scheduled = m != NULL;
        pthread_mutex_unlock(&t->lock);
        if (m == NULL)
            break;
        struct err e = {0};
        AUTO(buf) struct buf out = {.max = SYNC_MESSAGE_MAX};
        if (work(t, m, &out, &e) != OK) {
            buf_reset(&out);
            buf_printf(&out, "E%s", e.text);
        }
        mem_free(m);
        answer(t, &out);
    }
    talk_put(t);
}

static void on_message(struct ws *ws, void *ctx, const char *data, size_t n, bool binary)
{
    struct talk *t = ctx;
    struct message *m = mem_alloc(sizeof(*m) + n + 1);
    m->n = n;
    memcpy(m->data, data, n);
    pthread_mutex_lock(&t->lock);
    bool good = binary && n > 0 && t->waiting + n <= INBOX_MAX;
    if (good) {
        *t->last = m;
        t->last = &m->next;
        t->waiting += n;
    }
    if (good && !t->scheduled) {
        t->refs++;
        t->scheduled = house_run(t->house, talk_work, t);
        if (!t->scheduled)
            t->refs--;
        good = t->scheduled;
        m = NULL;
    } else if (good) {
        m = NULL;
    }
    pthread_mutex_unlock(&t->lock);
    mem_free(m);
    if (!good)
        ws_close(ws, 1013, "too much at once");
}

static void on_closed(struct ws *ws, void *ctx, int code)
{
    struct talk *t = ctx;
    pthread_mutex_lock(&t->lock);
    t->ws = NULL;
    pthread_mutex_unlock(&t->lock);
    talk_put(t);
}

static void on_opened(struct ws *ws, void *ctx)
{
    struct talk *t = ctx;
    pthread_mutex_lock(&t->lock);
    t->ws = ws;
    pthread_mutex_unlock(&t->lock);
}

static int talk_begin(struct request *q, enum door door, int64_t owner, int64_t job)
{
    static const struct ws_ops ops = {on_message, on_closed};
    static const struct ws_limits limits = {
        .message_max = SYNC_MESSAGE_MAX, .backlog_max = BACKLOG_MAX, .ping_s = 20, .silent_s = 120};
    struct talk *t = mem_alloc(sizeof(*t));
    *t = (struct talk){
        .house = q->house, .door = door, .owner = owner, .job = job, .last = NULL, .refs = 1};
    t->last = &t->first;
    pthread_mutex_init(&t->lock, NULL);
    if (ws_accept(q->http, SYNC_PROTOCOL, &ops, &limits, t, on_opened) == NULL)
        talk_put(t);
    return REQUEST_TAKEN;
}

/* ---- the doors ---- */

struct look {
    struct request *q;
    struct job job;
    int64_t attempt;
};

static int look_job(struct tx *tx, void *ctx, struct err *e)
{
    struct look *l = ctx;
    return native_job(l->q, tx, job_ref(l->q), &l->job, e);
}

static int look_attempt(struct tx *tx, void *ctx, struct err *e)
{
    struct look *l = ctx;
    return job_of_attempt(tx, l->attempt, l->q->who.node_id, l->q->arena, &l->job, e);
}

static int own_socket(struct request *q, struct tx *tx, struct err *e)
{
    return talk_begin(q, DOOR_OWN, q->who.user_id, 0);
}

static int job_socket(struct request *q, struct tx *tx, struct err *e)
{
    struct look l = {.q = q};
    int rc = store_read(house_store(q->house), look_job, &l, e);
    return rc != OK ? rc : talk_begin(q, DOOR_JOB, l.job.owner, l.job.id);
}

static int agent_socket(struct request *q, struct tx *tx, struct err *e)
{
    struct look l = {.q = q};
    if (!str_int(job_ref(q), &l.attempt))
        return err_set(e, ERR_NOT_FOUND, "there is no such attempt");
    int rc = store_read(house_store(q->house), look_attempt, &l, e);
    return rc != OK ? rc : talk_begin(q, DOOR_AGENT, l.job.owner, l.job.id);
}

struct files_shown {
    const char *code, *result, *note;
    struct texts out;
};
LOCAL_VIEW(files_view, struct files_shown, "JobFiles", NULL, 0,
           FIELD(struct files_shown, "code", code, T_TEXT, .flags = F_NULL,
                 .doc = "tree that its folder began with"),
           FIELD(struct files_shown, "out", out, T_TEXTS, .doc = "what is kept at its end"),
           FIELD(struct files_shown, "result", result, T_TEXT, .flags = F_NULL,
                 .doc = "tree of what was kept"),
           FIELD(struct files_shown, "note", note, T_TEXT, .flags = F_NULL,
                 .doc = "why nothing was kept"));

static int job_files_show(struct request *q, struct tx *tx, struct err *e)
{
    struct job j;
    struct files_shown shown = {0};
    struct job_files f;
    int rc = native_job(q, tx, job_ref(q), &j, e);
    if (rc == OK)
        rc = job_files_of(&j, q->arena, &f, e);
    if (rc != OK)
        return rc;
    shown = (struct files_shown){f.code, f.result, f.note, f.out};
    return request_answer(q, 200, &files_view, &shown);
}

static const struct route routes[] = {
    {"WS", "/v1/files", "files_socket", "Trees of one's own (drover-files.1)", ACCESS_USER,
     .flags = ROUTE_STREAM | ROUTE_NO_TX, .handle = own_socket, .tag = "files"},
    {"WS", "/v1/jobs/{id}/files", "job_files_socket", "Trees of a job, to read", ACCESS_OWNER,
     .flags = ROUTE_STREAM | ROUTE_NO_TX, .params = &job_path_view, .handle = job_socket,
     .tag = "files"},
    {"GET", "/v1/jobs/{id}/files", "job_files", "Code and results of a job", ACCESS_OWNER,
     .params = &job_path_view, .handle = job_files_show, .answers = {{200, &files_view}},
     .errors = "404", .tag = "files"},
    {"WS", "/v1/agent/files/{id}", "agent_files", "Code and results of an attempt", ACCESS_AGENT,
     .flags = ROUTE_STREAM | ROUTE_NO_TX, .params = &job_path_view, .handle = agent_socket,
     .tag = "files"},
};

/* ---- the module ---- */

static int keep_codes(struct tx *tx, void *ctx, struct err *e)
{
    struct house *h = ctx;
    struct list rows;
    struct job_filter f = {.everyone = true,
                           .states = (1u << JOB_COMPLETED) - 1,
                           .limit = 10000,
                           .who = &(struct principal){.via = VIA_UNIX, .role = ROLE_ADMIN}};
    int rc = job_list(tx, &f, tx_arena(tx), &rows, e);
    for (size_t i = 0; rc == OK && i < rows.n; i++) {
        const struct job *j = (const struct job *)rows.items + i;
        struct job_files files;
        if (job_files_of(j, tx_arena(tx), &files, NULL) == OK && files.code != NULL)
            files_tree_there(h, j->owner, files.code);
    }
    return rc;
}

/* Code that a job still waits to run with is in use, however long it waits. */
static void sweep(struct house *h, void *state)
{
    struct files *f = state;
    if (store_read(house_store(h), keep_codes, h, NULL) == OK)
        blobs_sweep(f->blobs, f->keep_us);
}

static int files_start(struct house *h, void **state, struct err *e)
{
    struct files *f = mem_alloc(sizeof(*f));
    AUTO(mem) char *dir = mem_printf("%s/blobs", house_data_dir(h));
    f->keep_us = setting_int(h, "FILES_KEEP_DAYS") * 86400 * US_PER_S;
    *state = f;
    return blobs_open(dir, setting_int(h, "FILES_MAX_MIB") << 20, &f->blobs, e);
}

static void files_stop(struct house *h, void *state)
{
    struct files *f = state;
    if (f == NULL)
        return;
    blobs_close(f->blobs);
    mem_free(f);
}

static void files_metrics(struct house *h, void *state, struct buf *out)
{
    const struct files *f = state;
    buf_printf(out,
               "# HELP gpuplat_files_bytes Code and results that are kept.\n"
               "# TYPE gpuplat_files_bytes gauge\ngpuplat_files_bytes %lld\n",
               (long long)blobs_bytes(f->blobs));
}

static const struct setting settings[] = {
    {"FILES_MAX_MIB", NULL, SET_INT, "51200", 1, INT64_C(1) << 40,
     .doc = "how much code and results are kept in DATA/blobs; beyond it uploads are refused"},
    {"FILES_KEEP_DAYS", NULL, SET_INT, "30", 1, 36500,
     .doc = "days that code and results are kept after their last use"},
};
static const struct duty duties[] = {
    {.name = "sweep code and results", .every_ms = 600 * 1000, .fn = sweep},
};
static const struct err_text texts[] = {
    {"a part of %s was not sent: try again", "%s 的一部分没有送达：请重试"},
    {"the bytes of a chunk do not have its hash", "数据块的内容与其哈希不符"},
    {"it is not in the store of code and results (any more)", "代码与结果库中没有它（或已过期）"},
    {"there is no such attempt", "没有这次尝试"},
    {"the store of code and results is full (%lld MiB, FILES_MAX_MIB): what is not used goes after "
     "FILES_KEEP_DAYS",
     "代码与结果库已满（%lld MiB，FILES_MAX_MIB）：不用的内容在 FILES_KEEP_DAYS 之后删除"},
    {0},
};
const struct module native_files_module = {
    .name = "files",
    .surface = &native_surface,
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .settings = settings,
    .n_settings = ARRAY_LEN(settings),
    .duties = duties,
    .n_duties = ARRAY_LEN(duties),
    .texts = texts,
    .metrics = files_metrics,
    .start = files_start,
    .stop = files_stop,
};
