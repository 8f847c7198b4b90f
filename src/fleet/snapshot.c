/* Snapshots of the fleet: made from the store and the newest samples.
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

/* ---- making a snapshot ---- */

struct making {
    struct fleet *f;
    struct snapshot_box *box;
};

/* The job that a process belongs to: as its agent says; where that cannot be told, the only holder.
 */
static int64_t job_of(const struct snap_gpu *g, const struct live_process *p)
{
    if (p->dead)
        return 0;
    if (p->attempt == INT_NULL)
        return g->n_holders == 1 && g->holders[0].kind == HOLDER_JOB ? g->holders[0].holder : 0;
    for (size_t i = 0; i < g->n_holders; i++)
        if (g->holders[i].kind == HOLDER_JOB && p->attempt > 0 &&
            g->holders[i].text.attempt == p->attempt)
            return g->holders[i].holder;
    return 0;
}

static int holding(const struct snap_gpu *g, bool foreign)
{
    const struct live_gpu *l = g->live;
    if (l->state == GPU_DRIVER_HUNG)
        return GPU_HUNG;
    if (l->state == GPU_ERROR || g->health == GPU_HEALTH_FAILED)
        return GPU_FAILED;
    if (l->numbers[GPU_MIG] == 1 && l->parent == INT_NULL)
        return GPU_SPLIT;
    return g->n_holders > 0 ? GPU_LEASED : foreign ? GPU_FOREIGN : GPU_FREE;
}

static void fill_live(struct snap_gpu *g, const struct live_gpu *l, int64_t at_us, struct arena *a)
{
    g->live = l;
    g->memory_total_mib = l->memory_total_mib;
    g->memory_used_mib = l->memory_used_mib;
    g->utilization = l->utilization;
    g->memory_utilization = l->memory_utilization;
    g->temperature_c = l->temperature_c;
    g->memory_temperature_c = l->memory_temperature_c;
    g->power_w = l->power_w;
    g->power_limit_w = l->power_limit_w;
    g->note = l->note != NULL ? l->note : g->health_reason;
    g->age_ms = l->age_ms;
    g->at_us = at_us - l->age_ms * US_PER_MS;
    struct snap_process *ps = arena_alloc(a, l->n_processes * sizeof(*ps) + 1);
    bool foreign = l->held;
    for (size_t k = 0; k < l->n_processes; k++) {
        const struct live_process *p = &l->processes[k];
        ps[k] = (struct snap_process){.pid = p->pid,
                                      .memory_mib = p->memory_mib,
                                      .name = p->name,
                                      .job = job_of(g, p),
                                      .sm_percent = p->sm_percent,
                                      .kind = p->kind,
                                      .dead = p->dead,
                                      .user = p->user};
        foreign |= ps[k].job == 0 && p->memory_mib != INT_NULL && p->memory_mib > FOREIGN_MIB;
    }
    g->processes = ps;
    g->n_processes = l->n_processes;
    g->state = holding(g, foreign);
    for (size_t i = 0; i < g->n_holders; i++) {
        struct snap_holder *h = (struct snap_holder *)(uintptr_t)&g->holders[i];
        if (h->declared_mib == INT_NULL && g->memory_total_mib != INT_NULL)
            h->declared_mib = g->memory_total_mib * h->milli / 1000;
    }
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
                              "SELECT gpu_id, holder_kind, holder_id, milli, memory_mib"
                              " FROM gpu_leases"
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
        hs[g->n_holders] = (struct snap_holder){.kind = (enum holder_kind)kind,
                                                .holder = row_int(r, 2),
                                                .milli = row_int(r, 3),
                                                .declared_mib = row_null(r, 4) ? INT_NULL
                                                                               : row_int(r, 4)};
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
                                  .parent = gpu[i].parent,
                                  .health = gpu[i].health,
                                  .health_reason = gpu[i].health_reason,
                                  .age_ms = INT_NULL,
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
        struct live_node *live = NULL;
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
            atomic_fetch_add(&live->refs, 1);
            vec_push(&m->box->lives, live);
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
    for (size_t i = 0; i < b->lives.n; i++)
        live_put(b->lives.items[i]);
    vec_fini(&b->lives);
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
