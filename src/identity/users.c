/* Accounts: creating, finding, changing, deleting.
 *
 * What must stay true: an e-mail and a user name belong to one account; there is always an active
 * administrator once there was one; every change leaves an event and is forgotten by the cache in
 * the same commit. */
#include "identity/parts.h"

#include "base/str.h"
#include "core/event.h"

#include <ctype.h>
#include <string.h>

RECORD(user_record, struct user, "users",
       MEMBER(struct user, id, T_ID, .prefix = "u", .doc = "the account"),
       MEMBER(struct user, uuid, T_UUID, .doc = "the account on the documented surfaces"),
       MEMBER(struct user, email, T_TEXT, .min = 3, .max = 320, .doc = "lower-case address"),
       MEMBER(struct user, username, T_TEXT, .doc = "unique name"),
       MEMBER(struct user, password_hash, T_TEXT, .flags = M_SECRET),
       MEMBER(struct user, role, T_ENUM, .names = role_names, .doc = "what the account may do"),
       MEMBER(struct user, is_active, T_BOOL, .doc = "an inactive account cannot sign in"),
       MEMBER(struct user, is_verified, T_BOOL, .doc = "the e-mail was confirmed"),
       MEMBER(struct user, first_name, T_TEXT, .flags = M_NULL, .max = 50, .doc = "given name"),
       MEMBER(struct user, last_name, T_TEXT, .flags = M_NULL, .max = 50, .doc = "family name"),
       MEMBER(struct user, nickname, T_TEXT, .flags = M_NULL, .max = 50, .doc = "name to show"),
       MEMBER(struct user, avatar, T_TEXT, .flags = M_NULL, .max = 500, .doc = "picture's URL"),
       MEMBER(struct user, phone, T_TEXT, .flags = M_NULL, .max = 20, .doc = "telephone"),
       MEMBER(struct user, organization, T_TEXT, .flags = M_NULL, .max = 100,
              .doc = "where the person works; only a text"),
       MEMBER(struct user, compute_us, T_INT), MEMBER(struct user, cost_micro, T_INT),
       MEMBER(struct user, generation, T_INT),
       MEMBER(struct user, created_at, T_TIME, .flags = M_NULL, .doc = "when it was made"),
       MEMBER(struct user, updated_at, T_TIME),
       MEMBER(struct user, last_login, T_TIME, .flags = M_NULL, .doc = "the last sign-in"));

/* ---- finding ---- */

static int get_by(struct tx *tx, const char *tail, struct value key, struct arena *a,
                  struct user *out, struct err *e)
{
    bool found = false;
    struct user u = {0};
    int rc = record_get(tx, &user_record, tail, &key, 1, a, &u, &found, e);
    if (rc == OK && !found)
        return err_set(e, ERR_NOT_FOUND, "no such user");
    if (rc == OK)
        *out = u;
    return rc;
}

int user_get(struct tx *tx, int64_t id, struct arena *a, struct user *out, struct err *e)
{
    return get_by(tx, "WHERE id = ?1", v_int(id), a, out, e);
}

int user_by_uuid(struct tx *tx, const char *uuid, struct arena *a, struct user *out, struct err *e)
{
    return get_by(tx, "WHERE uuid = ?1", v_text(uuid), a, out, e);
}

static const char *lower(const char *s, struct arena *a)
{
    char *low = arena_strdup(a, s);
    for (char *c = low; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    return low;
}

int user_by_email(struct tx *tx, const char *email, struct arena *a, struct user *out,
                  struct err *e)
{
    return get_by(tx, "WHERE email = ?1", v_text(lower(email, a)), a, out, e);
}

/* Ids and addresses first: a user name that looks like one never stands for another account. */
int user_find(struct tx *tx, const char *text, struct arena *a, struct user *out, struct err *e)
{
    int64_t id;
    if (id_parse(user_record.members[0].prefix, text, &id))
        return user_get(tx, id, a, out, e);
    if (uuid_is(text))
        return user_by_uuid(tx, lower(text, a), a, out, e);
    if (strchr(text, '@') != NULL) {
        int rc = user_by_email(tx, text, a, out, e);
        if (rc != ERR_NOT_FOUND)
            return rc;
    }
    return get_by(tx, "WHERE username = ?1", v_text(lower(text, a)), a, out, e);
}

/* A filter that is left out is passed as null or -1: one statement for all. */
#define USER_WHERE                                                                                 \
    "WHERE id > ?1 AND (?2 IS NULL OR role = ?2) AND (?3 < 0 OR is_active = ?3)"                   \
    " AND (?4 IS NULL OR lower(email || ' ' || username || ' ' || coalesce(first_name, '') ||"     \
    " ' ' || coalesce(last_name, '')) LIKE '%' || replace(replace(replace(lower(?4), '!', '!!'),"  \
    " '%', '!%'), '_', '!_') || '%' ESCAPE '!')"
#define USER_ARGS(f)                                                                               \
    v_int((f)->after), v_text((f)->role >= 0 ? role_names[(f)->role] : NULL), v_int((f)->active),  \
        v_text((f)->text)

int user_list(struct tx *tx, const struct user_filter *f, struct arena *a, struct list *out,
              struct err *e)
{
    return record_list(tx, &user_record, USER_WHERE " ORDER BY id LIMIT ?5 OFFSET ?6",
                       ARGS(USER_ARGS(f), v_int(f->limit), v_int(f->skip)), a, out, e);
}

int user_count(struct tx *tx, const struct user_filter *f, int64_t *out, struct err *e)
{
    return tx_int(tx, "SELECT count(*) FROM users " USER_WHERE, ARGS(USER_ARGS(f)), out, NULL, e);
}

/* ---- what must be unique ---- */

static int check_email_free(struct tx *tx, const char *email, int64_t but, struct err *e)
{
    int64_t other;
    bool taken;
    int rc = tx_int(tx, "SELECT id FROM users WHERE email = ?1 AND id <> ?2",
                    ARGS(v_text(email), v_int(but)), &other, &taken, e);
    if (rc == OK && taken)
        return err_code(e, ERR_CONFLICT, "EMAIL_TAKEN", "there is an account with this e-mail");
    return rc;
}

/* The nickname or the e-mail's local part; with a number when someone has that name already. */
static int choose_username(struct tx *tx, const struct user *u, struct arena *a, const char **out,
                           struct err *e)
{
    const char *base = u->nickname != NULL && u->nickname[0] != '\0'
                           ? u->nickname
                           : arena_strndup(a, u->email, strcspn(u->email, "@"));
    base = lower(base, a);
    enum { TRIES = 100 };
    for (int i = 1; i <= TRIES; i++) {
        const char *name = i == 1 ? base : arena_printf(a, "%s-%d", base, i);
        int64_t other;
        bool taken;
        int rc = tx_int(tx, "SELECT id FROM users WHERE username = ?1 AND id <> ?2",
                        ARGS(v_text(name), v_int(u->id)), &other, &taken, e);
        if (rc != OK)
            return rc;
        if (!taken) {
            *out = name;
            return OK;
        }
    }
    *out = arena_printf(a, "%s-%.8s", base, u->uuid);
    return OK;
}

static int check_not_last(struct tx *tx, const struct user *u, struct err *e)
{
    int64_t others;
    if (u->role != ROLE_ADMIN || !u->is_active)
        return OK;
    int rc = tx_int(tx,
                    "SELECT count(*) FROM users WHERE role = 'admin' AND is_active = 1"
                    " AND id <> ?1",
                    ARGS(v_int(u->id)), &others, NULL, e);
    if (rc == OK && others == 0)
        return err_code(e, ERR_CONFLICT, "LAST_ADMINISTRATOR",
                        "this is the last administrator: make another one first");
    return rc;
}

int user_register_role(const struct request *q, struct tx *tx, enum role *out, struct err *e)
{
    const struct identity *id = identity_of(q->house);
    int64_t admins = id->first_is_admin ? 0 : 1;
    if (id->first_is_admin && tx != NULL) {
        int rc = tx_int(tx, "SELECT count(*) FROM users WHERE role = 'admin'", NO_ARGS, &admins,
                        NULL, e);
        if (rc != OK)
            return rc;
    }
    bool open = id->registration == REGISTRATION_OPEN ||
                (id->registration == REGISTRATION_AUTO && came_from_here(id, q));
    if (admins != 0 && !open)
        return err_code(e, ERR_FORBIDDEN, "REGISTER_CLOSED",
                        "registration is closed here; ask an administrator for an account");
    *out = admins == 0 ? ROLE_ADMIN : ROLE_USER;
    return OK;
}

/* ---- input ---- */

static const struct {
    size_t offset;
    unsigned bit;
} input_fields[] = {
    {offsetof(struct user_input, email), GIVEN_EMAIL},
    {offsetof(struct user_input, password), GIVEN_PASSWORD},
    {offsetof(struct user_input, first_name), GIVEN_FIRST_NAME},
    {offsetof(struct user_input, last_name), GIVEN_LAST_NAME},
    {offsetof(struct user_input, nickname), GIVEN_NICKNAME},
    {offsetof(struct user_input, avatar), GIVEN_AVATAR},
    {offsetof(struct user_input, phone), GIVEN_PHONE},
    {offsetof(struct user_input, organization), GIVEN_ORGANIZATION},
    {offsetof(struct user_input, role), GIVEN_ROLE},
    {offsetof(struct user_input, is_active), GIVEN_ACTIVE},
    {offsetof(struct user_input, is_superuser), GIVEN_SUPERUSER},
    {offsetof(struct user_input, is_verified), GIVEN_VERIFIED},
};

unsigned user_input_given(const struct view *v, const struct user_input *in)
{
    unsigned given = 0;
    for (size_t i = 0; i < v->n; i++)
        for (size_t k = 0; (in->seen >> i & 1) && k < ARRAY_LEN(input_fields); k++)
            if (v->fields[i].offset == input_fields[k].offset)
                given |= input_fields[k].bit;
    return given;
}

static void take_profile(struct user *u, const struct user_input *in, unsigned given)
{
    if (given & GIVEN_FIRST_NAME)
        u->first_name = in->first_name;
    if (given & GIVEN_LAST_NAME)
        u->last_name = in->last_name;
    if (given & GIVEN_NICKNAME)
        u->nickname = in->nickname;
    if (given & GIVEN_AVATAR)
        u->avatar = in->avatar;
    if (given & GIVEN_PHONE)
        u->phone = in->phone;
    if (given & GIVEN_ORGANIZATION)
        u->organization = in->organization;
}

/* ---- changing ---- */

static int tell(struct tx *tx, const char *type, const struct user *u, const char *actor,
                const char *what, struct arena *a, struct err *e)
{
    char id[ID_TEXT_SIZE];
    AUTO(buf) struct buf data = {0};
    struct json j = json_to(&data);
    json_open(&j, '{');
    json_ktext(&j, "email", u->email);
    json_ktext(&j, "role", role_names[u->role]);
    json_kbool(&j, "is_active", u->is_active);
    json_close(&j, '}');
    struct event ev = {
        .type = type,
        .source_type = "user",
        .source_id = id_text("u", u->id, id),
        .owner = u->id,
        .severity = SEVERITY_INFO,
        .actor = actor,
        .summary = arena_printf(a, "account %s %s", u->email, what),
        .data = buf_str(&data),
    };
    return event_emit(tx, &ev, e);
}

int user_create(struct tx *tx, const struct user_input *in, const char *hash, enum role role,
                const char *actor, struct arena *a, struct user *out, struct err *e)
{
    char uuid[UUID_TEXT_SIZE];
    struct user u = {
        .uuid = arena_strdup(a, uuid_v4(uuid)),
        .email = lower(in->email, a),
        .password_hash = hash,
        .role = (int)role,
        .is_active = true,
        .generation = 1,
        .created_at = now_us(),
        .updated_at = now_us(),
    };
    take_profile(&u, in, ~0U);
    int rc = check_email_free(tx, u.email, 0, e);
    if (rc == OK)
        rc = choose_username(tx, &u, a, &u.username, e);
    if (rc == OK)
        rc = record_insert(tx, &user_record, &u, &u.id, e);
    if (rc == OK)
        rc = tell(tx, "user.created", &u, actor, "was made", a, e);
    if (rc == OK)
        *out = u;
    return rc;
}

static enum role wanted_role(const struct user *u, const struct user_input *in, unsigned given)
{
    if (given & GIVEN_ROLE)
        return (enum role)in->role;
    if ((given & GIVEN_SUPERUSER) && in->is_superuser)
        return ROLE_ADMIN;
    if ((given & GIVEN_SUPERUSER) && u->role == ROLE_ADMIN)
        return ROLE_USER;
    return (enum role)u->role;
}

int user_change(struct tx *tx, struct user *u, const struct user_input *in, unsigned given,
                const char *hash, const char *actor, struct arena *a, struct err *e)
{
    struct user was = *u, now = *u;
    int rc = OK;
    take_profile(&now, in, given);
    if (given & GIVEN_EMAIL)
        now.email = lower(in->email, a);
    bool moved = strcmp(now.email, was.email) != 0;
    if (moved)
        now.is_verified = false;
    if (given & GIVEN_VERIFIED)
        now.is_verified = in->is_verified;
    if (given & GIVEN_ACTIVE)
        now.is_active = in->is_active;
    now.role = (int)wanted_role(u, in, given);
    if (given & GIVEN_PASSWORD)
        now.password_hash = hash;
    bool ends = (given & GIVEN_PASSWORD) || (was.is_active && !now.is_active);
    if (ends)
        now.generation++;
    now.updated_at = now_us();

    if (moved)
        rc = check_email_free(tx, now.email, now.id, e);
    if (rc == OK && (given & GIVEN_PASSWORD))
        rc = password_rules(in->password, now.email, e);
    if (rc == OK && (now.role != ROLE_ADMIN || !now.is_active))
        rc = check_not_last(tx, &was, e);
    if (rc == OK && (moved || (given & GIVEN_NICKNAME)))
        rc = choose_username(tx, &now, a, &now.username, e);
    if (rc == OK)
        rc = record_update(tx, &user_record, &now, e);
    if (rc == OK && ends)
        rc = sessions_end_all(tx, now.id, e);
    if (rc == OK && (ends || moved))
        rc = links_delete_all(tx, now.id, e);
    if (rc == OK)
        rc = tell(tx, "user.updated", &now, actor, "was changed", a, e);
    if (rc == OK) {
        cache_forget_user(tx, now.uuid);
        *u = now;
    }
    return rc;
}

int user_change_check(const struct principal *who, const struct user *u, unsigned given,
                      struct err *e)
{
    if ((given & GIVEN_PRIVILEGES) && !principal_is_admin(who))
        return err_set(e, ERR_FORBIDDEN, "only an administrator may do this");
    if (who->via == VIA_TOKEN && who->user_id == u->id && (given & (GIVEN_EMAIL | GIVEN_PASSWORD)))
        return err_set(e, ERR_FORBIDDEN,
                       "a token cannot change the e-mail or password of its account; sign in");
    return OK;
}

/* ---- deleting ---- */

static user_delete_fn *delete_hooks[DELETE_HOOKS_MAX];
static size_t n_delete_hooks;

void identity_on_delete(user_delete_fn *fn)
{
    for (size_t i = 0; i < n_delete_hooks; i++)
        if (delete_hooks[i] == fn)
            return; /* a second house in one process: tests */
    if (n_delete_hooks < DELETE_HOOKS_MAX)
        delete_hooks[n_delete_hooks++] = fn;
}

int user_delete(struct tx *tx, const struct user *u, const struct principal *who, struct arena *a,
                struct err *e)
{
    char actor[400];
    int rc = check_not_last(tx, u, e);
    for (size_t i = 0; i < n_delete_hooks && rc == OK; i++)
        rc = delete_hooks[i](tx, u->id, who, e);
    if (rc == OK)
        rc = service_tokens_delete_all(tx, u->id, e);
    if (rc == OK)
        rc = secrets_delete_all(tx, u->id, e);
    if (rc == OK)
        rc = links_delete_all(tx, u->id, e);
    static const char *const rows[] = {
        "DELETE FROM sessions WHERE user_id = ?1",
        "DELETE FROM users WHERE id = ?1",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows) && rc == OK; i++)
        rc = tx_exec(tx, rows[i], ARGS(v_int(u->id)), NULL, e);
    if (rc == OK)
        rc = tell(tx, "user.deleted", u, principal_text(who, actor), "was deleted", a, e);
    if (rc == OK)
        cache_forget_user(tx, u->uuid);
    return rc;
}
