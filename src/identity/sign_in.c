/* Comparing a password, and slowing down whoever guesses.
 *
 * What must stay true: unknown address, wrong password and inactive account cost the same time and
 * give the same answer; guessing at one account gets slower from any number of addresses, without
 * ever locking its owner out for more than BACKOFF_MAX_S; the memory for it is fixed. Failures
 * are counted for addresses that no account has as well, else the back-off would tell them apart.
 */
#include "identity/parts.h"

#include "base/str.h"
#include "base/world.h"

#include <ctype.h>
#include <string.h>

enum { FREE_FAILURES = 5, BACKOFF_MAX_S = 60, BACKOFF_FORGET_S = 900, PASSWORD_TRIED_MAX = 1024 };

int bad_login(struct err *e)
{
    return err_code(e, ERR_UNAUTHENTICATED, "LOGIN_BAD_CREDENTIALS",
                    "the e-mail or the password is wrong");
}

/* ---- back-off ---- */

static uint64_t backoff_tag(const struct identity *id, const char *email)
{
    uint8_t mac[SHA256_SIZE];
    uint64_t tag;
    hmac_sha256(id->backoff_key, sizeof(id->backoff_key), email, strlen(email), mac);
    memcpy(&tag, mac, sizeof(tag));
    return tag != 0 ? tag : 1;
}

/* The account's entry, or the one that gives way: the longest unused of its set. */
static struct backoff_entry *backoff_find(struct identity *id, uint64_t tag)
{
    struct backoff_entry *set = id->backoff[tag % BACKOFF_SETS], *oldest = &set[0];
    for (int i = 0; i < BACKOFF_WAYS; i++) {
        if (set[i].tag == tag)
            return &set[i];
        if (set[i].last_at < oldest->last_at)
            oldest = &set[i];
    }
    return oldest;
}

static int backoff_check(struct identity *id, uint64_t tag, struct err *e)
{
    int64_t now = mono_us(), wait_us = 0;
    pthread_mutex_lock(&id->backoff_lock);
    const struct backoff_entry *b = backoff_find(id, tag);
    if (b->tag == tag && b->until > now)
        wait_us = b->until - now;
    pthread_mutex_unlock(&id->backoff_lock);
    if (wait_us == 0)
        return OK;
    int seconds = (int)(wait_us / US_PER_S) + 1;
    err_set(e, ERR_LIMITED, "too many failed sign-ins for this account; try again in %d s",
            seconds);
    e->retry_after_s = seconds;
    return ERR_LIMITED;
}

static void backoff_count(struct identity *id, uint64_t tag, bool failed)
{
    int64_t now = mono_us();
    pthread_mutex_lock(&id->backoff_lock);
    struct backoff_entry *b = backoff_find(id, tag);
    if (!failed) {
        if (b->tag == tag)
            *b = (struct backoff_entry){0};
    } else {
        if (b->tag != tag || now - b->last_at > BACKOFF_FORGET_S * US_PER_S)
            *b = (struct backoff_entry){.tag = tag};
        b->last_at = now;
        b->failures++;
        int over = b->failures - FREE_FAILURES;
        if (over >= 0) {
            int wait_s = over < 6 ? 1 << over : BACKOFF_MAX_S;
            b->until = now + (wait_s < BACKOFF_MAX_S ? wait_s : BACKOFF_MAX_S) * US_PER_S;
        }
    }
    pthread_mutex_unlock(&id->backoff_lock);
}

/* ---- comparing ---- */

struct lookup {
    const char *email;
    struct arena *arena;
    struct user user;
    bool found;
};

static int lookup_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct lookup *l = ctx;
    int rc = user_by_email(tx, l->email, l->arena, &l->user, e);
    l->found = rc == OK;
    return rc == ERR_NOT_FOUND ? OK : rc;
}

int sign_in_prepare(struct request *q, const char *email, const char *password, struct err *e)
{
    struct identity *id = identity_of(q->house);
    char *low = arena_strdup(q->arena, email);
    for (char *c = low; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    uint64_t tag = backoff_tag(id, low);
    int rc = backoff_check(id, tag, e);
    if (rc != OK)
        return rc;
    struct lookup l = {.email = low, .arena = q->arena};
    if ((rc = store_read(house_store(q->house), lookup_tx, &l, e)) != OK)
        return rc;
    bool match = false, tried = strlen(password) <= PASSWORD_TRIED_MAX;
    rc = password_verify(l.found ? l.user.password_hash : NULL, tried ? password : "", &match, e);
    if (rc != OK)
        return rc;
    bool in = match && tried && l.found && l.user.is_active;
    backoff_count(id, tag, !in);
    if (!in) {
        id->refused++;
        /* what was typed is not written down: it may be a password in the wrong field */
        if (l.found)
            q->audit_target = arena_printf(q->arena, "u-%lld", (long long)l.user.id);
        return bad_login(e);
    }
    id->signed_in++;
    q->prepared = arena_memdup(q->arena, &l.user, sizeof(l.user));
    return OK;
}
