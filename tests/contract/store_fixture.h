/* What the programs of the store's contract suite share: a store of each kind, empty, and gates.
 * PostgreSQL is the server that tests/pg-run started. */
#ifndef TESTS_CONTRACT_STORE_FIXTURE_H
#define TESTS_CONTRACT_STORE_FIXTURE_H

#include "base/err.h"
#include "base/mem.h"
#include "base/world.h"
#include "io/migrate.h"
#include "io/store.h"

#include "test.h"

#include <math.h>
#include <pthread.h>
#include <dirent.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <unistd.h>

enum engine_kind { ON_MEMORY, ON_SQLITE, ON_POSTGRES };

struct fixture {
    enum engine_kind kind;
    char url[512];
    struct store *store;
};

static char fixture_dir_name[128];

static inline void fixture_dir_remove(void)
{
    DIR *d = opendir(fixture_dir_name);
    if (d == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(d)) != NULL;)
        unlinkat(dirfd(d), entry->d_name, 0);
    closedir(d);
    rmdir(fixture_dir_name);
}

/* A folder of this test program alone, gone at its end. */
static inline const char *fixture_dir(void)
{
    if (fixture_dir_name[0] == '\0') {
        const char *tmp = getenv("TMPDIR");
        snprintf(fixture_dir_name, sizeof(fixture_dir_name), "%s/drover-store.XXXXXX",
                 tmp != NULL ? tmp : "/tmp");
        if (mkdtemp(fixture_dir_name) == NULL) {
            perror("mkdtemp");
            exit(1);
        }
        atexit(fixture_dir_remove);
    }
    return fixture_dir_name;
}

static inline int script_tx(struct tx *tx, void *ctx, struct err *e)
{
    return tx_script(tx, ctx, e);
}

/* One write of literal SQL. */
static inline int do_script(struct store *s, const char *script, struct err *e)
{
    return store_tx(s, script_tx, (void *)(uintptr_t)script, e);
}

/* An empty database of that kind; readers and queue_max as in store_config. */
static inline void fixture_open(struct fixture *f, enum engine_kind kind, int readers,
                                int queue_max)
{
    static int number;
    struct err e = {0};
    *f = (struct fixture){.kind = kind};
    const char *pg = getenv("TEST_PG_URL");
    if (kind == ON_MEMORY)
        snprintf(f->url, sizeof(f->url), "sqlite:///:memory:");
    else if (kind == ON_SQLITE)
        snprintf(f->url, sizeof(f->url), "sqlite:///%s/%d.db", fixture_dir(), ++number);
    else
        snprintf(f->url, sizeof(f->url), "%s",
                 pg != NULL ? pg : "postgresql:///run-by-tests/pg-run");
    struct store_config config = {.url = f->url, .readers = readers, .queue_max = queue_max};
    CHECK_OK(store_open(&config, &f->store, &e), &e);
    if (f->store != NULL && kind == ON_POSTGRES)
        CHECK_OK(do_script(f->store, "DROP SCHEMA public CASCADE; CREATE SCHEMA public;", &e), &e);
}

/* The same database; not for ON_MEMORY. */
static inline void fixture_reopen(struct fixture *f)
{
    struct err e = {0};
    store_close(f->store);
    f->store = NULL;
    CHECK_OK(store_open(&(struct store_config){.url = f->url}, &f->store, &e), &e);
}

static inline void fixture_close(struct fixture *f)
{
    store_close(f->store);
}

struct asking {
    const char *sql;
    int64_t answer;
};

static inline int ask_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct asking *a = ctx;
    return tx_int(tx, a->sql, NO_ARGS, &a->answer, NULL, e);
}

/* The first number of a read. */
static inline int64_t ask(struct store *s, const char *sql)
{
    struct err e = {0};
    struct asking a = {sql, INT64_MIN};
    CHECK_OK(store_read(s, ask_tx, &a, &e), &e);
    return a.answer;
}

/* A transaction that says that it runs and then waits: it keeps a writer busy. */
struct gate {
    sem_t entered, leave;
};

static inline void gate_init(struct gate *g)
{
    sem_init(&g->entered, 0, 0);
    sem_init(&g->leave, 0, 0);
}

static inline void gate_fini(struct gate *g)
{
    sem_destroy(&g->entered);
    sem_destroy(&g->leave);
}

static inline int gate_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct gate *g = ctx;
    sem_post(&g->entered);
    sem_wait(&g->leave);
    return OK;
}

static inline void ignore_done(void *ctx, const struct err *e)
{
}

/* CONTRACT(x, readers, queue_max) { … f … } is a test on each engine. */
#define CONTRACT(name_, readers_, queue_max_)                                                      \
    static void name_(struct fixture *f);                                                          \
    static void name_##_on(enum engine_kind kind)                                                  \
    {                                                                                              \
        struct fixture f;                                                                          \
        fixture_open(&f, kind, readers_, queue_max_);                                              \
        if (f.store != NULL)                                                                       \
            name_(&f);                                                                             \
        fixture_close(&f);                                                                         \
    }                                                                                              \
    TEST(memory_##name_)                                                                           \
    {                                                                                              \
        name_##_on(ON_MEMORY);                                                                     \
    }                                                                                              \
    TEST(sqlite_##name_)                                                                           \
    {                                                                                              \
        name_##_on(ON_SQLITE);                                                                     \
    }                                                                                              \
    TEST(postgres_##name_)                                                                         \
    {                                                                                              \
        name_##_on(ON_POSTGRES);                                                                   \
    }                                                                                              \
    static void name_(struct fixture *f)

#endif
