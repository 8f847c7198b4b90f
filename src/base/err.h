/* One error channel for the whole program.
 *
 * A function that can fail returns the kind (0 is success) and writes the text into the
 * caller's struct err in the same call. errno stops at the system call: err_sys() turns it
 * into a kind there. Lower rooms return errors and never log them.
 *
 * Texts go to people, so they exist in English and Chinese: the format string is the key of a
 * translation row (see err_translate_with). Codes never change with the language.
 *
 * Threads: a struct err belongs to one caller. The language is per thread.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

enum err_kind {
    OK = 0,
    ERR_MALFORMED, /* cannot be read at all */
    ERR_INVALID,   /* readable, but breaks a rule of one or more fields */
    ERR_UNAUTHENTICATED,
    ERR_FORBIDDEN,
    ERR_NOT_FOUND,
    ERR_METHOD,       /* path known, method not */
    ERR_UPGRADE,      /* path known, only as a WebSocket */
    ERR_TIMEOUT,      /* our own time limit for the request passed */
    ERR_CONFLICT,     /* current state forbids it */
    ERR_PRECONDITION, /* If-Match did not match */
    ERR_TOO_LARGE,
    ERR_MEDIA_TYPE,
    ERR_LIMITED,     /* too many requests of this caller; retry later */
    ERR_NO_CAPACITY, /* the fleet does not have what is asked for */
    ERR_UNAVAILABLE, /* overload or shutting down; retry later */
    ERR_UPSTREAM,    /* someone we depend on failed */
    ERR_UPSTREAM_TIMEOUT,
    ERR_SERIALIZATION, /* transaction must run again; never leaves io/store */
    ERR_FULL,          /* disk or quota of bytes */
    ERR_CORRUPT,       /* stored bytes are not what we wrote */
    ERR_IO,
    ERR_INTERNAL, /* a bug of ours */
    ERR_KINDS
};

enum { ERR_TEXT_MAX = 512, ERR_CODE_MAX = 48 };

struct err {
    enum err_kind kind;
    int retry_after_s;       /* > 0: sent as Retry-After */
    char code[ERR_CODE_MAX]; /* stable machine word such as LOGIN_BAD_CREDENTIALS, or "" */
    char text[ERR_TEXT_MAX]; /* one line for a person, in the thread's language */
};

/* What a kind means on every surface. Complete by a static assertion in err.c. */
struct err_row {
    const char *name; /* "not_found" */
    int http_status;
    int exit_code; /* of the CLI: 1 failed, 2 usage, 3 unreachable, 4 not allowed */
    bool retry;    /* the same call may succeed later */
};
const struct err_row *err_row(enum err_kind kind);

/* Sets kind and text and returns the kind. e may be NULL (the caller wants only the kind). */
int err_set(struct err *e, enum err_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int err_setv(struct err *e, enum err_kind kind, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));
/* The same with a stable machine code. */
int err_code(struct err *e, enum err_kind kind, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* From errno of the call that has just failed; fmt says what was tried. */
int err_sys(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Puts "what: " before the text that is already there. Returns the kind that is there. */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void err_clear(struct err *e);

enum lang { LANG_EN, LANG_ZH };
/* The language in which this thread sets texts. Set per request by core/route. */
void err_lang_set(enum lang lang);
enum lang err_lang(void);

/* A module's texts in Chinese: same conversions in the same order (checked by a test). */
struct err_text {
    const char *en, *zh;
};
/* Adds rows (terminated by {0}); the table must live forever. Call before threads start. */
void err_translate_with(const struct err_text *rows);
/* The text in the thread's language; en itself if no row has it. */
const char *err_tr(const char *en);
/* Adds a text that was made in English and stored, in the thread's language: the row whose format
 * made it is recognised by its words (retell.c). What no row made is added as it is. */
struct buf;
void err_retell(struct buf *to, const char *en);
/* Calls fn for every known row. */
void err_texts_each(void (*fn)(const struct err_text *row, void *ctx), void *ctx);

#endif
