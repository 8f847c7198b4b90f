/* The fleet's start, stop, metrics and readiness. */
#include "fleet/fleet_parts.h"

#include "base/log.h"
#include "base/world.h"
#include "fleet/streams.h"
#include "identity/identity.h"
#include "io/pool.h"

#include <math.h>
#include <string.h>

struct fleet *fleet_of(const struct house *h)
{
    return house_state(h, &fleet_module);
}

static int none_online_tx(struct tx *tx, void *ctx, struct err *e)
{
    return nodes_none_online(tx, e);
}

int fleet_start(struct house *h, void **state, struct err *e)
{
    struct fleet *f = mem_alloc(sizeof(*f));
    f->house = h;
    pthread_mutex_init(&f->lock, NULL);
    pthread_mutex_init(&f->make_lock, NULL);
    f->sample_ms = setting_int(h, "GPU_MONITOR_INTERVAL") * 1000;
    f->silent_s = setting_int(h, "AGENT_SILENT");
    f->pool = pool_create("link", 4, 65536);
    f->streams = streams_create(f);
    *state = f;
    identity_on_agent(agent_of_credential);
    /* nobody has said hello to this process yet */
    int rc = store_tx(house_store(h), none_online_tx, NULL, e);
    if (rc == OK)
        fleet_refresh(f);
    if (rc == OK && f->now == NULL)
        return err_set(e, ERR_INTERNAL, "the first snapshot could not be made");
    return rc;
}

void fleet_stop(struct house *h, void *state)
{
    struct fleet *f = state;
    if (f == NULL)
        return;
    pool_destroy(f->pool);
    streams_destroy(f->streams);
    for (size_t i = 0; i < f->live.n; i++)
        live_put(f->live.items[i]);
    vec_fini(&f->live);
    vec_fini(&f->links);
    if (f->now != NULL)
        fleet_snapshot_put(&f->now->s);
    pthread_mutex_destroy(&f->lock);
    pthread_mutex_destroy(&f->make_lock);
    mem_free(f);
}

void fleet_holder_register(struct fleet *f, enum holder_kind kind, const struct holder_ops *ops)
{
    f->holders[kind] = ops;
}

void fleet_link_ops(struct fleet *f, const struct link_ops *ops, void *ctx)
{
    f->ops_ctx = ctx;
    f->ops = ops;
}

void fleet_on_event(struct house *h, void *state, const struct event *ev)
{
    if (state != NULL)
        fleet_refresh(state);
}

const char *fleet_ready(struct house *h, void *state, struct arena *a)
{
    AUTO(fleet_snapshot) const struct fleet_snapshot *s = fleet_snapshot_get(state);
    for (size_t i = 0; i < s->n_nodes; i++)
        if (s->nodes[i].node.is_local && s->nodes[i].node.state == NODE_ONLINE)
            return s->simulated ? "simulated" : "ok";
    return "degraded: the agent of this host does not answer";
}

static void gauge(struct buf *out, const char *name, const struct snap_gpu *g, int64_t value,
                  int64_t factor)
{
    if (value != INT_NULL)
        buf_printf(out, "%s{server=\"%s\",gpu=\"%s\",name=\"%s\"} %lld\n", name, g->node_name,
                   g->id, g->name, (long long)(value * factor));
}

void fleet_metrics(struct house *h, void *state, struct buf *out)
{
    AUTO(fleet_snapshot) const struct fleet_snapshot *s = fleet_snapshot_get(state);
    static const struct {
        const char *name, *help;
        size_t offset;
        int64_t factor;
    } rows[] = {
        {"gpuplat_gpu_utilization_percent", "Share of time the GPU was busy.",
         offsetof(struct snap_gpu, utilization), 1},
        {"gpuplat_gpu_memory_used_bytes", "Memory in use.",
         offsetof(struct snap_gpu, memory_used_mib), 1 << 20},
        {"gpuplat_gpu_memory_total_bytes", "Memory there is.",
         offsetof(struct snap_gpu, memory_total_mib), 1 << 20},
        {"gpuplat_gpu_temperature_celsius", "Temperature of the GPU.",
         offsetof(struct snap_gpu, temperature_c), 1},
        {"gpuplat_gpu_power_watts", "Power drawn.", offsetof(struct snap_gpu, power_w), 1},
        {"gpuplat_gpu_power_limit_watts", "Power limit.", offsetof(struct snap_gpu, power_limit_w),
         1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        buf_printf(out, "# HELP %s %s\n# TYPE %s gauge\n", rows[i].name, rows[i].help,
                   rows[i].name);
        for (size_t k = 0; k < s->n_gpus; k++)
            gauge(out, rows[i].name, &s->gpus[k],
                  *(const int64_t *)((const char *)&s->gpus[k] + rows[i].offset), rows[i].factor);
    }
    buf_printf(out,
               "# HELP gpuplat_streams_open Shells, forwarded connections and copies now open.\n"
               "# TYPE gpuplat_streams_open gauge\ngpuplat_streams_open %zu\n",
               fleet_streams_open(state));
    /* Only what some GPU tells: a series of nothing but gaps helps nobody. */
    for (int i = 0; i < GPU_NUMBERS; i++) {
        bool any = false;
        for (size_t k = 0; k < s->n_gpus; k++) {
            const struct live_gpu *l = s->gpus[k].live;
            if (l == NULL || l->numbers[i] == GPU_UNKNOWN)
                continue;
            if (!any)
                buf_printf(out, "# HELP drover_gpu_%s %s\n# TYPE drover_gpu_%s gauge\n",
                           gpu_numbers[i].name, gpu_numbers[i].doc, gpu_numbers[i].name);
            any = true;
            AUTO(buf) struct buf name = {0};
            buf_printf(&name, "drover_gpu_%s", gpu_numbers[i].name);
            gauge(out, buf_str(&name), &s->gpus[k], l->numbers[i], 1);
        }
    }
    static const struct {
        const char *name;
        size_t offset;
    } sums[] = {{"ours", offsetof(struct gpu_ledger, ours_mib)},
                {"foreign", offsetof(struct gpu_ledger, foreign_mib)},
                {"dead", offsetof(struct gpu_ledger, dead_mib)},
                {"nobody", offsetof(struct gpu_ledger, nobody_mib)},
                {"driver", offsetof(struct gpu_ledger, driver_mib)},
                {"free", offsetof(struct gpu_ledger, free_mib)}};
    buf_adds(out, "# HELP drover_gpu_memory_bytes Whose the memory is.\n"
                  "# TYPE drover_gpu_memory_bytes gauge\n");
    for (size_t k = 0; k < s->n_gpus; k++) {
        struct gpu_ledger ledger;
        gpu_ledger(&s->gpus[k], NULL, &ledger);
        for (size_t i = 0; ledger.free_mib != INT_NULL && i < ARRAY_LEN(sums); i++)
            buf_printf(
                out, "drover_gpu_memory_bytes{server=\"%s\",gpu=\"%s\",whose=\"%s\"} %lld\n",
                s->gpus[k].node_name, s->gpus[k].id, sums[i].name,
                (long long)(*(const int64_t *)((const char *)&ledger + sums[i].offset) << 20));
    }
    buf_adds(out, "# HELP drover_gpu_health 1 for how well the GPU is.\n"
                  "# TYPE drover_gpu_health gauge\n");
    for (size_t k = 0; k < s->n_gpus; k++)
        for (int w = 0; gpu_health_names[w] != NULL; w++)
            buf_printf(out, "drover_gpu_health{server=\"%s\",gpu=\"%s\",health=\"%s\"} %d\n",
                       s->gpus[k].node_name, s->gpus[k].id, gpu_health_names[w],
                       s->gpus[k].health == w);
    buf_adds(out, "# HELP gpuplat_gpu_state 1 for the state that the GPU is in.\n"
                  "# TYPE gpuplat_gpu_state gauge\n");
    for (size_t k = 0; k < s->n_gpus; k++)
        for (int st = 0; gpu_holding_names[st] != NULL; st++)
            buf_printf(out, "gpuplat_gpu_state{server=\"%s\",gpu=\"%s\",state=\"%s\"} %d\n",
                       s->gpus[k].node_name, s->gpus[k].id, gpu_holding_names[st],
                       s->gpus[k].state == st);
    size_t by_state[NODE_REMOVED] = {0};
    for (size_t i = 0; i < s->n_nodes; i++)
        by_state[s->nodes[i].node.state]++;
    buf_adds(out, "# HELP gpuplat_nodes Nodes by state.\n# TYPE gpuplat_nodes gauge\n");
    for (size_t i = 0; i < NODE_REMOVED; i++)
        buf_printf(out, "gpuplat_nodes{status=\"%s\"} %zu\n", node_state_names[i], by_state[i]);
    for (size_t i = 0; i < s->n_nodes; i++) {
        const struct snap_node *n = &s->nodes[i];
        if (!n->node.is_local)
            continue;
        if (!isnan(n->cpu_percent))
            buf_printf(out,
                       "# HELP gpuplat_host_cpu_percent CPU use of this host.\n"
                       "# TYPE gpuplat_host_cpu_percent gauge\ngpuplat_host_cpu_percent %.1f\n",
                       n->cpu_percent);
        if (n->memory_used_mib != INT_NULL)
            buf_printf(out,
                       "# HELP gpuplat_host_memory_used_bytes Memory in use on this host.\n"
                       "# TYPE gpuplat_host_memory_used_bytes gauge\n"
                       "gpuplat_host_memory_used_bytes %lld\n",
                       (long long)n->memory_used_mib << 20);
        if (n->disk_used_mib != INT_NULL)
            buf_printf(out,
                       "# HELP gpuplat_host_disk_used_bytes Disk in use on this host.\n"
                       "# TYPE gpuplat_host_disk_used_bytes gauge\n"
                       "gpuplat_host_disk_used_bytes %lld\n",
                       (long long)n->disk_used_mib << 20);
        if (n->net_rx_bytes != INT_NULL && n->net_tx_bytes != INT_NULL)
            buf_printf(out,
                       "# HELP gpuplat_host_network_bytes_total Bytes over this host's network.\n"
                       "# TYPE gpuplat_host_network_bytes_total counter\n"
                       "gpuplat_host_network_bytes_total{direction=\"receive\"} %lld\n"
                       "gpuplat_host_network_bytes_total{direction=\"transmit\"} %lld\n",
                       (long long)n->net_rx_bytes, (long long)n->net_tx_bytes);
        break;
    }
}
