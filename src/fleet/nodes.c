/* Nodes: their rows, their states, and what a hello says about them.
 *
 * What must stay true: a node's state is written here only, with its event in the same
 * transaction; a name is never taken over by another agent's hello. */
#include "fleet/fleet_parts.h"

#include "base/json.h"
#include "base/str.h"
#include "base/world.h"

#include <stdio.h>
#include <string.h>

const char *const node_state_names[] = {"unreachable", "online", "down", "removed", NULL};

RECORD(node_record, struct node, "nodes",
       MEMBER(struct node, id, T_ID, .prefix = "n", .doc = "node id"),
       MEMBER(struct node, name, T_TEXT, .doc = "host name"),
       MEMBER(struct node, state, T_ENUM, .names = node_state_names),
       MEMBER(struct node, state_reason, T_TEXT, .flags = M_NULL | M_TOLD,
              .doc = "one sentence: why it is in this state"),
       MEMBER(struct node, state_since, T_TIME, .flags = M_NULL),
       MEMBER(struct node, is_local, T_BOOL),
       MEMBER(struct node, agent_version, T_TEXT, .flags = M_NULL),
       MEMBER(struct node, boot_id, T_TEXT, .flags = M_NULL),
       MEMBER(struct node, os, T_TEXT, .flags = M_NULL),
       MEMBER(struct node, kernel, T_TEXT, .flags = M_NULL), MEMBER(struct node, cpus, T_INT),
       MEMBER(struct node, memory_mib, T_INT),
       MEMBER(struct node, cgroups, T_TEXT, .flags = M_NULL,
              .doc = "control groups of the kernel: v2, hybrid, v1 or none"),
       MEMBER(struct node, enforces, T_TEXTS, .doc = "limits that this node enforces"),
       MEMBER(struct node, isolation, T_TEXTS, .doc = "what keeps its jobs apart, in force"),
       MEMBER(struct node, gpu_note, T_TEXT, .flags = M_NULL | M_TOLD,
              .doc = "why there are no GPUs, or what is wrong with them"),
       MEMBER(struct node, last_seen, T_TIME, .flags = M_NULL),
       MEMBER(struct node, created_at, T_TIME), MEMBER(struct node, updated_at, T_TIME),
       MEMBER(struct node, joined_at, T_TIME, .flags = M_NULL,
              .doc = "when its agent joined; null: the server's own host"));

int node_event(struct tx *tx, int64_t id, const char *name, const char *type,
               enum severity severity, const char *summary, struct err *e)
{
    char source[ID_TEXT_SIZE];
    struct arena *a = tx_arena(tx);
    struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_ktext(&j, "node", id_text("n", id, source));
    json_ktext(&j, "name", name);
    json_close(&j, '}');
    struct event ev = {.type = type,
                       .source_type = "node",
                       .source_id = source,
                       .severity = severity,
                       .actor = "fleet",
                       .summary = summary,
                       .data = arena_strdup(a, buf_str(&b))};
    buf_fini(&b);
    return event_emit(tx, &ev, e);
}

static const char *hello_text(const struct jv *node, const char *name, struct arena *a)
{
    const char *s = jv_get_text(node, name);
    return s == NULL ? NULL : arena_strndup(a, s, utf8_fit(s, 250));
}

static struct texts hello_words(const struct jv *node, const char *name, struct arena *a)
{
    enum { WORDS_MAX = 16 };
    const struct jv *list = jv_get(node, name);
    size_t n = jv_kind(list) == JV_LIST ? jv_len(list) : 0;
    struct texts out = {.items = arena_alloc(a, (WORDS_MAX + 1) * sizeof(char *))};
    for (size_t i = 0; i < n && i < WORDS_MAX; i++) {
        const char *s = jv_text(jv_at(list, i), NULL);
        if (s != NULL)
            out.items[out.n++] = arena_strndup(a, s, utf8_fit(s, 40));
    }
    return out;
}

/* What one host can have: keeps the sums of the scheduler far from overflow. */
enum { NODE_CPUS_MAX = 1 << 16, NODE_MEMORY_MIB_MAX = 1 << 30 };

static int64_t bounded(const struct jv *node, const char *name, int64_t least, int64_t most)
{
    int64_t v = jv_get_int(node, name, least);
    return v < least ? least : v > most ? most : v;
}

/* The row that a hello is about. An agent that joined is known by its credential. One that comes by
 * the server's own socket is known by its name, as long as no agent of another host has it. */
static int hello_row(struct tx *tx, const char *name, int64_t joined, struct arena *a,
                     struct node *out, struct err *e)
{
    bool found = false;
    struct node n = {0};
    int rc = OK;
    if (joined != 0) {
        rc = record_get(tx, &node_record, "WHERE id = ?1 AND state <> 'removed'",
                        ARGS(v_int(joined)), a, &n, &found, e);
        if (rc == OK && !found)
            rc = err_set(e, ERR_NOT_FOUND, "this node was removed from the fleet");
    } else {
        rc = record_get(tx, &node_record, "WHERE name = ?1", ARGS(v_text(name)), a, &n, &found, e);
        if (rc == OK && found && n.joined_at != 0) {
            name = arena_printf(a, "%s-local", name);
            rc = record_get(tx, &node_record, "WHERE name = ?1 AND joined_at IS NULL",
                            ARGS(v_text(name)), a, &n, &found, e);
        }
        if (rc == OK && !found)
            n = (struct node){.name = name, .created_at = now_us(), .state = NODE_UNREACHABLE};
    }
    if (rc == OK)
        *out = n;
    return rc;
}

int node_hello(struct tx *tx, const struct jv *hello, int64_t joined, int64_t *id, struct err *e)
{
    struct arena *a = tx_arena(tx);
    const struct jv *facts = jv_get(hello, "node");
    const char *name = hello_text(facts, "name", a);
    if (name == NULL || *name == '\0')
        return err_set(e, ERR_INVALID, "the agent's hello lacks the node's name");
    struct node n;
    int rc = hello_row(tx, name, joined, a, &n, e);
    if (rc != OK)
        return rc;
    bool was_online = n.state == NODE_ONLINE;
    const char *boot_id = hello_text(facts, "boot_id", a);
    bool rebooted = n.boot_id != NULL && boot_id != NULL && strcmp(n.boot_id, boot_id) != 0;
    int64_t now = now_us();
    if (!was_online)
        n.state_since = now;
    n.state = NODE_ONLINE;
    n.state_reason = NULL;
    n.is_local = joined == 0;
    n.agent_version = hello_text(hello, "version", a);
    n.boot_id = boot_id;
    n.os = hello_text(facts, "os", a);
    n.kernel = hello_text(facts, "kernel", a);
    n.cpus = bounded(facts, "cpus", 1, NODE_CPUS_MAX);
    n.memory_mib = bounded(facts, "memory_mib", 0, NODE_MEMORY_MIB_MAX);
    n.cgroups = hello_text(facts, "cgroups", a);
    n.gpu_note = hello_text(facts, "gpu_note", a);
    n.enforces = hello_words(facts, "enforces", a);
    n.isolation = hello_words(facts, "isolation", a);
    n.last_seen = n.updated_at = now;
    rc = n.id != 0 ? record_update(tx, &node_record, &n, e)
                   : record_insert(tx, &node_record, &n, &n.id, e);
    if (rc == OK && rebooted)
        rc = node_event(tx, n.id, n.name, "node.rebooted", SEVERITY_WARNING,
                        arena_printf(a, "the host of node %s was restarted", n.name), e);
    if (rc == OK && !was_online)
        rc = node_event(tx, n.id, n.name, "node.online", SEVERITY_INFO,
                        arena_printf(a, "node %s answers", n.name), e);
    if (rc == OK)
        *id = n.id;
    return rc;
}

int node_set_state(struct tx *tx, int64_t id, enum node_state state, const char *why, struct err *e)
{
    static const struct {
        const char *event;
        enum severity severity;
    } told[] = {{"node.unreachable", SEVERITY_WARNING},
                {"node.online", SEVERITY_INFO},
                {"node.down", SEVERITY_ERROR},
                {"node.removed", SEVERITY_INFO}};
    struct arena *a = tx_arena(tx);
    struct node n;
    bool found;
    int rc = record_get(tx, &node_record, "WHERE id = ?1", ARGS(v_int(id)), a, &n, &found, e);
    if (rc != OK || !found || n.state == (int)state || n.state == NODE_REMOVED)
        return rc;
    /* the link of a host that said it goes down ends, too: that is no news */
    if (n.state == NODE_DOWN && state == NODE_UNREACHABLE)
        return OK;
    n.state = state;
    n.state_reason = state == NODE_ONLINE ? NULL : why;
    n.state_since = n.updated_at = now_us();
    rc = record_update(tx, &node_record, &n, e);
    if (rc == OK)
        rc = node_event(tx, id, n.name, told[state].event, told[state].severity,
                        arena_printf(a, "node %s: %s", n.name, why), e);
    return rc;
}

int nodes_none_online(struct tx *tx, struct err *e)
{
    return tx_exec(tx,
                   "UPDATE nodes SET state = 'unreachable', state_since = ?1, updated_at = ?1,"
                   " state_reason = 'the server was started and this node has not come back yet'"
                   " WHERE state = 'online'",
                   ARGS(v_int(now_us())), NULL, e);
}
