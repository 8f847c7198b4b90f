/* What the program takes from the world without asking anyone: time and randomness.
 *
 * Both are a vtable, so that a test can run the whole control plane on a virtual clock with a
 * seeded generator. Times inside are UTC microseconds since 1970; outside they are RFC 3339
 * with microseconds and a Z.
 *
 * Threads: every function may be called from any thread. world_set() only before threads start.
 */
#ifndef BASE_WORLD_H
#define BASE_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define US_PER_S  INT64_C(1000000)
#define US_PER_MS INT64_C(1000)

struct world {
    int64_t (*now_us)(void);            /* wall clock */
    int64_t (*mono_us)(void);           /* never goes back; no relation to the wall clock */
    void (*random)(void *to, size_t n); /* fit for keys */
};
void world_set(const struct world *w); /* NULL: the real one */

int64_t now_us(void);
int64_t mono_us(void);
void random_bytes(void *to, size_t n);
uint64_t random_below(uint64_t n); /* 0 .. n-1, without bias */

/* "2025-09-06T14:35:41.818341Z" and its NUL */
enum { TIME_TEXT_SIZE = 28 };
const char *time_format(int64_t us, char to[TIME_TEXT_SIZE]);
/* RFC 3339; without a zone it is read as UTC. False: not a time. */
bool time_parse(const char *s, int64_t *us);

/* RFC 9562 ids in text form, 36 characters and a NUL. */
enum { UUID_TEXT_SIZE = 37 };
const char *uuid_v4(char to[UUID_TEXT_SIZE]);
/* Version 7: starts with the time, so that an index over it grows at its end. */
const char *uuid_v7(char to[UUID_TEXT_SIZE]);
bool uuid_is(const char *s);

#endif
