/* Applies the steps of migrate.h.
 *
 * What must stay true: whoever applies steps holds the store's lock for it from before it reads
 * schema_version until after its last commit, so no step is ever tried twice. A step's script
 * and its row in schema_version are one transaction.
 */
#include "io/migrate.h"

#include "base/world.h"
#include "io/store_backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 1000, CHECKSUM_SIZE = 17 };
static const int64_t hold_key = INT64_C(0x64726f7665720001);

static const char versions_table[] = "CREATE TABLE IF NOT EXISTS schema_version (\n"
                                     "    id $INT PRIMARY KEY,\n"
                                     "    name $TEXT NOT NULL,\n"
                                     "    checksum $TEXT NOT NULL,\n"
                                     "    applied_at $INT NOT NULL,\n"
                                     "    min_compatible $INT NOT NULL\n"
                                     ");";

/* FNV-1a: against edits by mistake, not against an enemy who could edit the table as well. */
static void checksum(const char *script, char to[CHECKSUM_SIZE])
{
    uint64_t h = 0xcbf29ce484222325U;
    for (; *script != '\0'; script++)
        h = (h ^ (unsigned char)*script) * 0x100000001b3U;
    snprintf(to, CHECKSUM_SIZE, "%016llx", (unsigned long long)h);
}

struct plan {
    const struct migration **steps; /* by id */
    bool *applied;
    size_t n;
};

static int by_id(const void *a, const void *b)
{
    int64_t x = (*(const struct migration *const *)a)->id;
    int64_t y = (*(const struct migration *const *)b)->id;
    return (x > y) - (x < y);
}

static int plan_make(struct plan *p, const struct migration *const *all, size_t n, struct err *e)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        for (const struct migration *m = all[i]; m != NULL && m->id != 0; m++)
            total++;
    p->steps = mem_alloc((total + 1) * sizeof(*p->steps));
    p->applied = mem_alloc(total + 1);
    for (size_t i = 0; i < n; i++)
        for (const struct migration *m = all[i]; m != NULL && m->id != 0; m++)
            p->steps[p->n++] = m;
    qsort(p->steps, p->n, sizeof(*p->steps), by_id);
    for (size_t i = 0; i + 1 < p->n; i++)
        if (p->steps[i]->id == p->steps[i + 1]->id)
            return err_set(e, ERR_INTERNAL, "two migrations have the number %lld: %s and %s",
                           (long long)p->steps[i]->id, p->steps[i]->name, p->steps[i + 1]->name);
    return OK;
}

/* The newest step of the room that this program knows; room * 1000 when it knows none. */
static int64_t newest_known(const struct plan *p, int64_t room)
{
    int64_t newest = room * ROOM;
    for (size_t i = 0; i < p->n; i++)
        if (p->steps[i]->id / ROOM == room)
            newest = p->steps[i]->id;
    return newest;
}

static int check_applied(struct plan *p, struct rows *r, struct err *e)
{
    int64_t id = row_int(r, 0), min_compatible = row_int(r, 3);
    for (size_t i = 0; i < p->n; i++) {
        if (p->steps[i]->id != id)
            continue;
        char sum[CHECKSUM_SIZE];
        checksum(p->steps[i]->script, sum);
        p->applied[i] = true;
        if (strcmp(sum, row_text(r, 2)) == 0)
            return OK;
        return err_set(e, ERR_CONFLICT,
                       "migration %lld (%s) was changed after it had been applied to this "
                       "database: put it back as it was and add a new one",
                       (long long)id, row_text(r, 1));
    }
    if (min_compatible != 0 && newest_known(p, id / ROOM) >= min_compatible)
        return OK;
    return err_set(e, ERR_CONFLICT,
                   "this database was made by a newer version of the program (migration %lld, "
                   "%s): install that version or a newer one",
                   (long long)id, row_text(r, 1));
}

static int make_table(struct tx *tx, void *ctx, struct err *e)
{
    return tx_script(tx, versions_table, e);
}

static int read_applied(struct tx *tx, void *ctx, struct err *e)
{
    struct plan *p = ctx;
    struct rows *r = tx_query(
        tx, "SELECT id, name, checksum, min_compatible FROM schema_version ORDER BY id", NO_ARGS);
    struct err why = {0};
    int kind = OK;
    while (kind == OK && rows_next(r))
        kind = check_applied(p, r, &why);
    int ended = rows_end(r, e);
    if (ended == OK && kind != OK && e != NULL)
        *e = why;
    return ended != OK ? ended : kind;
}

static int apply(struct tx *tx, void *ctx, struct err *e)
{
    const struct migration *m = ctx;
    char sum[CHECKSUM_SIZE];
    checksum(m->script, sum);
    int kind = tx_script(tx, m->script, e);
    if (kind != OK)
        return kind;
    return tx_exec(
        tx,
        "INSERT INTO schema_version (id, name, checksum, applied_at, min_compatible) "
        "VALUES (?1, ?2, ?3, ?4, ?5)",
        ARGS(v_int(m->id), v_text(m->name), v_text(sum), v_int(now_us()), v_int(m->min_compatible)),
        NULL, e);
}

static int run_held(struct store *s, struct plan *p, struct err *e)
{
    int kind = store_tx(s, make_table, NULL, e);
    if (kind == OK)
        kind = store_read(s, read_applied, p, e);
    for (size_t i = 0; kind == OK && i < p->n; i++) {
        if (p->applied[i])
            continue;
        const struct migration *m = p->steps[i];
        kind = store_tx(s, apply, (void *)(uintptr_t)m, e);
        if (kind != OK)
            err_wrap(e, "migration %lld (%s)", (long long)m->id, m->name);
    }
    return kind;
}

int migrate_run(struct store *s, const struct migration *const *all, size_t n, struct err *e)
{
    struct plan p = {0};
    int kind = plan_make(&p, all, n, e);
    struct conn *held = NULL;
    if (kind == OK)
        kind = store_hold(s, hold_key, &held, e);
    if (kind == OK)
        kind = run_held(s, &p, e);
    store_let_go(s, held);
    mem_free(p.steps);
    mem_free(p.applied);
    return kind;
}
