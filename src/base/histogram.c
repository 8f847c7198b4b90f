/* Histograms of durations. A bucket counts what fell into it alone; the text adds them up, as the
 * format wants. */
#include "base/histogram.h"

const struct histogram_bounds histogram_call_bounds = {
    10, {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5}};

void histogram_add(struct histogram *h, const struct histogram_bounds *b, int64_t us)
{
    size_t i = 0;
    while (i < b->n && (double)us / 1e6 > b->s[i])
        i++;
    atomic_fetch_add_explicit(&h->counts[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_us, us > 0 ? (uint64_t)us : 0, memory_order_relaxed);
}

uint64_t histogram_count(const struct histogram *h)
{
    uint64_t n = 0;
    for (size_t i = 0; i <= HISTOGRAM_BOUNDS_MAX; i++)
        n += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
    return n;
}

void histogram_print(const struct histogram *h, const struct histogram_bounds *b, const char *name,
                     const char *labels, struct buf *out)
{
    const char *comma = *labels != '\0' ? "," : "";
    const char *open = *labels != '\0' ? "{" : "", *close = *labels != '\0' ? "}" : "";
    uint64_t so_far = 0;
    for (size_t i = 0; i <= b->n; i++) {
        so_far += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
        if (i < b->n)
            buf_printf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, labels, comma, b->s[i],
                       (unsigned long long)so_far);
        else
            buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, labels, comma,
                       (unsigned long long)so_far);
    }
    buf_printf(out, "%s_sum%s%s%s %.6f\n%s_count%s%s%s %llu\n", name, open, labels, close,
               (double)atomic_load_explicit(&h->sum_us, memory_order_relaxed) / 1e6, name, open,
               labels, close, (unsigned long long)so_far);
}
