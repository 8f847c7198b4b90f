/* drover gpus and drover nodes: the machines, who holds what, and how busy it is. */
#include "cli/context.h"

#include "base/str.h"
#include "base/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ITEMS_MAX = 100000, BAR_CELLS = 8 };

static int list_json_or(struct cli *c, const char *path, struct listing *l, struct client **client,
                        int *code)
{
    struct err e = {0};
    if (client_open(c->server, client, &e) != OK) {
        *code = client_fail(NULL, &e);
        return e.kind;
    }
    if (list_all(*client, path, ITEMS_MAX, l, &e) != OK) {
        *code = client_fail(*client, &e);
        return e.kind;
    }
    *code = EXIT_DONE;
    if (c->json)
        print_listing_json(c, l);
    return OK;
}

/* ---- gpus ---- */

static const struct column gpu_columns[] = {
    {"GPU"},
    {"NODE", .least = 6},
    {"TYPE", .least = 8},
    {"STATE"},
    {"BUSY"},
    {"MEMORY"},
    {"TEMP", .right = true, .optional = true},
    {"WATT", .right = true, .optional = true},
    {"HELD BY", .least = 18},
    {0},
};

static enum hue gpu_hue(const char *state)
{
    if (str_eq(state, "leased"))
        return HUE_BLUE;
    if (str_eq(state, "available"))
        return HUE_GREEN;
    return str_eq(state, "foreign") ? HUE_YELLOW : HUE_RED;
}

/* A bar on a terminal with room for it, the number always. */
static const char *share(struct cli *c, double part, double whole, const char *number)
{
    if (!c->out.tty || c->out.width < 100 || whole <= 0)
        return number;
    return arena_printf(&c->arena, "%s %s", text_bar(&c->arena, part / whole, BAR_CELLS), number);
}

static void add_gpu(struct cli *c, struct table *t, const struct jv *gpu)
{
    struct arena *a = &c->arena;
    struct cell *cell = table_row(t);
    const char *state = jv_get_text(gpu, "state"), *type = jv_get_text(gpu, "type");
    const struct jv *holder = jv_get(gpu, "holder");
    int64_t used = jv_get_int(gpu, "memory_used_mib", -1);
    int64_t total = jv_get_int(gpu, "memory_total_mib", -1);
    double busy = jv_get_real(gpu, "utilization", -1);
    double temp = jv_get_real(gpu, "temperature_c", -1), watt = jv_get_real(gpu, "power_w", -1);
    cell[0].text = jv_get_text(gpu, "id");
    cell[1].text = arena_printf(a, "%s:%" PRId64, text_clean(a, jv_get_text(gpu, "node_name")),
                                jv_get_int(gpu, "index", 0));
    cell[2].text = type != NULL ? type : jv_get_text(gpu, "name");
    cell[3] = (struct cell){state != NULL ? err_tr(state) : NULL, gpu_hue(state)};
    if (busy >= 0)
        cell[4].text = share(c, busy, 100, arena_printf(a, "%3.0f%%", busy));
    if (total > 0)
        cell[5].text = share(
            c, (double)used, (double)total,
            arena_printf(a, "%s/%s", used < 0 ? "?" : text_mib(a, used), text_mib(a, total)));
    if (temp >= 0)
        cell[6].text = arena_printf(a, "%.0f°C", temp);
    if (watt >= 0)
        cell[7].text = arena_printf(a, "%.0f", watt);
    if (jv_kind(holder) == JV_OBJECT)
        cell[8].text = arena_printf(a, "%s %s", text_clean(a, jv_get_text(holder, "id")),
                                    text_clean(a, jv_get_text(holder, "name")));
    else if (!str_eq(state, "available"))
        cell[8].text = jv_get_text(gpu, "note"); /* what keeps it from being used */
}

static int no_gpus(struct cli *c, struct client *client)
{
    AUTO(listing) struct listing nodes = {0};
    struct err e = {0};
    if (list_all(client, "/v1/nodes?", ITEMS_MAX, &nodes, &e) != OK)
        return client_fail(client, &e);
    if (nodes.items.n == 0)
        say(stdout, "No GPUs: no node has reported yet.\n");
    for (size_t i = 0; i < nodes.items.n; i++) {
        const char *note = jv_get_text(nodes.items.items[i], "gpu_note");
        say(stdout, "No GPUs on %s: %s\n",
            text_clean(&c->arena, jv_get_text(nodes.items.items[i], "name")),
            note != NULL ? text_clean(&c->arena, note) : err_tr("it reports none"));
    }
    return EXIT_DONE;
}

static int gpus_run(struct cli *c, const struct parsed *p)
{
    AUTO(client) struct client *client = NULL;
    AUTO(listing) struct listing l = {0};
    int code;
    if (list_json_or(c, "/v1/gpus?", &l, &client, &code) != OK || c->json)
        return code;
    if (l.items.n == 0)
        return no_gpus(c, client);
    struct table t = table_new(&c->arena, gpu_columns);
    bool simulated = false;
    for (size_t i = 0; i < l.items.n; i++) {
        add_gpu(c, &t, l.items.items[i]);
        simulated |= jv_get_bool(l.items.items[i], "simulated", false);
    }
    table_print(stdout, &t, &c->out);
    table_fini(&t);
    if (simulated)
        say(stdout, "These GPUs are simulated.\n");
    return EXIT_DONE;
}

const struct verb verb_gpus = {
    .name = "gpus",
    .summary = "list GPUs: how busy each is and who holds it",
    .run = gpus_run,
};

/* ---- nodes ---- */

static const struct column node_columns[] = {
    {"ID"},
    {"NAME", .least = 6},
    {"STATE"},
    {"GPUS", .right = true},
    {"CPUS", .right = true},
    {"MEMORY"},
    {"AGENT", .optional = true},
    {"SEEN", .right = true, .optional = true},
    {"LIMITS ENFORCED", .least = 6, .optional = true},
    {"NOTE", .least = 8, .optional = true},
    {0},
};

enum hue node_hue(const char *state)
{
    return str_eq(state, "online") ? HUE_GREEN : str_eq(state, "down") ? HUE_RED : HUE_YELLOW;
}

static void add_node(struct cli *c, struct table *t, const struct jv *node)
{
    struct arena *a = &c->arena;
    struct cell *cell = table_row(t);
    const char *state = jv_get_text(node, "state");
    int64_t used = jv_get_int(node, "memory_used_mib", -1);
    int64_t total = jv_get_int(node, "memory_mib", -1);
    int64_t seen = time_of(node, "last_seen");
    double cpu = jv_get_real(node, "cpu_percent", -1);
    const struct jv *enforces = jv_get(node, "enforces");
    cell[0].text = jv_get_text(node, "id");
    cell[1].text = jv_get_text(node, "name");
    cell[2] = (struct cell){state != NULL ? err_tr(state) : NULL, node_hue(state)};
    cell[3].text = arena_printf(a, "%" PRId64, jv_get_int(node, "gpus", 0));
    cell[4].text = cpu >= 0
                       ? arena_printf(a, "%" PRId64 " (%.0f%%)", jv_get_int(node, "cpus", 0), cpu)
                       : arena_printf(a, "%" PRId64, jv_get_int(node, "cpus", 0));
    if (total > 0)
        cell[5].text = arena_printf(a, "%s/%s", used < 0 ? "?" : text_mib(a, used),
                                    text_mib(a, total));
    cell[6].text = jv_get_text(node, "agent_version");
    cell[7].text = seen > 0 ? text_ago(a, now_us() - seen > 0 ? now_us() - seen : 0) : NULL;
    AUTO(buf) struct buf b = {0};
    for (size_t i = 0; i < jv_len(enforces); i++) {
        const char *word = jv_text(jv_at(enforces, i), NULL);
        buf_printf(&b, "%s%s", b.len > 0 ? " " : "", word != NULL ? word : "");
    }
    cell[8].text = arena_strdup(a, buf_str(&b));
    const char *why = jv_get_text(node, "state_reason");
    cell[9].text = why != NULL ? why : jv_get_text(node, "gpu_note");
}

static int nodes_run(struct cli *c, const struct parsed *p)
{
    AUTO(client) struct client *client = NULL;
    AUTO(listing) struct listing l = {0};
    int code;
    if (list_json_or(c, "/v1/nodes?", &l, &client, &code) != OK || c->json)
        return code;
    if (l.items.n == 0) {
        say(stdout, "No node has reported yet. Let a host join: drover agent token\n");
        return EXIT_DONE;
    }
    struct table t = table_new(&c->arena, node_columns);
    for (size_t i = 0; i < l.items.n; i++)
        add_node(c, &t, l.items.items[i]);
    table_print(stdout, &t, &c->out);
    table_fini(&t);
    return EXIT_DONE;
}

const struct verb verb_nodes = {
    .name = "nodes",
    .summary = "list the hosts and whether each is online",
    .run = nodes_run,
};
