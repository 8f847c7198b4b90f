/* A bounded pool of worker threads: for work that may block and must not hold an I/O thread.
 *
 * The queue has a maximum, because work that waits without a limit is only a slower failure:
 * pool_run() says false when it is full, and the caller answers 503.
 *
 * Threads: pool_run and the counters from any thread, also from inside the pool's own work.
 * pool_destroy once, from outside the pool, when nobody calls pool_run any more.
 */
#ifndef IO_POOL_H
#define IO_POOL_H

#include <stdbool.h>
#include <stddef.h>

struct pool;

/* threads and queue_max are at least 1. Ends the process when no thread can be started at all. */
struct pool *pool_create(const char *name, int threads, size_t queue_max);
/* False: queue_max pieces wait already; fn will not be called. First come, first served. */
bool pool_run(struct pool *pool, void (*fn)(void *ctx), void *ctx);
size_t pool_waiting(const struct pool *pool);
/* Everything accepted is run, then the threads end. NULL is fine. */
void pool_destroy(struct pool *pool);

#endif
