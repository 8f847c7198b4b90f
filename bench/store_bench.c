/* Durable transactions per second: the store beside bare SQLite in the same run on the same disk,
 * so that the ratio means something where the absolute numbers do not.
 *
 *   store_bench [FOLDER] [SECONDS]     FOLDER: where the database files go, default /tmp
 *                                      SECONDS: of each measured engine, default 10
 *   TEST_PG_URL (tests/pg-run)         measures that server as well
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/world.h"
#include "io/store.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MANY = 64, SLICES = 5, CASES = 3 };
static const int case_threads[CASES] = {1, 8, MANY};

static const char table[] = "CREATE TABLE IF NOT EXISTS bench (id $ID, who $INT, note $TEXT);";
static const char insert[] = "INSERT INTO bench (who, note) VALUES (?1, ?2)";

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "store_bench: %s: %s\n", what, why);
    exit(1);
}

struct bare {
    sqlite3 *db;
    sqlite3_stmt *begin, *add, *commit;
};

static void bare_open(struct bare *b, const char *path)
{
    if (sqlite3_open(path, &b->db) != SQLITE_OK ||
        sqlite3_exec(b->db,
                     "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE bench"
                     " (id INTEGER PRIMARY KEY AUTOINCREMENT, who INTEGER, note TEXT)",
                     NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(b->db, "BEGIN IMMEDIATE", -1, &b->begin, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(b->db, insert, -1, &b->add, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(b->db, "COMMIT", -1, &b->commit, NULL) != SQLITE_OK)
        fail(path, sqlite3_errmsg(b->db));
}

static double bare_rate(struct bare *b, double seconds)
{
    int64_t began_us = mono_us(), n = 0;
    while (mono_us() - began_us < (int64_t)(seconds * 1e6)) {
        sqlite3_step(b->begin);
        sqlite3_reset(b->begin);
        sqlite3_bind_int64(b->add, 1, ++n);
        sqlite3_bind_text(b->add, 2, "a note of some length", -1, SQLITE_STATIC);
        sqlite3_step(b->add);
        sqlite3_reset(b->add);
        if (sqlite3_step(b->commit) != SQLITE_DONE)
            fail("bare", sqlite3_errmsg(b->db));
        sqlite3_reset(b->commit);
    }
    return (double)n / ((double)(mono_us() - began_us) / 1e6);
}

static void bare_close(struct bare *b)
{
    sqlite3_finalize(b->begin);
    sqlite3_finalize(b->add);
    sqlite3_finalize(b->commit);
    sqlite3_close(b->db);
}

static int script_tx(struct tx *tx, void *ctx, struct err *e)
{
    return tx_script(tx, ctx, e);
}

static int insert_tx(struct tx *tx, void *ctx, struct err *e)
{
    return tx_exec(tx, insert, ARGS(v_int(*(int64_t *)ctx), v_text("a note of some length")), NULL,
                   e);
}

struct load {
    struct store *store;
    int64_t until_us;
    _Atomic int64_t total;
};

static void *load_main(void *arg)
{
    struct load *l = arg;
    struct err e = {0};
    int64_t n = 0;
    while (mono_us() < l->until_us) {
        n++;
        if (store_tx(l->store, insert_tx, &n, &e) != OK)
            fail("store_tx", e.text);
    }
    l->total += n;
    return NULL;
}

static double store_rate(struct store *s, int threads, double seconds)
{
    pthread_t ids[MANY];
    int64_t began_us = mono_us();
    struct load l = {.store = s, .until_us = began_us + (int64_t)(seconds * 1e6)};
    for (int i = 0; i < threads; i++)
        pthread_create(&ids[i], NULL, load_main, &l);
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    double took_s = (double)(mono_us() - began_us) / 1e6;
    return (double)l.total / took_s;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double rates[SLICES])
{
    qsort(rates, SLICES, sizeof(*rates), by_size);
    return rates[SLICES / 2];
}

static void measure(const char *name, const char *url, double seconds, struct bare *bare)
{
    struct err e = {0};
    struct store *s = NULL;
    if (store_open(&(struct store_config){.url = url, .readers = 8}, &s, &e) != OK ||
        store_tx(s, script_tx, (void *)(uintptr_t)table, &e) != OK)
        fail(name, e.text);
    double alone[SLICES], rates[CASES][SLICES];
    for (int slice = 0; slice < SLICES; slice++) {
        alone[slice] = bare_rate(bare, seconds);
        for (int c = 0; c < CASES; c++)
            rates[c][slice] = store_rate(s, case_threads[c], seconds);
    }
    double base = median(alone);
    printf("bare sqlite   1 thread  %9.0f tx/s\n", base);
    for (int c = 0; c < CASES; c++)
        printf("%-12s %2d threads %9.0f tx/s   %6.2f of bare\n", name, case_threads[c],
               median(rates[c]), median(rates[c]) / base);
    store_close(s);
}

int main(int argc, char **argv)
{
    double seconds = (argc > 2 ? strtod(argv[2], NULL) : 10) / (SLICES * (CASES + 1));
    char dir[256], path[300], url[320];
    snprintf(dir, sizeof(dir), "%s/store-bench.XXXXXX", argc > 1 ? argv[1] : "/tmp");
    if (mkdtemp(dir) == NULL)
        fail(dir, "cannot make a folder");
    struct bare bare;
    snprintf(path, sizeof(path), "%s/bare.db", dir);
    bare_open(&bare, path);
    snprintf(url, sizeof(url), "sqlite:///%s/store.db", dir);
    measure("store/sqlite", url, seconds, &bare);
    if (getenv("TEST_PG_URL") != NULL)
        measure("store/pg", getenv("TEST_PG_URL"), seconds, &bare);
    bare_close(&bare);
    static const char *const left[] = {"bare.db", "store.db", "store.db.lock"};
    for (size_t i = 0; i < ARRAY_LEN(left); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, left[i]);
        unlink(path);
    }
    rmdir(dir);
    return 0;
}
