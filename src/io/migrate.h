/* The shape of the database: numbered steps that are embedded in the program, only ever added
 * to, and applied once each.
 *
 * A step is recorded in schema_version with a checksum of its script. An applied step whose
 * script differs now is refused: add a new step, never edit an old one. Each step is one
 * transaction; what a failing one did is gone, the ones before it stay.
 *
 * Ids are room * 1000 + n, so that rooms need not know of each other: they are applied in order
 * of id, and a step with a low id that is not there yet (of a room that was added later) is
 * applied like any other.
 *
 * During an upgrade an older program may meet steps that it does not know. It runs beside them
 * only if each of them says so by min_compatible; else ERR_CONFLICT.
 *
 * Several servers that start at once on PostgreSQL do this one after the other.
 */
#ifndef IO_MIGRATE_H
#define IO_MIGRATE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct store;

struct migration {
    int64_t id;         /* room * 1000 + n, n from 1 */
    const char *name;   /* a few words: what it brings */
    const char *script; /* as tx_script() takes it */
    /* The newest step of the same room that an older program must know to work with this one;
     * room * 1000: also one that does not know the room. 0: only programs that know this step. */
    int64_t min_compatible;
};

/* all: n tables, one a room, each ended by {0}; a NULL table is a room without any. Call once
 * after store_open(), from any thread that is not the store's. */
int migrate_run(struct store *s, const struct migration *const *all, size_t n, struct err *e);

#endif
