/* Agents of other hosts: tokens to join with, joining, and the end of a node.
 *
 * What must stay true: a token's text is told once; a node whose jobs may run is neither removed
 * nor declared lost before somebody has seen which jobs that ends. */
#include "surface/native/views.h"
#include "surface/surface.h"

#include "base/str.h"
#include "base/world.h"
#include "fleet/join.h"

#include <stdio.h>
#include <string.h>

/* ---- views ---- */

#define TOKEN_FIELDS                                                                               \
    SAME(struct join_token, "id", id), SAME(struct join_token, "name", name),                      \
        SAME(struct join_token, "prefix", prefix), SAME(struct join_token, "uses", uses),          \
        SAME(struct join_token, "used", used), SAME(struct join_token, "made_by", made_by),        \
        SAME(struct join_token, "created_at", created_at),                                         \
        SAME(struct join_token, "expires_at", expires_at)
VIEW(join_token_view, struct join_token, "JoinToken", &join_token_record, 0, TOKEN_FIELDS);
VIEW(join_token_made_view, struct join_token, "JoinTokenMade", &join_token_record, 0, TOKEN_FIELDS,
     FIELD(struct join_token, "token", token, T_TEXT, .doc = "shown once"));
PAGE_VIEW(join_tokens_view, "JoinTokenList", &join_token_view);

struct token_make {
    const char *name;
    int64_t uses, expires_s;
};
LOCAL_VIEW(token_make_view, struct token_make, "JoinTokenMake", NULL, 0,
           FIELD(struct token_make, "name", name, T_TEXT, .flags = F_NULL, .min = 1,
                 .max = JOIN_NAME_MAX,
                 .doc = "names of nodes that may join with it, such as gpu-*; any when left out"),
           FIELD(struct token_make, "uses", uses, T_INT, .min = 1, .max = JOIN_USES_MAX, .def = "1",
                 .doc = "how many nodes may join with it"),
           FIELD(struct token_make, "expires_s", expires_s, T_INT, .min = 60, .max = 365 * 86400,
                 .def = "86400", .doc = "how long it is good, s"));

struct join_in {
    const char *token, *name, *credential_hash;
};
LOCAL_VIEW(join_in_view, struct join_in, "AgentJoin", NULL, 0,
           FIELD(struct join_in, "token", token, T_TEXT, .flags = F_REQUIRED, .max = 200),
           FIELD(struct join_in, "name", name, T_TEXT, .flags = F_REQUIRED, .max = 255,
                 .doc = "of the node"),
           FIELD(struct join_in, "credential_hash", credential_hash, T_TEXT, .flags = F_REQUIRED,
                 .min = 64, .max = 64,
                 .doc = "SHA-256 of the credential that the agent made, in hexadecimal"));

struct joined {
    struct node node;
    const char *version;
};
LOCAL_VIEW(joined_view, struct joined, "AgentJoined", &node_record, 0,
           SAME(struct joined, "node", node.id), SAME(struct joined, "name", node.name),
           FIELD(struct joined, "version", version, T_TEXT, .doc = "of the server"));

struct token_path {
    int64_t id;
};
LOCAL_VIEW(token_path_view, struct token_path, "JoinTokenId", NULL, 0,
           FIELD(struct token_path, "id", id, T_ID, .flags = F_REQUIRED, .prefix = "jt"));
struct tokens_query {
    int64_t limit;
    const char *cursor;
};
LOCAL_VIEW(tokens_query_view, struct tokens_query, "JoinTokenPage", NULL, 0,
           PAGE_QUERY(struct tokens_query, 1000));

struct node_path {
    int64_t id;
};
LOCAL_VIEW(node_path_view, struct node_path, "AgentNodeId", NULL, 0,
           FIELD(struct node_path, "id", id, T_ID, .flags = F_REQUIRED, .prefix = "n"));
struct remove_query {
    bool force;
};
LOCAL_VIEW(remove_query_view, struct remove_query, "NodeRemove", NULL, 0,
           FIELD(struct remove_query, "force", force, T_BOOL, .def = "false",
                 .doc = "also when jobs run there: they end as lost"));
struct lost_in {
    bool confirm;
};
LOCAL_VIEW(lost_in_view, struct lost_in, "NodeLost", NULL, 0,
           FIELD(struct lost_in, "confirm", confirm, T_BOOL, .def = "false",
                 .doc = "its jobs end as lost; without it the answer says which"));
struct lost_out {
    int64_t node, ended;
};
LOCAL_VIEW(lost_out_view, struct lost_out, "NodeLostDone", NULL, 0,
           FIELD(struct lost_out, "node", node, T_ID, .prefix = "n"),
           FIELD(struct lost_out, "ended_jobs", ended, T_INT));

/* ---- tokens ---- */

static int token_make(struct request *q, struct tx *tx, struct err *e)
{
    const struct token_make *in = q->body;
    struct join_token made;
    char id[ID_TEXT_SIZE];
    int rc = join_token_make(tx, &q->who, in->name, in->uses, in->expires_s * US_PER_S, q->arena,
                             &made, e);
    if (rc != OK)
        return rc;
    q->audit_target = arena_strdup(q->arena, id_text("jt", made.id, id));
    request_header(q, "Cache-Control", "no-store");
    return request_answer(q, 201, &join_token_made_view, &made);
}

static int tokens_list(struct request *q, struct tx *tx, struct err *e)
{
    const struct tokens_query *in = q->query;
    struct native_page out = {0};
    int64_t after = 0;
    if (in->cursor != NULL && !id_parse("jt", in->cursor, &after))
        return native_bad_cursor(e);
    int rc = join_token_list(tx, after, in->limit + 1, q->arena, &out.items, e);
    if (rc != OK)
        return rc;
    if (out.items.n > (size_t)in->limit) {
        char id[ID_TEXT_SIZE];
        const struct join_token *t = out.items.items;
        out.items.n = (size_t)in->limit;
        out.next_cursor = arena_strdup(q->arena, id_text("jt", t[in->limit - 1].id, id));
    }
    return request_answer(q, 200, &join_tokens_view, &out);
}

static int token_delete(struct request *q, struct tx *tx, struct err *e)
{
    const struct token_path *in = q->params;
    int rc = join_token_delete(tx, in->id, e);
    return rc != OK ? rc : request_answer_empty(q, 204);
}

/* ---- joining ---- */

static int join(struct request *q, struct tx *tx, struct err *e)
{
    const struct join_in *in = q->body;
    struct joined out = {.version = DROVER_VERSION};
    struct join j = {in->token, in->name, in->credential_hash};
    char id[ID_TEXT_SIZE];
    if (strspn(in->credential_hash, "0123456789abcdef") != 64)
        return request_invalid(q, e, "credential_hash", "value_error",
                               "64 hexadecimal digits in lower case");
    q->audit_target = arena_strdup(q->arena, in->name);
    int rc = agent_join(tx, &j, q->arena, &out.node, e);
    if (rc != OK)
        return rc;
    q->audit_target = arena_strdup(q->arena, id_text("n", out.node.id, id));
    return request_answer(q, 201, &joined_view, &out);
}

/* ---- the end of a node ---- */

/* "j-3, j-7 and 5 more" */
static const char *name_jobs(const struct list *jobs, struct arena *a)
{
    enum { NAMED = 5 };
    AUTO(buf) struct buf b = {0};
    const struct job *j = jobs->items;
    for (size_t i = 0; i < jobs->n && i < NAMED; i++)
        buf_printf(&b, "%sj-%lld", i > 0 ? ", " : "", (long long)j[i].id);
    if (jobs->n > NAMED)
        buf_printf(&b, " + %zu", jobs->n - NAMED);
    return arena_strdup(a, buf_str(&b));
}

static int node_delete(struct request *q, struct tx *tx, struct err *e)
{
    const struct node_path *in = q->params;
    const struct remove_query *query = q->query;
    struct node n;
    struct list jobs;
    int64_t ended;
    char by[400];
    int rc = node_get(tx, in->id, q->arena, &n, e);
    if (rc == OK)
        rc = jobs_on_node(tx, n.id, q->arena, &jobs, e);
    if (rc != OK)
        return rc;
    if (n.joined_at == 0 && n.state == NODE_ONLINE)
        return err_set(e, ERR_CONFLICT,
                       "%s is the server's own host: turn it off with LOCAL_AGENT=off", n.name);
    if (jobs.n > 0 && !query->force) {
        native_hint(q, "Cancel them first, or remove it with force: they end as lost.");
        return err_set(e, ERR_CONFLICT, "%zu jobs run on %s: %s", jobs.n, n.name,
                       name_jobs(&jobs, q->arena));
    }
    const char *why = arena_printf(q->arena, "removed by %s", principal_text(&q->who, by));
    rc = jobs_node_gone(tx, n.id, principal_text(&q->who, by),
                        arena_printf(q->arena, "its node %s was removed from the fleet", n.name),
                        &ended, e);
    if (rc == OK)
        rc = node_remove(tx, &n, why, e);
    return rc != OK ? rc : request_answer_empty(q, 204);
}

static int node_lost(struct request *q, struct tx *tx, struct err *e)
{
    const struct node_path *in = q->params;
    const struct lost_in *body = q->body;
    struct lost_out out = {.node = in->id};
    struct node n;
    struct list jobs;
    char by[400];
    int rc = node_get(tx, in->id, q->arena, &n, e);
    if (rc == OK)
        rc = jobs_on_node(tx, n.id, q->arena, &jobs, e);
    if (rc != OK)
        return rc;
    if (n.state == NODE_ONLINE)
        return err_set(e, ERR_CONFLICT, "%s answers: it is not lost", n.name);
    if (body == NULL || !body->confirm) {
        native_hint(q, "Confirm only when the host is really off: jobs that still run there would "
                       "run twice.");
        return err_set(e, ERR_CONFLICT, "declaring %s lost ends %zu jobs%s%s", n.name, jobs.n,
                       jobs.n > 0 ? ": " : "", name_jobs(&jobs, q->arena));
    }
    principal_text(&q->who, by);
    rc = jobs_node_gone(tx, n.id, by,
                        arena_printf(q->arena, "its node %s was declared lost", n.name), &out.ended,
                        e);
    if (rc == OK)
        rc = node_set_state(tx, n.id, NODE_DOWN, arena_printf(q->arena, "declared lost by %s", by),
                            e);
    return rc != OK ? rc : request_answer(q, 200, &lost_out_view, &out);
}

/* ---- the table ---- */

static const struct route routes[] = {
    {"POST", "/v1/agents/tokens", "join_token_create",
     "Make a token that lets agents of other hosts join; its text is shown once", ACCESS_ADMIN,
     .body = &token_make_view, .handle = token_make, .answers = {{201, &join_token_made_view}},
     .tag = "agents"},
    {"GET", "/v1/agents/tokens", "join_tokens_list", "Tokens to join with, oldest first",
     ACCESS_ADMIN, .query = &tokens_query_view, .handle = tokens_list,
     .answers = {{200, &join_tokens_view}}, .errors = "400", .tag = "agents"},
    {"DELETE", "/v1/agents/tokens/{id}", "join_token_delete",
     "End a token; nodes that joined with it stay", ACCESS_ADMIN, .params = &token_path_view,
     .handle = token_delete, .answers = {{204}}, .errors = "404", .tag = "agents"},
    {"POST", "/v1/agents/join", "agent_join", "An agent joins with a token", ACCESS_ANYONE,
     .body = &join_in_view, .handle = join, .answers = {{201, &joined_view}},
     .errors = "401 403 409", .tag = "agents"},
    {"DELETE", "/v1/nodes/{id}", "node_delete", "Take a node out of the fleet; its agent ends",
     ACCESS_ADMIN, .params = &node_path_view, .query = &remove_query_view, .handle = node_delete,
     .answers = {{204}}, .errors = "404 409", .tag = "fleet"},
    {"POST", "/v1/nodes/{id}/lost", "node_lost",
     "Declare that a node's host is gone: its jobs end and may run elsewhere", ACCESS_ADMIN,
     .flags = ROUTE_BODY_OPTIONAL, .params = &node_path_view, .body = &lost_in_view,
     .handle = node_lost, .answers = {{200, &lost_out_view}}, .errors = "404 409", .tag = "fleet"},
};

static const struct err_text texts[] = {
    {"64 hexadecimal digits in lower case", "应为 64 位小写十六进制数"},
    {"%s is the server's own host: turn it off with LOCAL_AGENT=off",
     "%s 是服务器所在的主机，请用 LOCAL_AGENT=off 关闭"},
    {"%zu jobs run on %s: %s", "有 %zu 个任务正在 %s 上运行：%s"},
    {"Cancel them first, or remove it with force: they end as lost.",
     "请先取消它们，或以 force 移除：这些任务将按丢失结束。"},
    {"%s answers: it is not lost", "%s 仍在应答，并未丢失"},
    {"declaring %s lost ends %zu jobs%s%s", "宣告 %s 丢失将结束 %zu 个任务%s%s"},
    {"Confirm only when the host is really off: jobs that still run there would run twice.",
     "仅在主机确已停机时确认：仍在其上运行的任务会被重复运行。"},
    {0},
};

const struct module native_agents_module = {
    .name = "native-agents",
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .surface = &native_surface,
    .texts = texts,
};
