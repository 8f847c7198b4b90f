/* Playing a host forward. Most tasks of a sequence do not fit a nearly full host, so each shape
 * knows its places in the sequences as bits: only the places of shapes that fit now are visited. */
#include "placement/foresight.h"

#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 8, ARRIVALS = 32, DRAWS = SAMPLES * ARRIVALS };

struct sampled {
    struct shape shape;
    uint64_t at[SAMPLES]; /* bit a: it is the a-th arrival of the sequence */
};
struct foresight {
    struct sampled shapes[DRAWS];
    size_t n;                          /* in the order of their CPUs */
    uint16_t order[SAMPLES][ARRIVALS]; /* index into shapes */
    int32_t least_milli;               /* of any shape that wants a GPU */
};

static int by_cpu(const void *a, const void *b)
{
    const struct mix_row *x = a, *y = b;
    return (x->shape.cpu_milli > y->shape.cpu_milli) - (x->shape.cpu_milli < y->shape.cpu_milli);
}

/* The tasks of the mix that want GPUs (others leave no GPU unused), in the order of their CPUs. */
static size_t wanting_gpus(const struct mix *mix, struct mix_row rows[MIX_SHAPES_MAX],
                           int64_t *arrivals)
{
    size_t n = 0;
    for (size_t i = 0; i < mix->n; i++) {
        if (mix->rows[i].shape.gpus == 0)
            continue;
        rows[n++] = mix->rows[i];
        *arrivals += mix->rows[i].count;
    }
    qsort(rows, n, sizeof(rows[0]), by_cpu);
    return n;
}

/* Equal steps through the counted mix give each shape its share of the draws; then shuffled. */
void foresight_learned(struct pack *p)
{
    struct foresight *f = pack_own(p, sizeof(*f));
    struct mix_row rows[MIX_SHAPES_MAX];
    int64_t arrivals = 0, below = 0; /* below: arrivals of the rows before */
    memset(f, 0, sizeof(*f));
    f->least_milli = 1000;
    if (wanting_gpus(pack_mix(p), rows, &arrivals) == 0)
        return;
    uint16_t drawn[DRAWS];
    size_t row = 0;
    for (int64_t d = 0; d < DRAWS; d++) {
        int64_t want = (2 * d + 1) * arrivals / (2 * DRAWS);
        size_t was = row;
        while (below + rows[row].count <= want)
            below += rows[row++].count;
        if (d == 0 || row != was) {
            f->shapes[f->n++].shape = rows[row].shape;
            if (rows[row].shape.milli < f->least_milli)
                f->least_milli = rows[row].shape.milli;
        }
        drawn[d] = (uint16_t)(f->n - 1);
    }
    /* every sequence gets each SAMPLES-th of them, so that all have the same mix */
    uint64_t r = 0x2545f4914f6cdd1du; /* the same shuffle in every epoch */
    for (size_t k = 0; k < SAMPLES; k++) {
        for (size_t i = 0; i < ARRIVALS; i++)
            f->order[k][i] = drawn[i * SAMPLES + k];
        for (size_t i = ARRIVALS - 1; i > 0; i--) {
            r ^= r << 13;
            r ^= r >> 7;
            r ^= r << 17;
            size_t other = (size_t)((r >> 11) % (i + 1));
            uint16_t t = f->order[k][i];
            f->order[k][i] = f->order[k][other];
            f->order[k][other] = t;
        }
        for (size_t i = 0; i < ARRIVALS; i++)
            f->shapes[f->order[k][i]].at[k] |= (uint64_t)1 << i;
    }
}

/* Puts one sequence onto the host; what is left. `may` are the arrivals that fit at the start. */
static int64_t play(const struct foresight *f, size_t sample, uint64_t may, struct pack_state s)
{
    while (may != 0) {
        int arrival = __builtin_ctzll(may);
        may &= may - 1;
        const struct shape *t = &f->shapes[f->order[sample][arrival]].shape;
        if (!state_fits(&s, t))
            continue;
        state_take(&s, t, t->gpus > 0 ? state_first(&s, t) : 0);
        if (s.n == 0 || s.free[s.n - 1] < f->least_milli)
            break;
    }
    return s.gpu_milli;
}

int64_t foresight_worth(struct pack *p, const struct pack_state *s)
{
    if (s->gpu_milli == 0)
        return 0;
    const struct foresight *f = pack_own(p, sizeof(*f));
    uint64_t may[SAMPLES] = {0};
    for (size_t i = 0; i < f->n && f->shapes[i].shape.cpu_milli <= s->cpu_milli; i++)
        if (state_fits(s, &f->shapes[i].shape))
            for (size_t k = 0; k < SAMPLES; k++)
                may[k] |= f->shapes[i].at[k];
    int64_t left = 0;
    for (size_t k = 0; k < SAMPLES; k++)
        left += play(f, k, may[k], *s);
    return left;
}

int64_t foresight_score(struct pack *p, const struct pack_state *from, const struct pack_state *to,
                        int64_t before, int64_t after)
{
    (void)p, (void)from, (void)to;
    return before - after;
}
