/* What the files of core/ share of the house; no other room includes this. */
#ifndef CORE_HOUSE_PARTS_H
#define CORE_HOUSE_PARTS_H

#include "core/event.h"
#include "core/house.h"
#include "core/route.h"
#include "io/pool.h"

#include <pthread.h>
#include <stdatomic.h>

enum { MODULES_MAX = 64 };

struct duty_run {
    struct house *house;
    const struct duty *duty;
    size_t module;
    int64_t every_us, next_us;
    atomic_bool busy;
};

struct house {
    const struct module *const *modules;
    void *states[MODULES_MAX];
    size_t started;
    struct arena arena; /* lives as long as the house; start-up only */
    struct map settings, values, overridden;
    struct vec setting_rows;
    struct store *store;
    struct bus *bus;
    struct pool *pool;
    struct duty_run *duties;
    size_t n_duties;
    pthread_t duty_thread;
    bool duty_thread_runs;
    pthread_mutex_t duty_lock;
    pthread_cond_t duty_wake;
    atomic_bool stopping;
    int64_t started_at;
};

extern const struct err_text core_texts[];

void settings_collect(struct house *h);
int settings_read(struct house *h, struct err *e);

#endif
