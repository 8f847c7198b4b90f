/* Creating, changing and deleting accounts. Every surface calls these; they differ only in the
 * words of their answers.
 *
 * Errors have a code: EMAIL_TAKEN and LAST_ADMINISTRATOR (conflict), WEAK_PASSWORD (invalid; the
 * text is the reason).
 *
 * Threads: *_prepare on a worker outside transactions (they hash); the rest inside a write
 * transaction.
 */
#ifndef IDENTITY_ACCOUNTS_H
#define IDENTITY_ACCOUNTS_H

#include "identity/identity.h"

enum {
    GIVEN_EMAIL = 1,
    GIVEN_PASSWORD = 2,
    GIVEN_FIRST_NAME = 4,
    GIVEN_LAST_NAME = 8,
    GIVEN_NICKNAME = 16,
    GIVEN_AVATAR = 32,
    GIVEN_PHONE = 64,
    GIVEN_ORGANIZATION = 128,
    GIVEN_ROLE = 256,
    GIVEN_ACTIVE = 512,
    GIVEN_SUPERUSER = 1024,
    GIVEN_VERIFIED = 2048,
    GIVEN_PRIVILEGES = GIVEN_ROLE | GIVEN_ACTIVE | GIVEN_SUPERUSER | GIVEN_VERIFIED,
};
/* What views of this room's surfaces parse into; they have VIEW_SEEN. */
struct user_input {
    uint64_t seen;
    const char *email, *password;
    const char *first_name, *last_name, *nickname, *avatar, *phone, *organization;
    int role;
    bool is_active, is_superuser, is_verified;
};
/* GIVEN_* of the fields that were sent, whatever order the view has. */
unsigned user_input_given(const struct view *v, const struct user_input *in);

/* OK, or ERR_INVALID WEAK_PASSWORD with the reason. email NULL: not compared. */
int password_rules(const char *password, const char *email, struct err *e);
/* Checks the rules that need no account and hashes; the hash lives in the arena. */
int password_prepare(const char *password, const char *email, struct arena *a, const char **hash,
                     struct err *e);
/* Made of words, such as kite-lamp-orbit-7341. */
const char *password_generate(struct arena *a);

/* Makes an account with in's profile; role decides alone (in->role is not looked at). hash "": no
 * sign-in with a password. */
int user_create(struct tx *tx, const struct user_input *in, const char *hash, enum role role,
                const char *actor, struct arena *a, struct user *out, struct err *e);
/* Changes what is given. hash: of in->password when GIVEN_PASSWORD. A new password, a deactivated
 * account and a lower role end every session of the account; another e-mail is unverified. */
int user_change(struct tx *tx, struct user *u, const struct user_input *in, unsigned given,
                const char *hash, const char *actor, struct arena *a, struct err *e);
/* May this caller change that much of this account? ERR_FORBIDDEN: privileges are an
 * administrator's to give, and a token may not take over the account that made it. */
int user_change_check(const struct principal *who, const struct user *u, unsigned given,
                      struct err *e);
int user_delete(struct tx *tx, const struct user *u, const struct principal *who, struct arena *a,
                struct err *e);
struct user_filter {
    const char *text; /* part of the e-mail or of a name; NULL: any */
    int role;         /* enum role; -1: any */
    int active;       /* 0, 1; -1: any */
    int64_t after;    /* id (cursor) */
    int64_t skip, limit;
};
/* In the order of their ids. */
int user_list(struct tx *tx, const struct user_filter *f, struct arena *a, struct list *out,
              struct err *e);
int user_count(struct tx *tx, const struct user_filter *f, int64_t *out, struct err *e);
/* What who registers by himself becomes: ROLE_ADMIN for the first account when FIRST_USER_IS_ADMIN
 * says so, else ROLE_USER; ERR_FORBIDDEN REGISTER_CLOSED when REGISTRATION does not let him. With
 * tx NULL only what can be said without the store: OK then is not yet a yes. */
int user_register_role(const struct request *q, struct tx *tx, enum role *out, struct err *e);

#endif
