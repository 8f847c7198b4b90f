/* The house: what a running server is made of. Rooms describe themselves in one const struct
 * module; the house migrates, links, starts and stops them in order and gives every room the
 * store, the settings, the bus and the pools.
 *
 * Threads: house_start/stop from main; the getters from any thread afterwards.
 */
#ifndef CORE_HOUSE_H
#define CORE_HOUSE_H

#include "base/err.h"
#include "base/mem.h"
#include "core/record.h"
#include "io/migrate.h"
#include "io/store.h"

struct house;
struct route;
struct surface;
struct event;
struct http_server;

/* ---- settings: environment, then .env, then the default ---- */

enum setting_type { SET_TEXT, SET_INT, SET_BOOL, SET_DURATION_S, SET_LIST, SET_WORD };
struct setting {
    const char *name;    /* "SERVER_PORT" */
    const char *aliases; /* "PORT,API_PORT" or NULL */
    enum setting_type type;
    const char *def; /* text of the default; NULL: unset */
    int64_t min, max;
    const char *words; /* SET_WORD: "trusted|strict|open" */
    bool secret;       /* never printed */
    const char *doc;
};
const char *setting_text(const struct house *h, const char *name); /* NULL when unset */
int64_t setting_int(const struct house *h, const char *name);
bool setting_bool(const struct house *h, const char *name);
struct texts setting_list(const struct house *h, const char *name); /* JSON array or a,b,c */
/* The value was given by someone, not by the default. */
bool setting_given(const struct house *h, const char *name);
/* A value that the command line chooses before house_start(); wins over the environment. */
void setting_override(struct house *h, const char *name, const char *value);
void settings_each(const struct house *h,
                   void (*fn)(const struct setting *s, const char *value, void *ctx), void *ctx);

/* ---- modules ---- */

struct subscription {
    const char *type; /* "job." matches every type that starts so; "" all */
    void (*fn)(struct house *h, void *state, const struct event *ev); /* bus thread; quick */
};
struct duty {
    const char *name;
    int64_t every_ms;
    const char *every_setting; /* a SET_DURATION_S or SET_INT (seconds) instead, or NULL */
    void (*fn)(struct house *h, void *state); /* on the duty pool, one at a time each */
};

struct module {
    const char *name;
    const struct migration *migrations;  /* {0} at the end */
    const struct record *const *records; /* checked at start-up; NULL at the end */
    const struct route *routes;
    size_t n_routes;
    const struct surface *surface; /* envelope of all its routes */
    const struct setting *settings;
    size_t n_settings;
    const struct subscription *subscriptions;
    size_t n_subscriptions;
    const struct duty *duties;
    size_t n_duties;
    const struct err_text *texts;                                   /* Chinese; {0} at the end */
    void (*metrics)(struct house *h, void *state, struct buf *out); /* Prometheus lines */
    /* NULL or "ok", or why not; "degraded: …" does not make the server unready. */
    const char *(*ready)(struct house *h, void *state, struct arena *a);
    const char *ready_name; /* key in /ready's checks */
    int (*start)(struct house *h, void **state, struct err *e);
    void (*stop)(struct house *h, void *state);
};

/* modules: from the lowest room to the highest; NULL at the end. */
int house_create(const struct module *const *modules, struct house **out, struct err *e);
int house_start(struct house *h, struct err *e);
void house_stop(struct house *h); /* modules in reverse order; then the store */
void house_destroy(struct house *h);

/* The state pointer that start() gave; NULL before. */
void *house_state(const struct house *h, const struct module *m);
struct store *house_store(const struct house *h);
struct house *tx_house(const struct tx *tx);
const char *house_data_dir(const struct house *h);
bool house_demo(const struct house *h);
int64_t house_started_at(const struct house *h); /* µs */
bool house_stopping(const struct house *h);
const struct module *const *house_modules(const struct house *h);
/* A worker pool for requests and duties; false when it is full. */
bool house_run(struct house *h, void (*fn)(void *ctx), void *ctx);

#endif
