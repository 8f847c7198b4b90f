/* Counts of durations in Prometheus' form: counters that any thread adds to, and their text.
 *
 * Threads: any. */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include "base/mem.h"

#include <stdatomic.h>
#include <stdint.h>

enum { HISTOGRAM_BOUNDS_MAX = 12 };
struct histogram_bounds {
    size_t n;
    double s[HISTOGRAM_BOUNDS_MAX]; /* seconds, rising; above the last is +Inf */
};
extern const struct histogram_bounds histogram_call_bounds; /* of an answer or a query */

struct histogram { /* zeroed: empty */
    _Atomic uint64_t counts[HISTOGRAM_BOUNDS_MAX + 1];
    _Atomic uint64_t sum_us;
};
void histogram_add(struct histogram *h, const struct histogram_bounds *b, int64_t us);
uint64_t histogram_count(const struct histogram *h);
/* The lines of one histogram; labels: "a=\"b\"" or "". HELP and TYPE are the caller's. */
void histogram_print(const struct histogram *h, const struct histogram_bounds *b, const char *name,
                     const char *labels, struct buf *out);

#endif
