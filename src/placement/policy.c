/* The policies that need little: by chance, by what is left, by fragmentation, by load. The
 * default, foresight, has its own file. `fgd`, `bestfit` and `random` are here to compare with:
 * they play by the rules of the published benchmark, its rounding included. */
#include "placement/foresight.h"

#include <math.h>
#include <string.h>

/* ---- random: any host that fits, each as likely ---- */

static int64_t random_score(struct pack *p, const struct pack_state *from,
                            const struct pack_state *to, int64_t before, int64_t after)
{
    (void)from, (void)to, (void)before, (void)after;
    return (int64_t)(pack_random(p) >> 1);
}

/* ---- bestfit: the least left of CPU and GPU, weighted alike ---- */

/* What the benchmark takes for the largest host. */
enum { LARGEST_CPU_MILLI = 128000, LARGEST_GPU_MILLI = 8000 };

static int64_t bestfit_score(struct pack *p, const struct pack_state *from,
                             const struct pack_state *to, int64_t before, int64_t after)
{
    (void)p, (void)from, (void)before, (void)after;
    double left = 0.5 * (double)to->cpu_milli / LARGEST_CPU_MILLI +
                  0.5 * (double)to->gpu_milli / LARGEST_GPU_MILLI;
    return (int64_t)floor((1 - left) * 100);
}

/* ---- spread: the most left ---- */

static int64_t spread_score(struct pack *p, const struct pack_state *from,
                            const struct pack_state *to, int64_t before, int64_t after)
{
    (void)p, (void)from, (void)before, (void)after;
    return (int64_t)to->gpu_milli * 1000000 + to->cpu_milli / 1000;
}

/* ---- fgd: the steepest fall in fragmentation (USENIX ATC 2023) ---- */

static int64_t fgd_worth(struct pack *p, const struct pack_state *s)
{
    return state_stranded(pack_mix(p), s);
}

static int64_t fgd_score(struct pack *p, const struct pack_state *from, const struct pack_state *to,
                         int64_t before, int64_t after)
{
    (void)from, (void)to;
    double fall = (double)(before - after) / (double)pack_mix(p)->published / 1000;
    return (int64_t)floor(100 / (1 + exp(-fall)));
}

const struct policy policies[] = {
    {.name = "foresight",
     .about = "leave the least unused after what is likely to come (the default)",
     .worth = foresight_worth,
     .score = foresight_score,
     .learned = foresight_learned,
     .each_gpu = true},
    {.name = "fgd",
     .about = "fragmentation gradient descent, as published at USENIX ATC 2023",
     .worth = fgd_worth,
     .score = fgd_score,
     .each_gpu = true},
    {.name = "bestfit", .about = "the fullest host that fits", .score = bestfit_score},
    {.name = "spread", .about = "the emptiest host that fits", .score = spread_score},
    {.name = "random",
     .about = "any host that fits",
     .score = random_score,
     .each_host = true,
     .any_gpu = true},
    {0},
};

const struct policy *policy_named(const char *name)
{
    for (const struct policy *p = policies; p->name != NULL; p++)
        if (strcmp(p->name, name) == 0)
            return p;
    return NULL;
}
