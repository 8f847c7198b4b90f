/* Rate limits in memory: a sliding window for each key (two counted minutes, weighted).
 * Threads: any. Memory is fixed: LIMIT_SLOTS keys; the least used gives way, which can only be
 * generous to a caller, never strict. */
#ifndef CORE_LIMIT_H
#define CORE_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

enum { LIMIT_SLOTS = 16384 };
struct limits;
struct limit_state {
    int64_t limit, remaining;
    int64_t reset_at_s; /* Unix seconds: when the window is empty again */
    int retry_after_s;  /* when refused */
};
struct limits *limits_create(void);
void limits_destroy(struct limits *l);
/* Counts one use of key against per_minute; false when it is one too many. */
bool limit_take(struct limits *l, const char *key, int64_t per_minute, struct limit_state *out);

#endif
