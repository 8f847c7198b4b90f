/* The native routes of accounts: /v1/session, /v1/sessions, /v1/users.
 *
 * What must stay true: people see and change only themselves, administrators everyone; somebody
 * else's account is not found rather than forbidden; a secret is told once, in the answer that
 * makes it, and that answer must not be stored on the way. */
#include "surface/native/accounts.h"
#include "surface/native/views.h"
#include "surface/surface.h"

#include "base/str.h"
#include "base/world.h"
#include "identity/accounts.h"
#include "identity/sessions.h"

#include <stdio.h>
#include <string.h>

/* ---- views ---- */

#define USER_FIELDS                                                                                \
    SAME(struct user, "id", id), SAME(struct user, "uuid", uuid),                                  \
        SAME(struct user, "email", email), SAME(struct user, "role", role),                        \
        SAME(struct user, "first_name", first_name), SAME(struct user, "last_name", last_name),    \
        SAME(struct user, "nickname", nickname), SAME(struct user, "organization", organization),  \
        SAME(struct user, "is_active", is_active), SAME(struct user, "is_verified", is_verified),  \
        SAME(struct user, "created_at", created_at), SAME(struct user, "last_login", last_login)

VIEW(user_view, struct user, "User", &user_record, 0, USER_FIELDS);
VIEW(user_made_view, struct user, "UserMade", &user_record, 0, USER_FIELDS,
     FIELD(struct user, "password", new_password, T_TEXT, .flags = F_SOMETIMES,
           .doc = "only when it was generated; shown once"));

#define INPUT(wire, m, T, ...) FIELD(struct user_input, wire, m, T, __VA_ARGS__)
#define PROFILE                                                                                    \
    INPUT("first_name", first_name, T_TEXT, .flags = F_NULL, .max = 50),                           \
        INPUT("last_name", last_name, T_TEXT, .flags = F_NULL, .max = 50),                         \
        INPUT("nickname", nickname, T_TEXT, .flags = F_NULL, .max = 50),                           \
        INPUT("organization", organization, T_TEXT, .flags = F_NULL, .max = 100)

VIEW(user_make_view, struct user_input, "UserMake", NULL, VIEW_SEEN,
     INPUT("email", email, T_TEXT, .flags = F_REQUIRED | F_EMAIL, .min = 3, .max = 320),
     INPUT("password", password, T_TEXT, .doc = "generated when it is left out"),
     INPUT("role", role, T_ENUM, .names = role_names, .def = "\"user\""), PROFILE);
VIEW(user_change_view, struct user_input, "UserChange", NULL, VIEW_SEEN,
     INPUT("email", email, T_TEXT, .flags = F_EMAIL, .min = 3, .max = 320),
     INPUT("password", password, T_TEXT),
     INPUT("role", role, T_ENUM, .names = role_names, .doc = "administrators only"), PROFILE,
     INPUT("is_active", is_active, T_BOOL, .doc = "administrators only"),
     INPUT("is_verified", is_verified, T_BOOL, .doc = "administrators only"));

struct credentials {
    const char *email, *password;
};
VIEW(credentials_view, struct credentials, "Credentials", NULL, 0,
     FIELD(struct credentials, "email", email, T_TEXT, .flags = F_REQUIRED),
     FIELD(struct credentials, "password", password, T_TEXT, .flags = F_REQUIRED));
struct refresh {
    const char *refresh_token;
};
VIEW(refresh_view, struct refresh, "Refresh", NULL, 0,
     FIELD(struct refresh, "refresh_token", refresh_token, T_TEXT, .flags = F_REQUIRED));

VIEW(session_view, struct session_made, "Session", NULL, 0,
     FIELD(struct session_made, "access_token", access_token, T_TEXT),
     FIELD(struct session_made, "refresh_token", refresh_token, T_TEXT, .doc = "good for one use"),
     FIELD(struct session_made, "expires_in", expires_in, T_INT,
           .doc = "life of the access token, s"),
     OBJECT(struct session_made, "user", user, &user_view));

struct whoami {
    struct user *user;
    int via, role;
};
VIEW(whoami_view, struct whoami, "WhoAmI", NULL, 0,
     OBJECT(struct whoami, "user", user, &user_view, .flags = F_NULL | F_POINTER),
     FIELD(struct whoami, "via", via, T_ENUM, .names = via_names,
           .doc = "how the request was recognised"),
     FIELD(struct whoami, "role", role, T_ENUM, .names = role_names));

struct ticket {
    const char *ticket;
    int64_t expires_in;
};
VIEW(ticket_view, struct ticket, "Ticket", NULL, 0,
     FIELD(struct ticket, "ticket", ticket, T_TEXT, .doc = "for ?ticket=, good for one connection"),
     FIELD(struct ticket, "expires_in", expires_in, T_INT, .doc = "s"));

VIEW(native_page_query_view, struct native_page_query, "AccountsPage", NULL, 0,
     PAGE_QUERY(struct native_page_query, 1000));
PAGE_VIEW(users_view, "UserList", &user_view);

struct users_query {
    int64_t limit;
    const char *cursor, *q;
    int role, active;
};
static const char *const active_words[] = {"no", "yes", NULL};
VIEW(users_query_view, struct users_query, "UsersQuery", NULL, 0,
     PAGE_QUERY(struct users_query, 1000),
     FIELD(struct users_query, "q", q, T_TEXT, .flags = F_NULL, .max = 320,
           .doc = "part of the e-mail or the name"),
     FIELD(struct users_query, "role", role, T_ENUM, .flags = F_NULL, .names = role_names),
     FIELD(struct users_query, "active", active, T_ENUM, .flags = F_NULL, .names = active_words));

struct session_shown {
    struct session s;
    bool current;
};
VIEW(sign_in_view, struct session_shown, "SignIn", &session_record, 0,
     SAME(struct session_shown, "id", s.id), SAME(struct session_shown, "user_id", s.user_id),
     SAME(struct session_shown, "address", s.address), SAME(struct session_shown, "agent", s.agent),
     SAME(struct session_shown, "created_at", s.created_at),
     SAME(struct session_shown, "used_at", s.used_at),
     SAME(struct session_shown, "expires_at", s.expires_at),
     FIELD(struct session_shown, "current", current, T_BOOL, .doc = "the one that asks"));
PAGE_VIEW(sign_ins_view, "SignInList", &sign_in_view);
struct sign_ins_query {
    int64_t limit;
    const char *cursor;
    int64_t user;
};
VIEW(sign_ins_query_view, struct sign_ins_query, "SignInsQuery", NULL, 0,
     PAGE_QUERY(struct sign_ins_query, 1000),
     FIELD(struct sign_ins_query, "user", user, T_ID, .flags = F_NULL, .prefix = "u",
           .doc = "somebody else's, for administrators"));

VIEW(user_path_view, struct native_id, "UserId", NULL, 0,
     FIELD(struct native_id, "id", id, T_ID, .flags = F_REQUIRED, .prefix = "u"));

VIEW(sign_in_path_view, struct native_id, "SignInId", NULL, 0,
     FIELD(struct native_id, "id", id, T_ID, .flags = F_REQUIRED, .prefix = "s"));

/* ---- helpers ---- */

int native_password_field(struct request *q, struct err *e)
{
    if (strcmp(e->code, "WEAK_PASSWORD") == 0) {
        char reason[ERR_TEXT_MAX];
        snprintf(reason, sizeof(reason), "%s", e->text);
        return request_invalid(q, e, "password", "value_error", "%s", reason);
    }
    return (int)e->kind;
}

int native_page_after(const struct request *q, const char *cursor, int64_t *after, struct err *e)
{
    *after = 0;
    if (cursor != NULL && (!str_int(cursor, after) || *after < 0))
        return native_bad_cursor(e);
    return OK;
}

const char *native_next_cursor(struct request *q, struct list *l, int64_t limit, size_t size)
{
    if ((int64_t)l->n <= limit)
        return NULL;
    l->n = (size_t)limit; /* one more was read, to know that there is one */
    const char *last = (const char *)l->items + (l->n - 1) * size;
    return arena_printf(q->arena, "%lld", (long long)*(const int64_t *)last);
}

_Static_assert(offsetof(struct user, id) == 0 && offsetof(struct session, id) == 0,
               "native_next_cursor() reads the id at the front");

int native_answer_secret(struct request *q, int status, const struct view *v, const void *obj)
{
    request_header(q, "Cache-Control", "no-store");
    q->secret = true;
    return request_answer(q, status, v, obj);
}

static const char *hash_of_body(struct request *q)
{
    return q->prepared;
}

/* ---- sessions ---- */

static int session_prepare(struct request *q, struct err *e)
{
    const struct credentials *c = q->body;
    return sign_in_prepare(q, c->email, c->password, e);
}

static int session_make(struct request *q, struct tx *tx, struct err *e)
{
    struct session_made made;
    int rc = sign_in(tx, q, true, &made, e);
    return rc != OK ? rc : native_answer_secret(q, 200, &session_view, &made);
}

static int session_refresh(struct request *q, struct tx *tx, struct err *e)
{
    const struct refresh *r = q->body;
    struct session_made made;
    (void)tx;
    int rc = session_rotate(q, r->refresh_token, &made, e);
    return rc != OK ? rc : native_answer_secret(q, 200, &session_view, &made);
}

static int session_show(struct request *q, struct tx *tx, struct err *e)
{
    struct user u;
    struct whoami out = {.via = (int)q->who.via, .role = (int)q->who.role};
    if (q->who.user_id != 0) {
        int rc = user_get(tx, q->who.user_id, q->arena, &u, e);
        if (rc != OK)
            return rc;
        out.user = &u;
    }
    return request_answer(q, 200, &whoami_view, &out);
}

static int session_delete(struct request *q, struct tx *tx, struct err *e)
{
    int rc = session_end(tx, q, e);
    return rc != OK ? rc : request_answer_empty(q, 204);
}

static int session_ticket(struct request *q, struct tx *tx, struct err *e)
{
    struct ticket t = {.expires_in = TICKET_S};
    int rc = ticket_make(tx, &q->who, &t.ticket, q->arena, e);
    return rc != OK ? rc : native_answer_secret(q, 200, &ticket_view, &t);
}

static int sign_ins_list(struct request *q, struct tx *tx, struct err *e)
{
    const struct sign_ins_query *in = q->query;
    struct native_page out = {0};
    struct list rows;
    int64_t after, user = in->user != 0 ? in->user : q->who.user_id;
    if (!principal_sees(&q->who, user))
        return err_set(e, ERR_NOT_FOUND, "no such user");
    int rc = native_page_after(q, in->cursor, &after, e);
    if (rc == OK)
        rc = session_list(tx, user, after, in->limit + 1, q->arena, &rows, e);
    if (rc != OK)
        return rc;
    out.next_cursor = native_next_cursor(q, &rows, in->limit, sizeof(struct session));
    struct session_shown *shown = arena_alloc(q->arena, (rows.n + 1) * sizeof(*shown));
    for (size_t i = 0; i < rows.n; i++) {
        shown[i].s = ((const struct session *)rows.items)[i];
        shown[i].current = strcmp(shown[i].s.uuid, q->who.sid) == 0;
    }
    out.items = (struct list){shown, rows.n};
    return request_answer(q, 200, &sign_ins_view, &out);
}

static int sign_in_delete(struct request *q, struct tx *tx, struct err *e)
{
    const struct native_id *path = q->params;
    int rc = sign_in_end(tx, &q->who, path->id, q->arena, e);
    return rc != OK ? rc : request_answer_empty(q, 204);
}

/* ---- users ---- */

static int users_list(struct request *q, struct tx *tx, struct err *e)
{
    const struct users_query *p = q->query;
    struct native_page out = {0};
    struct user_filter f = {
        .text = p->q, .role = p->role, .active = p->active, .limit = p->limit + 1};
    int rc = native_page_after(q, p->cursor, &f.after, e);
    if (rc == OK)
        rc = user_list(tx, &f, q->arena, &out.items, e);
    if (rc != OK)
        return rc;
    out.next_cursor = native_next_cursor(q, &out.items, p->limit, sizeof(struct user));
    return request_answer(q, 200, &users_view, &out);
}

static int user_make_prepare(struct request *q, struct err *e)
{
    struct user_input *in = q->body;
    const char *hash;
    bool generated = in->password == NULL;
    if (generated)
        in->password = password_generate(q->arena);
    if (password_prepare(in->password, in->email, q->arena, &hash, e) != OK)
        return native_password_field(q, e);
    q->prepared = (void *)(uintptr_t)hash;
    return OK;
}

static int user_make(struct request *q, struct tx *tx, struct err *e)
{
    char who[400];
    struct user_input *in = q->body;
    struct user made;
    int rc = user_create(tx, in, hash_of_body(q), (enum role)in->role, principal_text(&q->who, who),
                         q->arena, &made, e);
    if (rc != OK)
        return native_password_field(q, e);
    if (!(user_input_given(&user_make_view, in) & GIVEN_PASSWORD))
        made.new_password = in->password;
    q->audit_target = arena_printf(q->arena, "u-%lld", (long long)made.id);
    return native_answer_secret(q, 201, &user_made_view, &made);
}

/* Oneself, or anyone for an administrator. */
static int visible_user(struct request *q, struct tx *tx, struct user *out, struct err *e)
{
    const struct native_id *path = q->params;
    if (q->route->access == ACCESS_OWNER && !principal_sees(&q->who, path->id))
        return err_set(e, ERR_NOT_FOUND, "no such user");
    return user_get(tx, path->id, q->arena, out, e);
}

static int user_show(struct request *q, struct tx *tx, struct err *e)
{
    struct user u;
    int rc = visible_user(q, tx, &u, e);
    return rc != OK ? rc : request_answer(q, 200, &user_view, &u);
}

static int user_change_prepare(struct request *q, struct err *e)
{
    const struct user_input *in = q->body;
    const char *hash = NULL;
    if (in->password != NULL && password_prepare(in->password, in->email, q->arena, &hash, e) != OK)
        return native_password_field(q, e);
    q->prepared = (void *)(uintptr_t)hash;
    return OK;
}

static int user_change_handle(struct request *q, struct tx *tx, struct err *e)
{
    char who[400];
    struct user u;
    unsigned given = user_input_given(&user_change_view, q->body);
    int rc = visible_user(q, tx, &u, e);
    if (rc == OK)
        rc = user_change_check(&q->who, &u, given, e);
    if (rc == OK)
        rc = user_change(tx, &u, q->body, given, hash_of_body(q), principal_text(&q->who, who),
                         q->arena, e);
    return rc != OK ? native_password_field(q, e) : request_answer(q, 200, &user_view, &u);
}

static int user_delete_handle(struct request *q, struct tx *tx, struct err *e)
{
    struct user u;
    int rc = visible_user(q, tx, &u, e);
    if (rc == OK)
        rc = user_delete(tx, &u, &q->who, q->arena, e);
    return rc != OK ? rc : request_answer_empty(q, 204);
}

/* ---- the table ---- */

static const struct route routes[] = {
    {"POST", "/v1/session", "session_create", "Sign in with e-mail and password", ACCESS_ANYONE,
     .flags = ROUTE_STRICT_LIMIT, .body = &credentials_view, .prepare = session_prepare,
     .handle = session_make, .answers = {{200, &session_view}}, .errors = "401", .tag = "session"},
    {"POST", "/v1/session/refresh", "session_refresh",
     "Exchange a refresh token for a new pair; the old one is dead", ACCESS_ANYONE,
     .flags = ROUTE_STRICT_LIMIT | ROUTE_NO_TX, .body = &refresh_view, .handle = session_refresh,
     .answers = {{200, &session_view}}, .errors = "401", .tag = "session"},
    {"GET", "/v1/session", "session_show", "Who the server takes the caller for", ACCESS_OPEN,
     .handle = session_show, .answers = {{200, &whoami_view}}, .tag = "session"},
    {"DELETE", "/v1/session", "session_delete", "Sign out: ends this session everywhere",
     ACCESS_USER, .handle = session_delete, .answers = {{204}}, .errors = "409", .tag = "session"},
    {"POST", "/v1/session/ticket", "session_ticket",
     "A one-time ticket for a WebSocket or an event stream", ACCESS_USER, .handle = session_ticket,
     .answers = {{200, &ticket_view}}, .tag = "session", .flags = ROUTE_NO_AUDIT},
    {"GET", "/v1/sessions", "sessions_list", "Sign-ins that are alive, oldest first", ACCESS_OWNER,
     .query = &sign_ins_query_view, .handle = sign_ins_list, .answers = {{200, &sign_ins_view}},
     .errors = "400 404", .tag = "session"},
    {"DELETE", "/v1/sessions/{id}", "session_end",
     "End a sign-in: one's own, or any for an administrator", ACCESS_OWNER,
     .params = &sign_in_path_view, .handle = sign_in_delete, .answers = {{204}}, .errors = "404",
     .tag = "session"},
    {"GET", "/v1/users", "users_list", "Accounts, oldest first", ACCESS_ADMIN,
     .query = &users_query_view, .handle = users_list, .answers = {{200, &users_view}},
     .errors = "400", .tag = "users"},
    {"POST", "/v1/users", "user_create", "Make an account", ACCESS_ADMIN, .flags = ROUTE_IDEMPOTENT,
     .body = &user_make_view, .prepare = user_make_prepare, .handle = user_make,
     .answers = {{201, &user_made_view}}, .errors = "409", .tag = "users"},
    {"GET", "/v1/users/{id}", "user_show", "One account: one's own, or any for an administrator",
     ACCESS_OWNER, .flags = ROUTE_ETAG, .params = &user_path_view, .handle = user_show,
     .answers = {{200, &user_view}}, .errors = "404", .tag = "users"},
    {"PATCH", "/v1/users/{id}", "user_change",
     "Change an account: one's own, or any for an administrator", ACCESS_OWNER,
     .params = &user_path_view, .body = &user_change_view, .prepare = user_change_prepare,
     .handle = user_change_handle, .answers = {{200, &user_view}}, .errors = "403 404 409",
     .tag = "users"},
    {"DELETE", "/v1/users/{id}", "user_delete", "Delete an account; its jobs are cancelled",
     ACCESS_ADMIN, .params = &user_path_view, .handle = user_delete_handle, .answers = {{204}},
     .errors = "404 409", .tag = "users"},
};

const struct module native_accounts_module = {
    .name = "native-accounts",
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .surface = &native_surface,
};
