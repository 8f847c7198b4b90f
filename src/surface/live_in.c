/* What clients of the live channel say: ping, subscribe and unsubscribe in their documented forms.
 *
 * A ping is answered at once; the rest waits for a worker, because whether a job is the caller's
 * to see is in the store. One worker at a time serves a socket, in the order of its messages. */
#include "surface/live_parts.h"

#include "base/json.h"
#include "base/str.h"
#include "base/world.h"
#include "io/json_in.h"

#include <stdio.h>
#include <string.h>

/* ---- subscribing ---- */

struct want { /* one topic, looked up */
    struct socket *s;
    const char *name;
    enum topic_kind kind;
    const char *ref;
    char key[80];
    int64_t job;
};

static int find_job_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct want *w = ctx;
    struct arena a = {0};
    struct job j;
    int rc = job_find(tx, w->ref, &w->s->who, &a, &j, e);
    if (rc == OK)
        w->job = j.id;
    arena_fini(&a);
    return rc;
}

static bool find_job(struct want *w)
{
    struct err e = {0};
    return store_read(house_store(w->s->live->house), find_job_tx, w, &e) == OK;
}

static bool gpu_exists(struct live *l, const char *id)
{
    AUTO(fleet_snapshot) const struct fleet_snapshot *s = fleet_snapshot_get(l->fleet);
    for (size_t i = 0; i < s->n_gpus; i++)
        if (strcmp(s->gpus[i].id, id) == 0)
            return true;
    return false;
}

/* Who may subscribe to what, and which group of the topic they are in. */
static bool look_up(struct want *w)
{
    const struct principal *who = &w->s->who;
    long long user = (long long)who->user_id;
    bool native = w->s->native;
    switch (w->kind = topic_parse(w->name, &w->ref)) {
    case TOPIC_JOBS:
        if (principal_is_admin(who))
            snprintf(w->key, sizeof(w->key), "jobs");
        else
            snprintf(w->key, sizeof(w->key), "jobs@%lld", user);
        return true;
    case TOPIC_JOB:
    case TOPIC_LOG:
    case TOPIC_TASK:
        if (!find_job(w))
            return false;
        snprintf(w->key, sizeof(w->key), "%s:%lld",
                 w->kind == TOPIC_JOB   ? "job"
                 : w->kind == TOPIC_LOG ? "log"
                                        : "task",
                 (long long)w->job);
        return true;
    case TOPIC_TASKS:
        snprintf(w->key, sizeof(w->key), "tasks@%lld", user);
        return true;
    case TOPIC_GPU:
        if (!native)
            snprintf(w->key, sizeof(w->key), "d:gpu");
        else if (principal_is_admin(who))
            snprintf(w->key, sizeof(w->key), "n:gpu");
        else
            snprintf(w->key, sizeof(w->key), "n:gpu@%lld", user);
        return true;
    case TOPIC_GPU_ONE:
        if (native || strlen(w->ref) > 40 || !gpu_exists(w->s->live, w->ref))
            return false;
        snprintf(w->key, sizeof(w->key), "d:gpu:%s", w->ref);
        return true;
    case TOPIC_NODES:
        snprintf(w->key, sizeof(w->key), "nodes");
        return true;
    case TOPIC_EVENTS:
        /* what people do is told to administrators only */
        snprintf(w->key, sizeof(w->key), principal_is_admin(who) ? "events:all" : "events");
        return principal_is_operator(who);
    case TOPIC_UNKNOWN:
        break;
    }
    return false;
}

/* Whose messages hold texts that are told in the reader's language. */
static bool is_told(const struct want *w)
{
    return w->s->native && (w->kind == TOPIC_JOBS || w->kind == TOPIC_JOB || w->kind == TOPIC_GPU ||
                            w->kind == TOPIC_NODES || w->kind == TOPIC_EVENTS);
}

static bool subscribe_one(struct socket *s, const char *name)
{
    struct want w = {.s = s, .name = name};
    char key[LIVE_KEY_SIZE];
    bool done = false;
    if (strlen(name) > 64 || !look_up(&w))
        return false;
    live_key(key, w.key, is_told(&w) ? s->lang : LANG_EN);
    pthread_mutex_lock(&s->live->lock);
    if (s->ws != NULL && s->topics.n < TOPICS_MAX) {
        socket_join(s, key, name, w.kind, w.job);
        done = true;
    }
    pthread_mutex_unlock(&s->live->lock);
    return done;
}

static void unsubscribe_one(struct socket *s, const char *name)
{
    pthread_mutex_lock(&s->live->lock);
    for (size_t i = 0; i < s->topics.n; i++) {
        struct topic *t = s->topics.items[i];
        if (strcmp(t->name, name) == 0) {
            socket_leave(s, t);
            break;
        }
    }
    pthread_mutex_unlock(&s->live->lock);
}

static void answer_subscribed(struct socket *s, const struct texts *refused)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_key(&j, "topics");
    json_open(&j, '[');
    pthread_mutex_lock(&s->live->lock);
    for (size_t i = 0; i < s->topics.n; i++)
        json_text(&j, ((struct topic *)s->topics.items[i])->name);
    pthread_mutex_unlock(&s->live->lock);
    json_close(&j, ']');
    json_key(&j, "refused");
    json_open(&j, '[');
    for (size_t i = 0; i < refused->n; i++)
        json_text(&j, refused->items[i]);
    json_close(&j, ']');
    json_close(&j, '}');
    live_say(s, "subscribed", b.data + 1, b.len - 2);
}

static void subscribe(struct socket *s, const struct texts *names, bool on)
{
    struct arena a = {0};
    struct texts refused = {.items = arena_alloc(&a, (names->n + 1) * sizeof(char *))};
    for (size_t i = 0; i < names->n; i++) {
        if (!on)
            unsubscribe_one(s, names->items[i]);
        else if (!subscribe_one(s, names->items[i]))
            refused.items[refused.n++] = names->items[i];
    }
    answer_subscribed(s, &refused);
    arena_fini(&a);
}

/* ---- messages ---- */

static void say_error(struct socket *s, const char *message)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "message", message);
    json_close(&j, '}');
    live_say(s, "error", b.data + 1, b.len - 2);
}

/* The forms that name one topic by their type (contract 13.2). */
static const struct {
    const char *type, *topic; /* topic NULL: task: and the message's task_id */
    bool on;
} short_forms[] = {
    {"subscribe_task", NULL, true},
    {"unsubscribe_task", NULL, false},
    {"subscribe_task_updates", "tasks", true},
    {"unsubscribe_task_updates", "tasks", false},
    {"subscribe_gpu_metrics", "gpu", true},
    {"unsubscribe_gpu_metrics", "gpu", false},
};

static bool short_form(struct socket *s, const char *type, const struct jv *m)
{
    char name[80];
    for (size_t i = 0; i < ARRAY_LEN(short_forms); i++) {
        if (strcmp(short_forms[i].type, type) != 0)
            continue;
        const char *task = jv_get_text(m, "task_id");
        if (task == NULL)
            task = jv_get_text(jv_get(m, "data"), "task_id");
        if (short_forms[i].topic == NULL && task == NULL) {
            say_error(s, "task_id is missing");
            return true;
        }
        snprintf(name, sizeof(name), "%s%s",
                 short_forms[i].topic != NULL ? short_forms[i].topic : "task:",
                 short_forms[i].topic != NULL ? "" : task);
        const char *items[] = {name};
        subscribe(s, &(struct texts){items, 1}, short_forms[i].on);
        return true;
    }
    return false;
}

static void handle_list(struct socket *s, const struct jv *m, bool on)
{
    const char *items[TOPICS_MAX];
    struct texts names = {items, 0};
    const struct jv *topics = jv_get(m, "topics");
    if (topics == NULL)
        topics = jv_get(jv_get(m, "data"), "topics");
    if (jv_kind(topics) != JV_LIST || jv_len(topics) > TOPICS_MAX) {
        say_error(s, "topics must be a list of at most 256 texts");
        return;
    }
    for (size_t i = 0; i < jv_len(topics); i++) {
        const char *name = jv_text(jv_at(topics, i), NULL);
        if (name == NULL) {
            say_error(s, "topics must be a list of at most 256 texts");
            return;
        }
        items[names.n++] = name;
    }
    subscribe(s, &names, on);
}

static void handle(struct socket *s, const struct jv *m)
{
    const char *type = jv_get_text(m, "type");
    if (type == NULL)
        type = "";
    if (s->task != 0 && strcmp(type, "get_status") == 0)
        live_task_status(s, "status_response");
    else if (s->task != 0)
        say_error(s, "unknown message type");
    else if (strcmp(type, "subscribe") == 0)
        handle_list(s, m, true);
    else if (strcmp(type, "unsubscribe") == 0)
        handle_list(s, m, false);
    else if (!short_form(s, type, m))
        say_error(s, "unknown message type");
}

/* On a worker: what the client said, one after the other. */
void socket_work(void *ctx)
{
    struct socket *s = ctx;
    struct live *l = s->live;
    pthread_mutex_lock(&l->lock);
    bool greet = s->task != 0 && !s->greeted;
    s->greeted = true;
    pthread_mutex_unlock(&l->lock);
    if (greet)
        live_task_status(s, "current_status");
    for (;;) {
        pthread_mutex_lock(&l->lock);
        struct inbox_item *item = s->first;
        if (item == NULL) {
            s->working = false;
            pthread_mutex_unlock(&l->lock);
            break;
        }
        s->first = item->next;
        if (s->first == NULL)
            s->last = &s->first;
        s->waiting--;
        pthread_mutex_unlock(&l->lock);
        AUTO(jv) struct jv *m = NULL;
        /* text that is not JSON is ignored (contract 13.1) */
        if (jv_parse(item->text, item->n, &m, NULL, NULL) == OK && jv_kind(m) == JV_OBJECT)
            handle(s, m);
        mem_free(item);
    }
    socket_put(s);
}

static bool is_ping(const char *data, size_t n)
{
    AUTO(jv) struct jv *m = NULL;
    if (n > 200 || jv_parse(data, n, &m, NULL, NULL) != OK || jv_kind(m) != JV_OBJECT)
        return false;
    return str_eq(jv_get_text(m, "type"), "ping");
}

void socket_message(struct ws *ws, void *ctx, const char *data, size_t n, bool binary)
{
    struct socket *s = ctx;
    struct live *l = s->live;
    if (s->close_code != 0)
        return;
    if (is_ping(data, n)) {
        pthread_mutex_lock(&l->lock);
        s->last_ping = now_us();
        pthread_mutex_unlock(&l->lock);
        if (s->task != 0) {
            char members[64];
            int len = snprintf(members, sizeof(members), "\"task_id\":\"%s\"", s->task_id);
            live_say(s, "pong", members, (size_t)len);
        } else {
            live_say(s, "pong", "", 0);
        }
        return;
    }
    struct inbox_item *item = mem_alloc(sizeof(*item) + n + 1);
    item->n = n;
    memcpy(item->text, data, n);
    pthread_mutex_lock(&l->lock);
    bool room = s->waiting < INBOX_MAX;
    bool start = room && !s->working;
    if (room) {
        *s->last = item;
        s->last = &item->next;
        s->waiting++;
        s->working = true;
    }
    if (start)
        atomic_fetch_add(&s->refs, 1);
    pthread_mutex_unlock(&l->lock);
    if (!room) {
        mem_free(item);
        ws_close(ws, CLOSE_POLICY, "too many messages at once");
    } else if (start && !house_run(l->house, socket_work, s)) {
        ws_close(ws, CLOSE_LATER, "busy");
        socket_put(s);
    }
}
