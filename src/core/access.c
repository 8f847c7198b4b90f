/* What a principal may do. */
#include "core/access.h"

#include <stdio.h>

const char *const role_names[] = {"user", "operator", "engineer", "admin", NULL};
const char *const access_names[] = {"denied", "anyone", "user",  "owner", "admin",
                                    "open",   "ops",    "agent", NULL};
const char *const via_names[] = {"nobody",  "session", "token", "unix",
                                 "trusted", "ticket",  "agent", NULL};

bool principal_known(const struct principal *p)
{
    return p->via != VIA_NOBODY;
}

bool principal_is_operator(const struct principal *p)
{
    return p->via != VIA_TOKEN && p->via != VIA_NOBODY && p->via != VIA_AGENT &&
           p->role >= ROLE_OPERATOR;
}

bool principal_is_admin(const struct principal *p)
{
    return p->via != VIA_NOBODY && p->via != VIA_AGENT && p->via != VIA_TOKEN &&
           p->role == ROLE_ADMIN;
}

bool principal_sees(const struct principal *p, int64_t owner)
{
    if (p->via == VIA_NOBODY || p->via == VIA_AGENT)
        return false;
    if (p->user_id != 0 && p->user_id == owner)
        return true;
    /* what the built-in "local" makes belongs to user 0, and only local and administrators see it
     */
    return principal_is_admin(p) || (p->user_id == 0 && owner == 0);
}

const char *principal_text(const struct principal *p, char to[400])
{
    switch (p->via) {
    case VIA_NOBODY:
        snprintf(to, 400, "anonymous");
        break;
    case VIA_AGENT:
        if (p->node_id != 0)
            snprintf(to, 400, "agent:n-%lld", (long long)p->node_id);
        else
            snprintf(to, 400, "agent");
        break;
    default:
        if (p->user_id == 0)
            snprintf(to, 400, "local");
        else
            snprintf(to, 400, "user:%.323s", p->email);
    }
    return to;
}

static int need_credential(struct err *e)
{
    return err_set(e, ERR_UNAUTHENTICATED, "sign in first: no valid credential was sent");
}

int access_check(enum access a, const struct principal *p, unsigned permission, struct err *e)
{
    bool known = principal_known(p);
    if (known && p->via == VIA_AGENT && a != ACCESS_AGENT && a != ACCESS_ANYONE)
        return err_set(e, ERR_FORBIDDEN, "an agent's credential opens only the agent's link");
    switch (a) {
    case ACCESS_ANYONE:
        return OK;
    case ACCESS_USER:
    case ACCESS_OWNER:
        if (!known || p->via == VIA_TRUSTED)
            return need_credential(e);
        return OK;
    case ACCESS_ADMIN:
        if (!known || p->via == VIA_TRUSTED)
            return need_credential(e);
        return principal_is_admin(p) ||
                       (p->via == VIA_TOKEN && p->role == ROLE_ADMIN && p->permissions & MAY_FLEET)
                   ? OK
                   : err_set(e, ERR_FORBIDDEN, "only an administrator may do this");
    case ACCESS_OPEN:
        return known ? OK : need_credential(e);
    case ACCESS_OPS:
        if (!known)
            return need_credential(e);
        if (p->via == VIA_TOKEN)
            return p->permissions & permission
                       ? OK
                       : err_set(e, ERR_FORBIDDEN, "this key does not have the permission");
        return principal_is_operator(p)
                   ? OK
                   : err_set(e, ERR_FORBIDDEN,
                             "only operators, engineers and administrators may "
                             "do this");
    case ACCESS_AGENT:
        if (p->via == VIA_AGENT)
            return OK;
        return known ? err_set(e, ERR_FORBIDDEN, "only an agent may do this") : need_credential(e);
    case ACCESS_DENIED:
        break;
    }
    return err_set(e, ERR_FORBIDDEN, "this route is closed");
}
