/* What the live channel tells of GPUs and nodes: read from the fleet's snapshot by the tick, so
 * that a fleet of any size costs what its viewers need and no more.
 *
 * Native gpu_metrics come at most once a second, a slice of 1,000 GPUs at a time (a larger fleet
 * takes several ticks to go round); the documented form comes every 5 s. A node is told when its
 * state changed, else every 5 s at most. */
#include "surface/live_parts.h"

#include "base/json.h"
#include "base/world.h"
#include "identity/identity.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SLICE = 1000, GROUPS_MAX = 512 };
static const int64_t native_us = US_PER_S, documented_us = 5 * US_PER_S, node_us = 5 * US_PER_S,
                     beat_us = 30 * US_PER_S, credentials_us = 5 * US_PER_S;

/* ---- native ---- */

/* The groups of `gpu` that have members: who sees which names differs. */
struct group {
    char key[LIVE_KEY_SIZE];
    struct principal who;
    enum lang lang;
};

static size_t native_groups(struct live *l, struct group *to)
{
    size_t n = 0, at = 0;
    const char *key;
    void *v;
    pthread_mutex_lock(&l->lock);
    while (n < GROUPS_MAX && map_next(&l->topics, &at, &key, &v)) {
        const struct topic *t = v;
        if (t->kind != TOPIC_GPU || !t->native)
            continue;
        snprintf(to[n].key, sizeof(to[n].key), "%s", key);
        to[n].lang = t->lang;
        to[n++].who = t->who;
    }
    pthread_mutex_unlock(&l->lock);
    return n;
}

static bool sees_some(const struct fleet_snapshot *s, const struct principal *who)
{
    for (size_t i = 0; i < s->n_gpus; i++)
        for (size_t k = 0; k < s->gpus[i].n_holders; k++)
            if (principal_sees(who, s->gpus[i].holders[k].text.owner_id))
                return true;
    return false;
}

static void write_slice(struct buf *b, const struct fleet_snapshot *s, size_t from,
                        const struct principal *who)
{
    struct arena a = {0};
    struct json w = json_to(b);
    json_open(&w, '{');
    json_key(&w, "data");
    json_open(&w, '{');
    json_key(&w, "gpus");
    json_open(&w, '[');
    for (size_t i = from; i < s->n_gpus && i < from + SLICE; i++) {
        struct gpu_shown shown;
        gpu_show(&s->gpus[i], who, &a, &shown);
        view_write(&w, &gpu_view, &shown);
    }
    json_close(&w, ']');
    json_close(&w, '}');
    json_close(&w, '}');
    arena_fini(&a);
}

static void tell_native(struct live *l, const struct fleet_snapshot *s, int64_t now)
{
    if (l->gpu_at == 0 && (s->version == l->gpu_version || now - l->gpu_us < native_us))
        return;
    struct arena a = {0};
    struct group *groups = arena_alloc(&a, GROUPS_MAX * sizeof(*groups));
    size_t n = native_groups(l, groups);
    if (n > 0 && s->n_gpus > 0) {
        struct buf nobody[LANG_ZH + 1] = {0}; /* by language */
        if (l->gpu_at >= s->n_gpus)
            l->gpu_at = 0;
        for (size_t i = 0; i < n; i++) {
            AUTO(buf) struct buf own = {0};
            struct buf *b = &nobody[groups[i].lang];
            err_lang_set(groups[i].lang);
            if (sees_some(s, &groups[i].who)) {
                b = &own;
                write_slice(b, s, l->gpu_at, &groups[i].who);
            } else if (b->len == 0) {
                write_slice(b, s, l->gpu_at, NULL); /* the same for all who hold nothing */
            }
            live_publish(l, groups[i].key, "gpu_metrics", b->data + 1, b->len - 2);
        }
        err_lang_set(LANG_EN);
        for (size_t i = 0; i < ARRAY_LEN(nobody); i++)
            buf_fini(&nobody[i]);
    }
    arena_fini(&a);
    l->gpu_at = l->gpu_at + SLICE < s->n_gpus ? l->gpu_at + SLICE : 0;
    if (l->gpu_at == 0) {
        l->gpu_version = s->version;
        l->gpu_us = now;
    }
}

/* ---- documented ---- */

static void int_or_null(struct json *w, const char *key, int64_t v)
{
    if (v == INT_NULL)
        json_knull(w, key);
    else
        json_kint(w, key, v);
}

/* {"timestamp", "gpus", totals}: of all GPUs, or of one. */
static void write_documented(struct buf *b, const struct fleet_snapshot *s, const char *only)
{
    struct json w = json_to(b);
    double usage = 0, used = 0, total = 0;
    size_t n = 0;
    json_open(&w, '{');
    json_key(&w, "data");
    json_open(&w, '{');
    json_ktime(&w, "timestamp", s->at_us);
    json_key(&w, "gpus");
    json_open(&w, '[');
    for (size_t i = 0; i < s->n_gpus; i++) {
        const struct snap_gpu *g = &s->gpus[i];
        if (only != NULL && strcmp(g->id, only) != 0)
            continue;
        json_open(&w, '{');
        json_ktext(&w, "id", g->id);
        json_ktext(&w, "name", g->name);
        int_or_null(&w, "usage", g->utilization);
        int_or_null(&w, "memory_usage", g->memory_used_mib);
        int_or_null(&w, "memory_total", g->memory_total_mib);
        int_or_null(&w, "temperature", g->temperature_c);
        int_or_null(&w, "power_usage", g->power_w);
        json_close(&w, '}');
        if (g->utilization != INT_NULL) {
            usage += (double)g->utilization;
            n++;
        }
        if (g->memory_used_mib != INT_NULL && g->memory_total_mib != INT_NULL) {
            used += (double)g->memory_used_mib;
            total += (double)g->memory_total_mib;
        }
    }
    json_close(&w, ']');
    json_kreal(&w, "total_usage", n > 0 ? usage / (double)n : 0);
    json_kreal(&w, "total_memory_usage", total > 0 ? 100 * used / total : 0);
    json_close(&w, '}');
    json_close(&w, '}');
}

static void tell_documented(struct live *l, const struct fleet_snapshot *s, int64_t now)
{
    if (now - l->gpu_documented_us < documented_us)
        return;
    l->gpu_documented_us = now;
    struct arena a = {0};
    struct texts keys = {.items = arena_alloc(&a, GROUPS_MAX * sizeof(char *))};
    size_t at = 0;
    const char *key;
    void *v;
    pthread_mutex_lock(&l->lock);
    while (keys.n < GROUPS_MAX && map_next(&l->topics, &at, &key, &v))
        if (strncmp(key, "d:gpu", 5) == 0)
            keys.items[keys.n++] = arena_strdup(&a, key);
    pthread_mutex_unlock(&l->lock);
    for (size_t i = 0; i < keys.n; i++) {
        AUTO(buf) struct buf b = {0};
        const char *one = keys.items[i][5] == ':' ? keys.items[i] + 6 : NULL;
        write_documented(&b, s, one);
        live_publish(l, keys.items[i], "gpu_metrics", b.data + 1, b.len - 2);
    }
    arena_fini(&a);
}

/* ---- nodes ---- */

struct told_node {
    int state;
    size_t n_gpus;
    int64_t told_us;
};

static void write_node(struct json *j, void *ctx)
{
    struct node_shown shown;
    node_show(ctx, &shown);
    json_open(j, '{');
    json_key(j, "data");
    view_write(j, &node_view, &shown);
    json_close(j, '}');
}

static void tell_nodes(struct live *l, const struct fleet_snapshot *s, int64_t now)
{
    char key[24];
    pthread_mutex_lock(&l->lock);
    bool wanted = live_topic_wanted(l, "nodes");
    pthread_mutex_unlock(&l->lock);
    for (size_t i = 0; i < s->n_nodes; i++) {
        const struct snap_node *n = &s->nodes[i];
        snprintf(key, sizeof(key), "%lld", (long long)n->node.id);
        struct told_node *told = map_get(&l->node_states, key);
        bool fresh = told == NULL;
        if (fresh) {
            told = mem_alloc(sizeof(*told));
            map_put(&l->node_states, key, told);
        }
        bool changed = fresh || told->state != n->node.state || told->n_gpus != n->n_gpus;
        if (!changed && now - told->told_us < node_us)
            continue;
        *told = (struct told_node){n->node.state, n->n_gpus, now};
        if (!wanted)
            continue;
        static const char *const keys[] = {"nodes"};
        live_publish_told(l, keys, 1, "node_update", write_node, (void *)n);
    }
}

/* ---- the tick ---- */

/* Sockets that were opened with the same credential have the same text. */
static void credential_text(const struct principal *who, char to[160])
{
    snprintf(to, 160, "%d %lld %s %s %lld %lld", (int)who->via, (long long)who->user_id, who->jti,
             who->sid, (long long)who->token_id, (long long)who->generation);
}

/* Closes the sockets of whoever has signed out, lost the account, or been given another role. Each
 * credential is asked about once, outside the lock, because the store may be read for it. */
static void end_unwelcome(struct live *l, int64_t now)
{
    struct map seen = {0};
    char key[160];
    size_t at = 0;
    void *value;
    if (now - l->credentials_us < credentials_us)
        return;
    l->credentials_us = now;
    pthread_mutex_lock(&l->lock);
    for (struct socket *s = l->sockets; s != NULL; s = s->next) {
        credential_text(&s->who, key);
        if (map_get(&seen, key) != NULL)
            continue;
        struct principal *who = mem_alloc(sizeof(*who));
        *who = s->who;
        map_put(&seen, key, who);
    }
    pthread_mutex_unlock(&l->lock);
    while (map_next(&seen, &at, NULL, &value)) {
        struct principal *who = value;
        if (identity_still_holds(l->house, who))
            who->via = VIA_NOBODY; /* nothing against it */
    }
    pthread_mutex_lock(&l->lock);
    for (struct socket *s = l->sockets; s != NULL; s = s->next) {
        credential_text(&s->who, key);
        const struct principal *who = map_get(&seen, key);
        if (who != NULL && who->via != VIA_NOBODY && s->ws != NULL)
            ws_close(s->ws, CLOSE_BAD_TOKEN, "the credential has ended");
    }
    pthread_mutex_unlock(&l->lock);
    at = 0;
    while (map_next(&seen, &at, NULL, &value))
        mem_free(value);
    map_fini(&seen);
}

/* Under no lock: heartbeats of task sockets. */
static void tell_sockets(struct live *l, int64_t now)
{
    if (now - l->beat_us < beat_us)
        return;
    l->beat_us = now;
    char time[TIME_TEXT_SIZE], text[256];
    time_format(now_us(), time);
    pthread_mutex_lock(&l->lock);
    for (struct socket *s = l->sockets; s != NULL; s = s->next) {
        if (s->ws == NULL)
            continue;
        if (s->task != 0) {
            int n = snprintf(text, sizeof(text),
                             "{\"type\":\"heartbeat\",\"timestamp\":\"%s\",\"task_id\":\"%s\","
                             "\"message\":\"alive\"}",
                             time, s->task_id);
            ws_send_text(s->ws, text, (size_t)n);
        }
    }
    pthread_mutex_unlock(&l->lock);
}

void live_fleet_tick(struct live *l)
{
    int64_t now = mono_us();
    AUTO(fleet_snapshot) const struct fleet_snapshot *s = fleet_snapshot_get(l->fleet);
    tell_native(l, s, now);
    tell_documented(l, s, now);
    tell_nodes(l, s, now);
    tell_sockets(l, now);
    end_unwelcome(l, now);
}

void live_fleet_fini(struct live *l)
{
    size_t at = 0;
    void *v;
    while (map_next(&l->node_states, &at, NULL, &v))
        mem_free(v);
    map_fini(&l->node_states);
}
