/* Samples come in: what agents say of their GPUs, kept until the next one comes.
 *
 * What must stay true: everything in a sample is checked against the bounds of gpu.h before it is
 * kept; a sample that snapshots still point into lives as long as they do; the store is written
 * only when a card, its health or an XID is new. */
#include "fleet/fleet_parts.h"

#include "base/log.h"
#include "base/str.h"
#include "base/world.h"

#include <math.h>
#include <string.h>

void live_put(struct live_node *n)
{
    if (atomic_fetch_sub(&n->refs, 1) > 1)
        return;
    arena_fini(&n->arena);
    mem_free(n);
}

static int64_t number(const struct jv *o, const char *name, int64_t least, int64_t most)
{
    double v = jv_get_real(o, name, NAN);
    return isnan(v) || v < (double)least || v > (double)most ? INT_NULL : (int64_t)(v + 0.5);
}

static const char *short_text(const struct jv *o, const char *name, struct arena *a)
{
    const char *s = jv_get_text(o, name);
    return s == NULL || *s == '\0' ? NULL : arena_strndup(a, s, utf8_fit(s, 250));
}

static int state_word(const char *s)
{
    for (int i = GPU_OK; i <= GPU_DRIVER_HUNG; i++)
        if (s != NULL && strcmp(gpu_state_name((enum gpu_state)i), s) == 0)
            return i;
    return GPU_ERROR;
}

static size_t list_len(const struct jv *list, size_t most)
{
    size_t n = jv_kind(list) == JV_LIST ? jv_len(list) : 0;
    return n < most ? n : most;
}

/* Item k of a row of numbers; whatever is no number in bounds is unknown. */
static int64_t item(const struct jv *row, size_t k, int64_t most)
{
    const struct jv *v = k < list_len(row, 16) ? jv_at(row, k) : NULL;
    int64_t n = v != NULL && jv_kind(v) == JV_INT ? jv_int(v) : GPU_UNKNOWN;
    return n < 0 || n > most ? GPU_UNKNOWN : n;
}

static void read_facts(const struct jv *in, struct live_gpu *g, struct arena *a)
{
    const struct {
        const char *key;
        const char **to;
    } texts[] = {{"uuid", &g->uuid},        {"name", &g->name}, {"driver", &g->driver},
                 {"cuda", &g->cuda},        {"note", &g->note}, {"serial", &g->serial},
                 {"vbios", &g->vbios},      {"bus", &g->bus},   {"profile", &g->profile},
                 {"topology", &g->topology}};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        *texts[i].to = short_text(in, texts[i].key, a);
    const struct jv *numbers = jv_get(in, "numbers");
    for (int i = 0; i < GPU_NUMBERS; i++) {
        int64_t v = jv_get_int(numbers, gpu_numbers[i].name, GPU_UNKNOWN);
        g->numbers[i] = v < 0 || v > gpu_numbers[i].most ? GPU_UNKNOWN : v;
    }
    const struct jv *links = jv_get(in, "links"), *xids = jv_get(in, "xids");
    g->n_links = list_len(links, GPU_LINKS_MAX);
    struct gpu_link *l = arena_alloc(a, g->n_links * sizeof(*l) + 1);
    for (size_t i = 0; i < g->n_links; i++) {
        const struct jv *row = jv_at(links, i);
        l[i] = (struct gpu_link){item(row, 0, 1) == 1,    (int)item(row, 1, 99),
                                 item(row, 2, INT64_MAX), item(row, 3, INT64_MAX),
                                 item(row, 4, INT64_MAX), item(row, 5, INT64_MAX)};
    }
    g->links = l;
    size_t n = list_len(xids, GPU_XIDS_MAX);
    struct gpu_xid *x = arena_alloc(a, n * sizeof(*x) + 1);
    for (size_t i = 0; i < n; i++) {
        int64_t code = item(jv_at(xids, i), 0, 99999), at = item(jv_at(xids, i), 1, INT64_MAX);
        /* a time of the node's clock: one from the future would never heal */
        int64_t now = now_us();
        if (code >= 0 && at >= 0)
            x[g->n_xids++] = (struct gpu_xid){(int)code, at < now ? at : now};
    }
    g->xids = x;
}

static void read_live_processes(const struct jv *ps, struct live_gpu *g, struct arena *a)
{
    g->n_processes = list_len(ps, GPU_PROCESSES_MAX);
    struct live_process *p = arena_alloc(a, g->n_processes * sizeof(*p) + 1);
    for (size_t k = 0; k < g->n_processes; k++) {
        const struct jv *in = jv_at(ps, k);
        const char *kind = jv_get_text(in, "kind");
        p[k] = (struct live_process){.pid = jv_get_int(in, "pid", 0),
                                     .memory_mib = number(in, "memory_mib", 0, 1 << 24),
                                     .sm_percent = number(in, "sm_percent", 0, 100),
                                     .attempt = jv_get_int(in, "attempt", INT_NULL),
                                     .name = short_text(in, "name", a),
                                     .user = short_text(in, "user", a),
                                     .kind = kind != NULL && (*kind == 'G' || *kind == 'M') ? *kind
                                                                                            : 'C',
                                     .dead = jv_get_bool(in, "dead", false)};
    }
    g->processes = p;
}

static struct live_node *live_read(int64_t id, const struct jv *sample)
{
    struct live_node *n = mem_alloc(sizeof(*n));
    atomic_init(&n->refs, 1);
    const struct jv *host = jv_get(sample, "host"), *gpus = jv_get(sample, "gpus");
    n->id = id;
    n->at_us = now_us(); /* our clock: the node's may be wrong */
    n->simulated = jv_get_bool(sample, "simulated", false);
    n->cpu_percent = jv_get_real(host, "cpu_percent", NAN);
    n->load1 = jv_get_real(host, "load1", NAN);
    n->memory_total_mib = number(host, "memory_total_mib", 0, INT64_C(1) << 40);
    n->memory_used_mib = number(host, "memory_used_mib", 0, INT64_C(1) << 40);
    n->disk_total_mib = number(host, "disk_total_mib", 0, INT64_C(1) << 44);
    n->disk_used_mib = number(host, "disk_used_mib", 0, INT64_C(1) << 44);
    n->net_rx_bytes = number(host, "net_rx_bytes", 0, INT64_MAX / 2);
    n->net_tx_bytes = number(host, "net_tx_bytes", 0, INT64_MAX / 2);
    size_t count = list_len(gpus, GPU_MAX);
    n->gpus = arena_alloc(&n->arena, count * sizeof(*n->gpus) + 1);
    for (size_t i = 0; i < count; i++) {
        const struct jv *in = jv_at(gpus, i);
        if (jv_kind(in) != JV_OBJECT)
            continue;
        struct live_gpu *g = &n->gpus[n->n_gpus++];
        g->index = number(in, "index", 0, GPU_INDEX_MOST);
        if (g->index == INT_NULL)
            g->index = (int64_t)i;
        g->held = jv_get_bool(in, "held", false);
        g->state = state_word(jv_get_text(in, "state"));
        g->memory_total_mib = number(in, "memory_total_mib", 0, 1 << 24);
        g->memory_used_mib = number(in, "memory_used_mib", 0, 1 << 24);
        g->utilization = number(in, "utilization", 0, 100);
        g->memory_utilization = number(in, "memory_utilization", 0, 100);
        g->temperature_c = number(in, "temperature_c", 0, 200);
        g->memory_temperature_c = number(in, "memory_temperature_c", 0, 200);
        g->power_w = number(in, "power_w", 0, 10000);
        g->power_limit_w = number(in, "power_limit_w", 0, 10000);
        g->ecc_uncorrected = number(in, "ecc_uncorrected", 0, INT64_MAX / 2);
        g->parent = number(in, "parent", 0, GPU_MAX - 1);
        g->age_ms = number(in, "age_ms", 0, INT64_C(1) << 40);
        g->age_ms = g->age_ms == INT_NULL ? 0 : g->age_ms;
        g->health = GPU_HEALTH_UNKNOWN;
        read_facts(in, g, &n->arena);
        read_live_processes(jv_get(in, "processes"), g, &n->arena);
    }
    return n;
}

struct reconcile {
    struct live_node *live;
    bool same, changed;
};

static int reconcile_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct reconcile *r = ctx;
    int rc = r->same ? OK : gpus_reconcile(tx, r->live->id, r->live, &r->changed, e);
    if (rc == OK)
        rc = gpus_settle(tx, r->live->id, r->live, e);
    if (rc == OK)
        rc = tx_exec(tx, "UPDATE nodes SET last_seen = ?1 WHERE id = ?2",
                     ARGS(v_int(now_us()), v_int(r->live->id)), NULL, e);
    return rc;
}

/* True when both name the same cards: then the table needs no look. */
static bool same_cards(const struct live_node *a, const struct live_node *b)
{
    if (a == NULL || !a->known || a->n_gpus != b->n_gpus || a->simulated != b->simulated)
        return false;
    for (size_t i = 0; i < a->n_gpus; i++)
        if (a->gpus[i].index != b->gpus[i].index || !str_eq(a->gpus[i].uuid, b->gpus[i].uuid) ||
            !str_eq(a->gpus[i].name, b->gpus[i].name) ||
            !str_eq(a->gpus[i].driver, b->gpus[i].driver) ||
            a->gpus[i].memory_total_mib != b->gpus[i].memory_total_mib)
            return false;
    return true;
}

static int64_t newest_xid(const struct live_gpu *g)
{
    return g->n_xids > 0 ? g->xids[0].at_us : 0;
}

/* True: nothing happened that the store has to hear of. Takes the known health over. */
static bool same_health(const struct live_node *old, struct live_node *n)
{
    bool same = true;
    for (size_t i = 0; i < n->n_gpus; i++) {
        char reason[GPU_NOTE_SIZE];
        struct live_gpu *g = &n->gpus[i];
        g->health = old->gpus[i].health;
        same = same && newest_xid(g) <= newest_xid(&old->gpus[i]) &&
               (int)live_health(g, g->xids, g->n_xids, reason) == g->health;
    }
    return same;
}

/* Under the fleet's lock. */
static struct live_node *live_find(const struct fleet *f, int64_t node, size_t *at)
{
    for (*at = 0; *at < f->live.n; ++*at)
        if (((struct live_node *)f->live.items[*at])->id == node)
            return f->live.items[*at];
    return NULL;
}

void live_take(struct fleet *f, int64_t node, const struct jv *sample)
{
    struct live_node *n = live_read(node, sample);
    pthread_mutex_lock(&f->lock);
    size_t at;
    struct live_node *old = live_find(f, node, &at);
    bool same = same_cards(old, n), well = same && same_health(old, n);
    pthread_mutex_unlock(&f->lock);
    n->known = same;
    if (!well) {
        struct reconcile r = {n, same, false};
        struct err e = {0};
        n->known = store_tx(house_store(f->house), reconcile_tx, &r, &e) == OK;
        if (!n->known)
            log_warning("fleet", "the GPUs of node %lld: %s", (long long)node, e.text);
    }
    /* looked up again: a node that came back has its old link's worker for a moment, too */
    pthread_mutex_lock(&f->lock);
    old = live_find(f, node, &at);
    if (old != NULL)
        f->live.items[at] = n;
    else
        vec_push(&f->live, n);
    pthread_mutex_unlock(&f->lock);
    if (old != NULL)
        live_put(old);
}

void live_forget(struct fleet *f, int64_t node)
{
    pthread_mutex_lock(&f->make_lock);
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->live.n; i++) {
        struct live_node *n = f->live.items[i];
        if (n->id != node)
            continue;
        f->live.items[i] = f->live.items[--f->live.n];
        live_put(n);
        break;
    }
    pthread_mutex_unlock(&f->lock);
    pthread_mutex_unlock(&f->make_lock);
}
