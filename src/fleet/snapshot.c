/* Samples come in, snapshots go out.
 *
 * What must stay true: a published snapshot never changes; whoever has one counts on it until it
 * is put back; what two pages show at the same moment comes from the same one. */
#include "fleet/fleet_parts.h"

#include "base/log.h"
#include "base/str.h"
#include "base/world.h"
#include "io/pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- live samples ---- */

void live_destroy(struct live_node *n)
{
    for (size_t i = 0; i < n->n_gpus; i++) {
        struct live_gpu *g = &n->gpus[i];
        mem_free(g->uuid);
        mem_free(g->name);
        mem_free(g->driver);
        mem_free(g->cuda);
        mem_free(g->note);
        for (size_t k = 0; k < g->n_processes; k++)
            mem_free(g->processes[k].name);
    }
    mem_free(n);
}

static int64_t number(const struct jv *o, const char *name, int64_t least, int64_t most)
{
    double v = jv_get_real(o, name, NAN);
    return isnan(v) || v < (double)least || v > (double)most ? INT_NULL : (int64_t)(v + 0.5);
}

static char *short_text(const struct jv *o, const char *name)
{
    const char *s = jv_get_text(o, name);
    return s == NULL || *s == '\0' ? NULL : mem_printf("%.*s", (int)utf8_fit(s, 250), s);
}

static int state_word(const char *s)
{
    for (int i = GPU_OK; i <= GPU_DRIVER_HUNG; i++)
        if (s != NULL && strcmp(gpu_state_name((enum gpu_state)i), s) == 0)
            return i;
    return GPU_ERROR;
}

static struct live_node *live_read(int64_t id, const struct jv *sample)
{
    struct live_node *n = mem_alloc(sizeof(*n));
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
    size_t count = jv_kind(gpus) == JV_LIST ? jv_len(gpus) : 0;
    for (size_t i = 0; i < count && n->n_gpus < GPU_MAX; i++) {
        const struct jv *in = jv_at(gpus, i);
        if (jv_kind(in) != JV_OBJECT)
            continue;
        struct live_gpu *g = &n->gpus[n->n_gpus++];
        g->index = number(in, "index", 0, 4095);
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
        g->uuid = short_text(in, "uuid");
        g->name = short_text(in, "name");
        g->driver = short_text(in, "driver");
        g->cuda = short_text(in, "cuda");
        g->note = short_text(in, "note");
        const struct jv *ps = jv_get(in, "processes");
        size_t m = jv_kind(ps) == JV_LIST ? jv_len(ps) : 0;
        for (size_t k = 0; k < m && g->n_processes < GPU_PROCESSES_MAX; k++) {
            g->processes[g->n_processes].pid = jv_get_int(jv_at(ps, k), "pid", 0);
            g->processes[g->n_processes].memory_mib = number(jv_at(ps, k), "memory_mib", 0,
                                                             1 << 24);
            g->processes[g->n_processes++].name = short_text(jv_at(ps, k), "name");
        }
    }
    return n;
}

struct reconcile {
    const struct live_node *live;
    bool changed;
};

static int reconcile_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct reconcile *r = ctx;
    int rc = gpus_reconcile(tx, r->live->id, r->live, &r->changed, e);
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
    bool same = same_cards(old, n);
    pthread_mutex_unlock(&f->lock);
    n->known = same;
    if (!same) {
        struct reconcile r = {n, false};
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
        live_destroy(old);
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
        live_destroy(n);
        break;
    }
    pthread_mutex_unlock(&f->lock);
    pthread_mutex_unlock(&f->make_lock);
}

/* ---- making a snapshot ---- */

struct making {
    struct fleet *f;
    struct snapshot_box *box;
};

static int64_t only_job(const struct snap_holder *h, size_t n)
{
    return n == 1 && h[0].kind == HOLDER_JOB ? h[0].holder : 0;
}

static void fill_live(struct snap_gpu *g, const struct live_gpu *l, int64_t at_us, struct arena *a)
{
    g->memory_total_mib = l->memory_total_mib;
    g->memory_used_mib = l->memory_used_mib;
    g->utilization = l->utilization;
    g->memory_utilization = l->memory_utilization;
    g->temperature_c = l->temperature_c;
    g->memory_temperature_c = l->memory_temperature_c;
    g->power_w = l->power_w;
    g->power_limit_w = l->power_limit_w;
    g->note = arena_strdup(a, l->note);
    g->at_us = at_us;
    struct snap_process *ps = arena_alloc(a, l->n_processes * sizeof(*ps) + 1);
    bool foreign = l->held && g->n_holders == 0;
    for (size_t k = 0; k < l->n_processes; k++) {
        ps[k] = (struct snap_process){l->processes[k].pid, l->processes[k].memory_mib,
                                      arena_strdup(a, l->processes[k].name),
                                      only_job(g->holders, g->n_holders)};
        foreign |= g->n_holders == 0 && l->processes[k].memory_mib != INT_NULL &&
                   l->processes[k].memory_mib > FOREIGN_MIB;
    }
    g->processes = ps;
    g->n_processes = l->n_processes;
    g->state = l->state == GPU_ERROR         ? GPU_FAILED
               : l->state == GPU_DRIVER_HUNG ? GPU_HUNG
               : g->n_holders > 0            ? GPU_LEASED
               : foreign                     ? GPU_FOREIGN
                                             : GPU_FREE;
}

/* All leases in one read: a fleet of thousands of GPUs must not cost a query each. */
static int read_holders(struct tx *tx, struct fleet *f, struct arena *a, struct snap_gpu *gpus,
                        size_t n_gpus, struct err *e)
{
    enum { HOLDERS_MAX = 1000 }; /* a lease has at least one thousandth */
    struct map by_id = {0};
    for (size_t i = 0; i < n_gpus; i++)
        map_put(&by_id, gpus[i].id, &gpus[i]);
    struct rows *r = tx_query(tx,
                              "SELECT gpu_id, holder_kind, holder_id, milli FROM gpu_leases"
                              " ORDER BY gpu_id, id",
                              NO_ARGS);
    while (rows_next(r)) {
        struct snap_gpu *g = map_get(&by_id, row_text(r, 0));
        int kind = names_find(holder_kind_names, row_text(r, 1));
        if (g == NULL || kind < 0 || g->n_holders == HOLDERS_MAX)
            continue;
        /* grown at powers of two */
        struct snap_holder *hs = (struct snap_holder *)(uintptr_t)g->holders;
        if ((g->n_holders & (g->n_holders - 1)) == 0) {
            struct snap_holder *more = arena_alloc(a, (g->n_holders > 0 ? 2 * g->n_holders : 1) *
                                                          sizeof(*more));
            if (g->n_holders > 0)
                memcpy(more, hs, g->n_holders * sizeof(*more));
            g->holders = hs = more;
        }
        hs[g->n_holders] = (struct snap_holder){
            .kind = (enum holder_kind)kind, .holder = row_int(r, 2), .milli = row_int(r, 3)};
        hs[g->n_holders++].text.progress = NAN;
    }
    int rc = rows_end(r, e);
    map_fini(&by_id);
    for (size_t i = 0; i < n_gpus; i++)
        for (size_t k = 0; rc == OK && k < gpus[i].n_holders; k++) {
            struct snap_holder *h = (struct snap_holder *)(uintptr_t)&gpus[i].holders[k];
            if (f->holders[h->kind] != NULL)
                rc = f->holders[h->kind]->describe(tx, h->holder, a, &h->text, e);
        }
    return rc;
}

static int make_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct making *m = ctx;
    struct fleet *f = m->f;
    struct arena *a = &m->box->arena;
    struct fleet_snapshot *s = &m->box->s;
    struct list nodes, gpus;
    int rc = record_list(tx, &node_record, "WHERE state <> 'removed' ORDER BY id", NO_ARGS, a,
                         &nodes, e);
    if (rc == OK)
        rc = record_list(tx, &gpu_record, "WHERE present = 1 ORDER BY node_id, idx", NO_ARGS, a,
                         &gpus, e);
    if (rc != OK)
        return rc;
    struct snap_node *sn = arena_alloc(a, (nodes.n + 1) * sizeof(*sn));
    struct snap_gpu *sg = arena_alloc(a, (gpus.n + 1) * sizeof(*sg));
    const struct node *node = nodes.items;
    const struct gpu *gpu = gpus.items;
    for (size_t i = 0; i < gpus.n; i++) {
        sg[i] = (struct snap_gpu){.id = gpu[i].id,
                                  .node_id = gpu[i].node_id,
                                  .index = gpu[i].index,
                                  .uuid = gpu[i].uuid,
                                  .name = gpu[i].name,
                                  .type = gpu[i].type,
                                  .memory_total_mib = gpu[i].memory_mib,
                                  .memory_used_mib = INT_NULL,
                                  .utilization = INT_NULL,
                                  .memory_utilization = INT_NULL,
                                  .temperature_c = INT_NULL,
                                  .memory_temperature_c = INT_NULL,
                                  .power_w = INT_NULL,
                                  .power_limit_w = INT_NULL,
                                  .driver = gpu[i].driver,
                                  .cuda = gpu[i].cuda,
                                  .simulated = gpu[i].simulated,
                                  .state = GPU_OFFLINE,
                                  .created_at = gpu[i].created_at,
                                  .at_us = gpu[i].updated_at};
        s->simulated |= gpu[i].simulated;
    }
    rc = read_holders(tx, f, a, sg, gpus.n, e);
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < nodes.n; i++) {
        sn[i] = (struct snap_node){.node = node[i],
                                   .cpu_percent = NAN,
                                   .load1 = NAN,
                                   .memory_used_mib = INT_NULL,
                                   .memory_total_mib = node[i].memory_mib,
                                   .disk_total_mib = INT_NULL,
                                   .disk_used_mib = INT_NULL,
                                   .net_rx_bytes = INT_NULL,
                                   .net_tx_bytes = INT_NULL};
        const struct live_node *live = NULL;
        for (size_t k = 0; k < f->live.n && live == NULL; k++)
            if (((struct live_node *)f->live.items[k])->id == node[i].id)
                live = f->live.items[k];
        if (live != NULL && node[i].state == NODE_ONLINE) {
            sn[i].cpu_percent = live->cpu_percent;
            sn[i].load1 = live->load1;
            sn[i].memory_used_mib = live->memory_used_mib;
            sn[i].memory_total_mib = live->memory_total_mib;
            sn[i].disk_total_mib = live->disk_total_mib;
            sn[i].disk_used_mib = live->disk_used_mib;
            sn[i].net_rx_bytes = live->net_rx_bytes;
            sn[i].net_tx_bytes = live->net_tx_bytes;
            sn[i].node.last_seen = live->at_us;
            if (live->at_us > s->at_us)
                s->at_us = live->at_us;
        }
        for (size_t k = 0; k < gpus.n; k++) {
            if (sg[k].node_id != node[i].id)
                continue;
            sg[k].node_name = node[i].name;
            sn[i].n_gpus++;
            for (size_t l = 0; live != NULL && node[i].state == NODE_ONLINE && l < live->n_gpus;
                 l++)
                if (live->gpus[l].index == sg[k].index)
                    fill_live(&sg[k], &live->gpus[l], live->at_us, a);
        }
    }
    pthread_mutex_unlock(&f->lock);
    s->nodes = sn;
    s->n_nodes = nodes.n;
    s->gpus = sg;
    s->n_gpus = gpus.n;
    if (s->at_us == 0)
        s->at_us = now_us();
    return rc;
}

static void box_put(struct snapshot_box *b)
{
    if (atomic_fetch_sub(&b->refs, 1) > 1)
        return;
    arena_fini(&b->arena);
    mem_free(b);
}

void fleet_refresh(struct fleet *f)
{
    pthread_mutex_lock(&f->make_lock);
    struct making m = {f, mem_alloc(sizeof(*m.box))};
    atomic_init(&m.box->refs, 1);
    struct err e = {0};
    if (store_read(house_store(f->house), make_tx, &m, &e) != OK) {
        log_warning("fleet", "the snapshot stays as it was: %s", e.text);
        box_put(m.box);
        pthread_mutex_unlock(&f->make_lock);
        return;
    }
    pthread_mutex_lock(&f->lock);
    m.box->s.version = ++f->version;
    struct snapshot_box *old = f->now;
    f->now = m.box;
    pthread_mutex_unlock(&f->lock);
    if (old != NULL)
        box_put(old);
    if (f->on_snapshot != NULL)
        f->on_snapshot(f->on_snapshot_ctx, &m.box->s);
    pthread_mutex_unlock(&f->make_lock);
}

const struct fleet_snapshot *fleet_snapshot_get(struct fleet *f)
{
    pthread_mutex_lock(&f->lock);
    struct snapshot_box *b = f->now;
    atomic_fetch_add(&b->refs, 1);
    pthread_mutex_unlock(&f->lock);
    return &b->s;
}

void fleet_snapshot_put(const struct fleet_snapshot *s)
{
    box_put((struct snapshot_box *)(uintptr_t)s);
}

void fleet_on_snapshot(struct fleet *f, void (*fn)(void *ctx, const struct fleet_snapshot *s),
                       void *ctx)
{
    pthread_mutex_lock(&f->make_lock);
    f->on_snapshot = fn;
    f->on_snapshot_ctx = ctx;
    pthread_mutex_unlock(&f->make_lock);
}
