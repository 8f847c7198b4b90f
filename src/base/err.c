/* The error channel and the translations of its texts. */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct err_row rows[] = {
    [OK] = {"ok", 200, 0, false},
    [ERR_MALFORMED] = {"malformed", 400, 2, false},
    [ERR_INVALID] = {"invalid", 422, 2, false},
    [ERR_UNAUTHENTICATED] = {"unauthenticated", 401, 4, false},
    [ERR_FORBIDDEN] = {"forbidden", 403, 4, false},
    [ERR_NOT_FOUND] = {"not_found", 404, 1, false},
    [ERR_METHOD] = {"method_not_allowed", 405, 2, false},
    [ERR_UPGRADE] = {"upgrade_required", 426, 2, false},
    [ERR_TIMEOUT] = {"timeout", 408, 1, true},
    [ERR_CONFLICT] = {"conflict", 409, 1, false},
    [ERR_PRECONDITION] = {"precondition_failed", 412, 1, false},
    [ERR_TOO_LARGE] = {"too_large", 413, 2, false},
    [ERR_MEDIA_TYPE] = {"unsupported_media_type", 415, 2, false},
    [ERR_LIMITED] = {"too_many_requests", 429, 1, true},
    [ERR_NO_CAPACITY] = {"no_capacity", 409, 1, false},
    [ERR_UNAVAILABLE] = {"unavailable", 503, 3, true},
    [ERR_UPSTREAM] = {"upstream_failed", 502, 1, true},
    [ERR_UPSTREAM_TIMEOUT] = {"upstream_timeout", 504, 1, true},
    [ERR_SERIALIZATION] = {"serialization", 503, 1, true},
    [ERR_FULL] = {"full", 507, 1, true},
    [ERR_CORRUPT] = {"corrupt", 500, 1, false},
    [ERR_IO] = {"io", 500, 1, true},
    [ERR_INTERNAL] = {"internal", 500, 1, false},
};
_Static_assert(sizeof(rows) / sizeof(rows[0]) == ERR_KINDS, "every error kind needs a row");

const struct err_row *err_row(enum err_kind kind)
{
    if ((unsigned)kind >= ERR_KINDS || rows[kind].name == NULL)
        kind = ERR_INTERNAL;
    return &rows[kind];
}

/* ---- translations: an open-addressing table filled before threads start ---- */

enum { TEXTS_MAX = 4096 };
static const struct err_text *texts[TEXTS_MAX];
static size_t texts_used;
static _Thread_local enum lang thread_lang = LANG_EN;

static size_t text_hash(const char *s)
{
    size_t h = 1469598103934665603ULL;
    for (; *s != '\0'; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211ULL;
    return h;
}

void err_translate_with(const struct err_text *rows_)
{
    for (; rows_->en != NULL; rows_++) {
        size_t i = text_hash(rows_->en) % TEXTS_MAX;
        while (texts[i] != NULL && strcmp(texts[i]->en, rows_->en) != 0)
            i = (i + 1) % TEXTS_MAX;
        if (texts[i] == NULL && ++texts_used > TEXTS_MAX / 2)
            abort(); /* raise TEXTS_MAX: a programming limit, met at start-up only */
        texts[i] = rows_;
    }
}

const char *err_tr(const char *en)
{
    if (thread_lang == LANG_EN)
        return en;
    for (size_t i = text_hash(en) % TEXTS_MAX; texts[i] != NULL; i = (i + 1) % TEXTS_MAX)
        if (strcmp(texts[i]->en, en) == 0)
            return texts[i]->zh;
    return en;
}

void err_texts_each(void (*fn)(const struct err_text *row, void *ctx), void *ctx)
{
    for (size_t i = 0; i < TEXTS_MAX; i++)
        if (texts[i] != NULL)
            fn(texts[i], ctx);
}

void err_lang_set(enum lang lang)
{
    thread_lang = lang;
}

enum lang err_lang(void)
{
    return thread_lang;
}

/* ---- setting ---- */

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the translation of a checked format */
int err_setv(struct err *e, enum err_kind kind, const char *fmt, va_list ap)
{
    if (e == NULL)
        return kind;
    e->kind = kind;
    e->retry_after_s = 0;
    e->code[0] = '\0';
    vsnprintf(e->text, sizeof(e->text), err_tr(fmt), ap);
    return kind;
}
#pragma GCC diagnostic pop

int err_set(struct err *e, enum err_kind kind, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    err_setv(e, kind, fmt, ap);
    va_end(ap);
    return kind;
}

int err_code(struct err *e, enum err_kind kind, const char *code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    err_setv(e, kind, fmt, ap);
    va_end(ap);
    if (e != NULL)
        snprintf(e->code, sizeof(e->code), "%s", code);
    return kind;
}

static enum err_kind kind_of_errno(int number)
{
    switch (number) {
    case ENOENT:
        return ERR_NOT_FOUND;
    case ENOSPC:
    case EDQUOT:
        return ERR_FULL;
    case EACCES:
    case EPERM:
        return ERR_FORBIDDEN;
    case EEXIST:
        return ERR_CONFLICT;
    case EMFILE:
    case ENFILE:
    case EAGAIN:
        return ERR_UNAVAILABLE;
    case ETIMEDOUT:
        return ERR_UPSTREAM_TIMEOUT;
    default:
        return ERR_IO;
    }
}

int err_sys(struct err *e, const char *fmt, ...)
{
    int number = errno;
    enum err_kind kind = kind_of_errno(number);
    va_list ap;
    va_start(ap, fmt);
    err_setv(e, kind, fmt, ap);
    va_end(ap);
    if (e != NULL) {
        size_t used = strlen(e->text);
        snprintf(e->text + used, sizeof(e->text) - used, ": %s", strerror(number));
    }
    return kind;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    if (e == NULL)
        return ERR_INTERNAL;
    struct err front;
    va_list ap;
    va_start(ap, fmt);
    err_setv(&front, e->kind, fmt, ap);
    va_end(ap);
    size_t used = strlen(front.text);
    snprintf(front.text + used, sizeof(front.text) - used, ": %.*s",
             (int)(sizeof(front.text) - used - 3 > 0 ? sizeof(front.text) - used - 3 : 0), e->text);
    memcpy(e->text, front.text, sizeof(e->text));
    return e->kind;
}

void err_clear(struct err *e)
{
    if (e != NULL)
        *e = (struct err){0};
}
