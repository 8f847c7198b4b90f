/* Building, starting and stopping a house, and its duties. */
#include "core/house_parts.h"

#include "base/log.h"
#include "base/str.h"
#include "base/world.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int house_create(const struct module *const *modules, struct house **out, struct err *e)
{
    struct house *h = mem_alloc(sizeof(*h));
    h->modules = modules;
    pthread_mutex_init(&h->duty_lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&h->duty_wake, &attr);
    pthread_condattr_destroy(&attr);
    h->started_at = now_us();
    err_translate_with(store_texts);
    err_translate_with(core_texts);
    for (size_t i = 0; modules[i] != NULL; i++) {
        if (i >= MODULES_MAX) {
            house_destroy(h);
            return err_set(e, ERR_INTERNAL, "more than %d modules", MODULES_MAX);
        }
        if (modules[i]->texts != NULL)
            err_translate_with(modules[i]->texts);
    }
    settings_collect(h);
    *out = h;
    return OK;
}

/* ---- duties: one thread counts the time, the pool does the work ---- */

static void duty_work(void *ctx)
{
    struct duty_run *d = ctx;
    d->duty->fn(d->house, d->house->states[d->module]);
    pthread_mutex_lock(&d->house->duty_lock);
    atomic_store(&d->busy, false);
    pthread_cond_broadcast(&d->house->duty_wake);
    pthread_mutex_unlock(&d->house->duty_lock);
}

/* After the thread that starts them has ended: modules must not stop under a duty that runs. */
static void duties_wait(struct house *h)
{
    pthread_mutex_lock(&h->duty_lock);
    for (size_t i = 0; i < h->n_duties; i++)
        while (atomic_load(&h->duties[i].busy))
            pthread_cond_wait(&h->duty_wake, &h->duty_lock);
    pthread_mutex_unlock(&h->duty_lock);
}

static void *duty_main(void *ctx)
{
    struct house *h = ctx;
    pthread_mutex_lock(&h->duty_lock);
    while (!atomic_load(&h->stopping)) {
        int64_t now = mono_us(), next = now + 1000 * US_PER_MS;
        for (size_t i = 0; i < h->n_duties; i++) {
            struct duty_run *d = &h->duties[i];
            if (now >= d->next_us) {
                /* one that is still busy is not started again: it is late, not doubled */
                if (!atomic_exchange(&d->busy, true) && !pool_run(h->pool, duty_work, d))
                    atomic_store(&d->busy, false);
                d->next_us = now + d->every_us;
            }
            if (d->next_us < next)
                next = d->next_us;
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        int64_t wait = next - now > 1000 ? next - now : 1000;
        int64_t ns = until.tv_nsec + wait % US_PER_S * 1000;
        until.tv_sec += wait / US_PER_S + ns / 1000000000;
        until.tv_nsec = ns % 1000000000;
        pthread_cond_timedwait(&h->duty_wake, &h->duty_lock, &until);
    }
    pthread_mutex_unlock(&h->duty_lock);
    return NULL;
}

static void duties_start(struct house *h)
{
    size_t n = 0;
    for (size_t i = 0; h->modules[i] != NULL; i++)
        n += h->modules[i]->n_duties;
    h->duties = mem_alloc((n + 1) * sizeof(*h->duties));
    for (size_t i = 0; h->modules[i] != NULL; i++)
        for (size_t k = 0; k < h->modules[i]->n_duties; k++) {
            const struct duty *d = &h->modules[i]->duties[k];
            int64_t every_us = d->every_ms * US_PER_MS;
            if (d->every_setting != NULL)
                every_us = setting_int(h, d->every_setting) * US_PER_S;
            if (every_us <= 0)
                continue;
            struct duty_run *r = &h->duties[h->n_duties++];
            r->house = h;
            r->duty = d;
            r->module = i;
            r->every_us = every_us;
            r->next_us = mono_us() + every_us;
        }
    h->duty_thread_runs = pthread_create(&h->duty_thread, NULL, duty_main, h) == 0;
}

/* ---- start ---- */

/* One file says where the state is: DATABASE_URL, or database.db inside the data folder. */
static int open_store(struct house *h, struct err *e)
{
    const char *url = setting_text(h, "DATABASE_URL");
    AUTO(mem) char *made = NULL;
    if (url == NULL || *url == '\0') {
        const char *dir = house_data_dir(h);
        url = made = mem_printf("sqlite:///%s%s/database.db", dir[0] == '/' ? "" : "./", dir);
    }
    struct store_config config = {.url = url};
    int rc = store_open(&config, &h->store, e);
    if (rc == OK)
        store_set_user(h->store, h);
    if (rc == OK && store_warning(h->store) != NULL)
        log_warning("core", "%s", store_warning(h->store));
    return rc;
}

static int migrate_all(struct house *h, struct err *e)
{
    const struct migration *tables[MODULES_MAX];
    size_t n = 0;
    for (; h->modules[n] != NULL; n++)
        tables[n] = h->modules[n]->migrations;
    int rc = migrate_run(h->store, tables, n, e);
    for (size_t i = 0; rc == OK && h->modules[i] != NULL; i++)
        for (const struct record *const *r = h->modules[i]->records; rc == OK && r && *r; r++)
            rc = record_check(h->store, *r, e);
    return rc;
}

int house_start(struct house *h, struct err *e)
{
    int rc = settings_read(h, e);
    if (rc != OK)
        return rc;
    if (strcmp(setting_text(h, "DEFAULT_LANG"), "zh") == 0)
        err_lang_set(LANG_ZH);
    const char *dir = house_data_dir(h);
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_sys(e, "cannot make the data folder %s", dir);
    if ((rc = open_store(h, e)) != OK || (rc = migrate_all(h, e)) != OK)
        return rc;
    int64_t workers = setting_int(h, "API_WORKERS");
    if (workers == 0)
        workers = 4 * sysconf(_SC_NPROCESSORS_ONLN);
    h->pool = pool_create("worker", (int)workers, 8192);
    h->bus = bus_create(h);
    for (size_t i = 0; h->modules[i] != NULL; i++) {
        const struct module *m = h->modules[i];
        if (m->start != NULL)
            rc = m->start(h, &h->states[i], e);
        if (rc == OK || h->states[i] != NULL)
            h->started = i + 1; /* a half-started one is stopped too */
        if (rc != OK)
            return err_wrap(e, "starting %s", m->name);
    }
    bus_start(h->bus);
    duties_start(h);
    return OK;
}

void house_stop(struct house *h)
{
    atomic_store(&h->stopping, true);
    if (h->duty_thread_runs) {
        pthread_mutex_lock(&h->duty_lock);
        pthread_cond_signal(&h->duty_wake);
        pthread_mutex_unlock(&h->duty_lock);
        pthread_join(h->duty_thread, NULL);
        h->duty_thread_runs = false;
        duties_wait(h);
    }
    if (h->bus != NULL)
        bus_stop(h->bus);
    /* what was begun for a request or a socket ends before the rooms that it uses */
    if (h->pool != NULL)
        pool_destroy(h->pool);
    h->pool = NULL;
    while (h->started > 0) {
        size_t i = --h->started;
        if (h->modules[i]->stop != NULL)
            h->modules[i]->stop(h, h->states[i]);
        h->states[i] = NULL;
    }
    store_close(h->store);
    h->store = NULL;
    bus_destroy(h->bus);
    h->bus = NULL;
}

void house_destroy(struct house *h)
{
    if (h == NULL)
        return;
    house_stop(h);
    size_t at = 0;
    void *v;
    while (map_next(&h->values, &at, NULL, &v))
        mem_free(v);
    map_fini(&h->values);
    map_fini(&h->settings);
    map_fini(&h->overridden);
    vec_fini(&h->setting_rows);
    mem_free(h->duties);
    arena_fini(&h->arena);
    pthread_mutex_destroy(&h->duty_lock);
    pthread_cond_destroy(&h->duty_wake);
    mem_free(h);
}

/* ---- what rooms ask for ---- */

void *house_state(const struct house *h, const struct module *m)
{
    for (size_t i = 0; h->modules[i] != NULL; i++)
        if (h->modules[i] == m)
            return h->states[i];
    return NULL;
}

struct store *house_store(const struct house *h)
{
    return h->store;
}

struct house *tx_house(const struct tx *tx)
{
    return store_user(tx_store(tx));
}

const char *house_data_dir(const struct house *h)
{
    return setting_text(h, "DATA_DIR");
}

bool house_demo(const struct house *h)
{
    return setting_bool(h, "SEED_DEMO");
}

int64_t house_started_at(const struct house *h)
{
    return h->started_at;
}

bool house_stopping(const struct house *h)
{
    return atomic_load(&h->stopping);
}

const struct module *const *house_modules(const struct house *h)
{
    return h->modules;
}

bool house_run(struct house *h, void (*fn)(void *ctx), void *ctx)
{
    return !house_stopping(h) && h->pool != NULL && pool_run(h->pool, fn, ctx);
}
