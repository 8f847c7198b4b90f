/* Telling people who are not looking at the screen: mail.
 *
 * A mail is asked for in the transaction of what it is about and waits in the store, so that
 * neither a crash nor a mail server that is away loses it: it is tried again with growing pauses
 * for MAIL_KEEP_S. What it says is made by its kind's write() at each try, inside a transaction:
 * secrets such as reset links are made there and never wait in the store.
 *
 * Without SMTP_URL no mail is sent. While every listener is on loopback (one person's machine)
 * its text then goes to the log instead, so that verification and reset work there as well;
 * elsewhere nothing is queued.
 *
 * Bounds: MAILS_MAX that wait, one a minute for each kind and address, MAIL_THREADS that send.
 *
 * Threads: mail_ask() inside a write transaction; mail_kinds() and mail_may_log() from a module's
 * start; the rest any.
 */
#ifndef NOTIFY_NOTIFY_H
#define NOTIFY_NOTIFY_H

#include "base/err.h"
#include "core/house.h"

extern const struct module notify_module;

enum { MAILS_MAX = 10000, MAIL_KEEP_S = 86400, MAIL_GAP_S = 60, MAIL_THREADS = 2 };

struct mail_ask {
    const char *kind; /* of a registered kind */
    const char *to;   /* lower-case address */
    int lang;         /* enum lang: the reader's */
};
struct mail_text {
    const char *subject, *text; /* live in the arena; subject NULL: there is nothing to say */
};
struct mail_kind {
    const char *name;
    /* Makes the text. May write. The thread's language is the reader's. */
    int (*write)(struct tx *tx, const struct mail_ask *m, struct arena *a, struct mail_text *out,
                 struct err *e);
};
/* Ends with {NULL}; lives for ever. */
void mail_kinds(const struct mail_kind *rows);

/* From a module's start: only this machine reaches this server, so its log may hold mails. */
void mail_may_log(struct house *h);
/* A mail can reach someone: by SMTP, or by the log of a server that only this machine reaches. */
bool mail_works(const struct house *h);
/* By SMTP. */
bool mail_sends(const struct house *h);
/* Asks for a mail; nothing happens (OK) when the same was asked within MAIL_GAP_S, when too many
 * wait, or when mail does not work. Whether the address means anything is looked at later, so
 * the time this takes tells nothing about it. */
int mail_ask(struct tx *tx, const struct mail_ask *m, struct err *e);

/* The address that people use for this server, without a slash at the end: PUBLIC_URL, else the
 * first listener. */
const char *notify_base_url(const struct house *h, struct arena *a);

#endif
