/* The node's memory of attempt ids: which were accepted, refused, forgotten. An id that is in it
 * is never launched a second time, whatever the server asks.
 *
 * DATA/agent/journal is append-only, in records of fixed size with a checksum each, so that a torn
 * tail or one bad sector costs one record. It is rewritten when most of it is about attempts that
 * are gone. The last FORGOTTEN_KEPT forgotten ids are kept exactly; below them there is a floor:
 * an unknown id at or under the floor counts as old.
 *
 * Threads: one. */
#ifndef AGENT_JOURNAL_H
#define AGENT_JOURNAL_H

#include "agent/folder.h"
#include "base/err.h"

#include <stdint.h>

enum { JOURNAL_RECORD_SIZE = 64, FORGOTTEN_KEPT = 4096 };

enum journal_kind {
    JOURNAL_ACCEPTED = 1,
    JOURNAL_REFUSED = 2,
    JOURNAL_FORGOTTEN = 3,
    JOURNAL_FLOOR = 4
};
struct journal_record {
    enum journal_kind kind;
    int64_t id;
    int64_t time_us;
    char boot_id[BOOT_ID_SIZE]; /* of an accepted one: the boot in which it may have started */
};
void journal_encode(const struct journal_record *r, uint8_t to[JOURNAL_RECORD_SIZE]);
bool journal_decode(const uint8_t from[JOURNAL_RECORD_SIZE], struct journal_record *out);

struct journal;
/* Opens or makes the journal in folder dir. Each attempt that is accepted or refused and not
 * forgotten is told once, in id order of first mention. *bad: records that were not readable. */
int journal_open(int dir, const char *boot_id, struct journal **out,
                 void (*tell)(void *ctx, const struct journal_record *r), void *ctx, size_t *bad,
                 struct err *e);
void journal_close(struct journal *j);
static inline void auto_journal(struct journal **j)
{
    journal_close(*j);
}
/* Adds a record to those that the next journal_sync or journal_write puts on disk. */
void journal_add(struct journal *j, enum journal_kind kind, int64_t id);
/* Writes what was added; sync also waits until the disk has it (one fdatasync for all). After a
 * failure what was added is still kept and the next call tries again. */
int journal_sync(struct journal *j, struct err *e);
int journal_write(struct journal *j, struct err *e);
/* True for an id that was forgotten, or that is so old that nobody here knows. */
bool journal_forgotten(const struct journal *j, int64_t id, bool *exactly);
/* Rewrites the journal when that makes it much smaller. live: what must stay. */
bool journal_wants_compact(const struct journal *j, size_t live);
int journal_compact(struct journal *j, const struct journal_record *live, size_t n, struct err *e);

#endif
