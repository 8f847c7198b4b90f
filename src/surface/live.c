/* The hub: sockets, topics, and telling a topic something.
 *
 * A message is made once and sent to all members of its topic; people who may see different
 * things are in different groups of one topic (the key), so telling needs no look at anyone's
 * rights and no walk over other sockets.
 *
 * What must stay true: a socket's handle is used only under the hub's lock, which `closed` takes
 * too; seq of a socket rises by one with each topic message that was meant for it. */
#include "surface/live_parts.h"

#include "base/json.h"
#include "base/str.h"
#include "base/world.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    enum topic_kind kind;
    bool ref; /* something stands behind a colon */
} kinds[] = {
    {"jobs", TOPIC_JOBS, false},   {"job", TOPIC_JOB, true},      {"log", TOPIC_LOG, true},
    {"tasks", TOPIC_TASKS, false}, {"task", TOPIC_TASK, true},    {"gpu", TOPIC_GPU, false},
    {"gpu", TOPIC_GPU_ONE, true},  {"nodes", TOPIC_NODES, false}, {"events", TOPIC_EVENTS, false},
};

enum topic_kind topic_parse(const char *name, const char **ref)
{
    size_t n = strcspn(name, ":");
    bool has = name[n] == ':';
    *ref = has ? name + n + 1 : "";
    if (has && **ref == '\0')
        return TOPIC_UNKNOWN;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i].ref == has && strlen(kinds[i].name) == n &&
            strncmp(kinds[i].name, name, n) == 0)
            return kinds[i].kind;
    return TOPIC_UNKNOWN;
}

/* ---- topics ---- */

static void topic_destroy(struct live *l, struct topic *t)
{
    map_del(&l->topics, t->key);
    vec_fini(&t->members);
    mem_free(t->key);
    mem_free(t->name);
    mem_free(t);
}

static bool follows_log(const struct topic *t)
{
    return t->kind == TOPIC_LOG || t->kind == TOPIC_TASK;
}

void socket_join(struct socket *s, const char *key, const char *name, enum topic_kind kind,
                 int64_t job)
{
    struct live *l = s->live;
    struct topic *t = map_get(&l->topics, key);
    if (t == NULL) {
        t = mem_alloc(sizeof(*t));
        t->key = mem_strdup(key);
        t->name = mem_strdup(name);
        t->kind = kind;
        t->native = s->native;
        t->job = job;
        t->who = s->who;
        t->lang = s->lang;
        map_put(&l->topics, key, t);
        if (follows_log(t))
            tail_use(l, job);
    }
    for (size_t i = 0; i < s->topics.n; i++)
        if (s->topics.items[i] == t)
            return;
    vec_push(&s->topics, t);
    vec_push(&t->members, s);
}

static void vec_remove(struct vec *v, const void *p)
{
    for (size_t i = 0; i < v->n; i++)
        if (v->items[i] == p) {
            v->items[i] = v->items[--v->n];
            return;
        }
}

void socket_leave(struct socket *s, struct topic *t)
{
    struct live *l = s->live;
    vec_remove(&s->topics, t);
    vec_remove(&t->members, s);
    if (t->members.n > 0)
        return;
    if (follows_log(t))
        tail_leave(l, t->job);
    topic_destroy(l, t);
}

const char *live_key(char to[LIVE_KEY_SIZE], const char *key, enum lang lang)
{
    snprintf(to, LIVE_KEY_SIZE, "%s%s", key, lang == LANG_ZH ? " zh" : "");
    return to;
}

bool live_topic_wanted(struct live *l, const char *key)
{
    char zh[LIVE_KEY_SIZE];
    return map_get(&l->topics, key) != NULL ||
           map_get(&l->topics, live_key(zh, key, LANG_ZH)) != NULL;
}

/* ---- telling ---- */

static void add_time(struct buf *b, int64_t us)
{
    char text[TIME_TEXT_SIZE];
    buf_printf(b, ",\"timestamp\":\"%s\"", time_format(us, text));
}

static void add_members(struct buf *b, const char *members, size_t n)
{
    if (n > 0) {
        buf_addc(b, ',');
        buf_add(b, members, n);
    }
    buf_addc(b, '}');
}

/* Under the lock. A topic message to one socket: only topic, seq and what is before them differ. */
static void send_topic(struct socket *s, const struct topic *t, const char *type, const char *rest,
                       size_t n, struct buf *b)
{
    s->seq++;
    buf_reset(b);
    buf_printf(b, "{\"type\":\"%s\",\"topic\":", type);
    struct json j = json_to(b);
    json_text(&j, t->name);
    buf_printf(b, ",\"seq\":%lld", (long long)s->seq);
    buf_add(b, rest, n);
    if (s->ws != NULL)
        ws_send_text(s->ws, b->data, b->len);
    atomic_fetch_add_explicit(&s->live->sent, 1, memory_order_relaxed);
}

static void publish_locked(struct live *l, const char *key, const char *type, const char *rest,
                           size_t n, struct buf *b)
{
    struct topic *t = map_get(&l->topics, key);
    for (size_t i = 0; t != NULL && i < t->members.n; i++)
        send_topic(t->members.items[i], t, type, rest, n, b);
}

void live_publish(struct live *l, const char *key, const char *type, const char *members, size_t n)
{
    AUTO(buf) struct buf rest = {0}, whole = {0};
    add_time(&rest, now_us());
    add_members(&rest, members, n);
    pthread_mutex_lock(&l->lock);
    publish_locked(l, key, type, rest.data, rest.len, &whole);
    pthread_mutex_unlock(&l->lock);
}

void live_publish_told(struct live *l, const char *const *keys, size_t n, const char *type,
                       live_write_fn *write, void *ctx)
{
    char key[LIVE_KEY_SIZE];
    for (enum lang lang = LANG_EN; lang <= LANG_ZH; lang++) {
        bool wanted = false;
        pthread_mutex_lock(&l->lock);
        for (size_t i = 0; i < n; i++)
            wanted |= map_get(&l->topics, live_key(key, keys[i], lang)) != NULL;
        pthread_mutex_unlock(&l->lock);
        if (!wanted)
            continue;
        AUTO(buf) struct buf b = {0};
        struct json j = json_to(&b);
        err_lang_set(lang);
        write(&j, ctx);
        err_lang_set(LANG_EN);
        for (size_t i = 0; i < n; i++)
            live_publish(l, live_key(key, keys[i], lang), type, b.data + 1, b.len - 2);
    }
}

void live_publish_task(struct live *l, const struct job *j, const char *type, const char *members,
                       size_t n, bool all)
{
    AUTO(buf) struct buf rest = {0}, whole = {0};
    char key[64];
    add_time(&rest, now_us());
    add_members(&rest, members, n);
    pthread_mutex_lock(&l->lock);
    if (all) {
        snprintf(key, sizeof(key), "tasks@%lld", (long long)j->owner);
        publish_locked(l, key, type, rest.data, rest.len, &whole);
    }
    snprintf(key, sizeof(key), "task:%lld", (long long)j->id);
    publish_locked(l, key, type, rest.data, rest.len, &whole);
    snprintf(key, sizeof(key), "socket:%lld", (long long)j->id);
    struct topic *t = map_get(&l->topics, key);
    if (t != NULL) {
        buf_reset(&whole);
        buf_printf(&whole, "{\"type\":\"%s\"", type);
        buf_add(&whole, rest.data, rest.len);
        for (size_t i = 0; i < t->members.n; i++) {
            struct socket *s = t->members.items[i];
            if (s->ws != NULL)
                ws_send_text(s->ws, whole.data, whole.len);
        }
    }
    pthread_mutex_unlock(&l->lock);
}

void live_say(struct socket *s, const char *type, const char *members, size_t n)
{
    AUTO(buf) struct buf b = {0};
    buf_printf(&b, "{\"type\":\"%s\"", type);
    add_time(&b, now_us());
    add_members(&b, members, n);
    pthread_mutex_lock(&s->live->lock);
    if (s->ws != NULL)
        ws_send_text(s->ws, b.data, b.len);
    pthread_mutex_unlock(&s->live->lock);
}

/* ---- a socket's life ---- */

void socket_put(struct socket *s)
{
    if (atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    while (s->first != NULL) {
        struct inbox_item *next = s->first->next;
        mem_free(s->first);
        s->first = next;
    }
    vec_fini(&s->topics);
    mem_free(s);
}

static void user_key(const struct socket *s, char to[32])
{
    snprintf(to, 32, "%lld", (long long)s->who.user_id);
}

/* Under the lock. False: the user has too many. */
static bool count_user(struct socket *s)
{
    char key[32];
    user_key(s, key);
    uintptr_t n = (uintptr_t)map_get(&s->live->users, key);
    if ((int64_t)n >= s->live->per_user_max)
        return false;
    map_put(&s->live->users, key, (void *)(n + 1));
    s->counted = true;
    return true;
}

static void uncount_user(struct socket *s)
{
    char key[32];
    if (!s->counted)
        return;
    user_key(s, key);
    uintptr_t n = (uintptr_t)map_get(&s->live->users, key);
    if (n > 1)
        map_put(&s->live->users, key, (void *)(n - 1));
    else
        map_del(&s->live->users, key);
}

static void say_hello(struct socket *s)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "connection_id", s->id);
    if (s->task != 0)
        json_ktext(&j, "task_id", s->task_id);
    json_ktext(&j, "message", s->task != 0 ? "Connected to the task" : "Connected");
    json_close(&j, '}');
    live_say(s, "connection_established", b.data + 1, b.len - 2);
}

static void opened(struct ws *ws, void *ctx)
{
    struct socket *s = ctx;
    struct live *l = s->live;
    int code = s->close_code;
    char key[64];
    pthread_mutex_lock(&l->lock);
    if (code == 0 && !count_user(s))
        code = CLOSE_GENERAL;
    s->ws = ws;
    s->next = l->sockets;
    s->at = &l->sockets;
    if (l->sockets != NULL)
        l->sockets->at = &s->next;
    l->sockets = s;
    l->n_sockets++;
    snprintf(s->id, sizeof(s->id), "conn_%llu_%lld", (unsigned long long)++l->serial,
             (long long)(s->connected_at / US_PER_S));
    if (code == 0 && s->task != 0) {
        snprintf(key, sizeof(key), "socket:%lld", (long long)s->task);
        socket_join(s, key, s->task_id, TOPIC_TASK, s->task);
        /* its first message is made by a worker: it needs the store */
        s->working = true;
        atomic_fetch_add(&s->refs, 1);
    }
    pthread_mutex_unlock(&l->lock);
    if (code != 0) {
        ws_close(ws, code,
                 code == CLOSE_GENERAL     ? "too many connections"
                 : code == CLOSE_NO_TOKEN  ? "no credential"
                 : code == CLOSE_BAD_TOKEN ? "the credential is not valid or does not suffice"
                                           : "no such task");
        return;
    }
    say_hello(s);
    if (s->task != 0 && !house_run(l->house, socket_work, s)) {
        ws_close(ws, CLOSE_LATER, "busy");
        socket_put(s);
    }
}

static void closed(struct ws *ws, void *ctx, int code)
{
    struct socket *s = ctx;
    struct live *l = s->live;
    pthread_mutex_lock(&l->lock);
    s->ws = NULL;
    if (s->at != NULL) {
        *s->at = s->next;
        if (s->next != NULL)
            s->next->at = s->at;
        l->n_sockets--;
    }
    while (s->topics.n > 0)
        socket_leave(s, s->topics.items[s->topics.n - 1]);
    uncount_user(s);
    pthread_mutex_unlock(&l->lock);
    socket_put(s);
}

static const struct ws_ops socket_ops = {.message = socket_message, .closed = closed};
static const struct ws_limits socket_limits = {
    .message_max = LIVE_MESSAGE_MAX, .backlog_max = 1 << 20, .ping_s = 30, .silent_s = 1800};

int live_accept(struct request *q, bool native, int close_code, const struct job *task)
{
    struct socket *s = mem_alloc(sizeof(*s));
    s->live = live_of(q->house);
    atomic_init(&s->refs, 1);
    s->who = q->who;
    s->lang = q->lang;
    s->native = native;
    s->last = &s->first;
    s->connected_at = now_us();
    s->close_code = q->refused == ERR_UNAUTHENTICATED ? CLOSE_NO_TOKEN
                    : q->refused == ERR_FORBIDDEN     ? CLOSE_BAD_TOKEN
                                                      : close_code;
    if (task != NULL) {
        s->task = task->id;
        s->task_owner = task->owner;
        snprintf(s->task_id, sizeof(s->task_id), "%s", task->uuid);
    }
    if (ws_accept(q->http, NULL, &socket_ops, &socket_limits, s, opened) == NULL)
        socket_put(s);
    return REQUEST_TAKEN;
}

int live_native_socket(struct request *q, struct tx *tx, struct err *e)
{
    return live_accept(q, true, 0, NULL);
}

int live_documented_socket(struct request *q, struct tx *tx, struct err *e)
{
    return live_accept(q, false, 0, NULL);
}
