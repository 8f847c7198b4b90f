/* Simulated GPUs: cards that behave believably and always say that they are made up.
 *
 * In: how many, a seed, which of them jobs hold (gpu_source_held), the clock of base/world.h.
 * What must stay true: the same calls at the same clock readings give the same values (a hash, no
 * random numbers), and a value never jumps: a change of load starts where the curve just was.
 *
 * Each quantity runs exponentially from where it was when the load last changed towards a target
 * that itself drifts by smooth noise; temperature follows with a long time constant, memory fills
 * evenly, as a program does that loads its model. */
#include "gpu/gpu_source.h"

#include "base/mem.h"
#include "base/str.h"
#include "base/world.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    SIMULATED_DEFAULT = 4,
    MEMORY_TOTAL_MIB = 24576,
    MEMORY_IDLE_MIB = 384,
    MEMORY_HELD_LEAST_MIB = 8192,
    MEMORY_HELD_MOST_MIB = 20480,
    POWER_LIMIT_W = 450,
};

struct levels {
    double utilization, memory_mib, power_w, temperature_c;
};

struct card {
    bool held;
    int64_t since_us;  /* monotonic: when held last changed */
    struct levels was; /* at since_us */
    uint64_t load;     /* hash of this stretch of load: another job, another size */
};

struct simulated {
    struct gpu_source base;
    pthread_mutex_t lock; /* held only for arithmetic */
    uint64_t seed;
    int n;
    struct card cards[GPU_MAX];
};

static uint64_t hash_mix(uint64_t a, uint64_t b)
{
    uint64_t h = a * UINT64_C(0x9e3779b97f4a7c15) + b + UINT64_C(0x632be59bd9b4e019);
    h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
    return h ^ (h >> 31);
}

static uint64_t hash_text(const char *s)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (; *s != '\0'; s++)
        h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
    return h;
}

/* 0 .. 1 */
static double hash_unit(uint64_t h)
{
    return (double)(h >> 11) / 9007199254740992.0;
}

/* -1 .. 1, continuous in time, a new direction every period. */
static double drift(uint64_t key, int64_t at_us, double period_s)
{
    double at = (double)at_us / 1e6 / period_s;
    double step = floor(at), part = at - step;
    uint64_t i = (uint64_t)(int64_t)step;
    double a = hash_unit(hash_mix(key, i)), b = hash_unit(hash_mix(key, i + 1));
    double ease = part * part * (3 - 2 * part);
    return 2 * (a + (b - a) * ease) - 1;
}

/* Where a quantity is after dt seconds on its way from one level to another. */
static double approach(double from, double to, double dt_s, double tau_s)
{
    return to + (from - to) * exp(-dt_s / tau_s);
}

static struct levels card_levels(const struct card *c, uint64_t key, int64_t at_us)
{
    double dt = (double)(at_us - c->since_us) / 1e6;
    if (dt < 0)
        dt = 0;
    struct levels to, now;
    if (c->held) {
        to.utilization = 89 + 6 * hash_unit(c->load) + 3 * drift(key + 1, at_us, 7);
        to.power_w = 312 + 100 * (to.utilization - 85) / 14 + 11 * drift(key + 2, at_us, 3);
        to.temperature_c = 67 + 8 * (to.power_w - 300) / 130 + 1.5 * drift(key + 3, at_us, 20);
        double room = MEMORY_HELD_MOST_MIB - MEMORY_HELD_LEAST_MIB - 128;
        to.memory_mib = MEMORY_HELD_LEAST_MIB + 64 + room * hash_unit(hash_mix(c->load, 1)) +
                        64 * drift(key + 4, at_us, 15);
        now.utilization = approach(c->was.utilization, to.utilization, dt, 1.5);
        now.power_w = approach(c->was.power_w, to.power_w, dt, 1.2);
        now.temperature_c = approach(c->was.temperature_c, to.temperature_c, dt, 20);
        double loaded = dt < 6 ? dt / 6 : 1;
        now.memory_mib = c->was.memory_mib + (to.memory_mib - c->was.memory_mib) * loaded;
        return now;
    }
    double blip = drift(key + 1, at_us, 9);
    to.utilization = blip > 0.6 ? 5 * (blip - 0.6) : 0;
    to.power_w = 22.5 + 2 * drift(key + 2, at_us, 8);
    to.temperature_c = 32.5 + 2 * drift(key + 3, at_us, 60);
    to.memory_mib = MEMORY_IDLE_MIB + 24 + 16 * drift(key + 4, at_us, 120);
    now.utilization = approach(c->was.utilization, to.utilization, dt, 0.4);
    now.power_w = approach(c->was.power_w, to.power_w, dt, 2);
    now.temperature_c = approach(c->was.temperature_c, to.temperature_c, dt, 30);
    now.memory_mib = approach(c->was.memory_mib, to.memory_mib, dt, 0.3);
    return now;
}

static uint64_t card_key(const struct simulated *s, int i)
{
    return hash_mix(s->seed, (uint64_t)i);
}

static void simulated_held(struct gpu_source *src, const int *indexes, int n)
{
    struct simulated *s = (struct simulated *)src;
    bool held[GPU_MAX] = {false};
    for (int i = 0; i < n; i++)
        if (indexes[i] >= 0 && indexes[i] < s->n)
            held[indexes[i]] = true;
    int64_t at_us = mono_us();
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < s->n; i++) {
        struct card *c = &s->cards[i];
        if (c->held == held[i])
            continue;
        c->was = card_levels(c, card_key(s, i), at_us);
        c->since_us = at_us;
        c->held = held[i];
        c->load = hash_mix(card_key(s, i), (uint64_t)at_us);
    }
    pthread_mutex_unlock(&s->lock);
}

static int rounded(double v)
{
    return (int)lround(v);
}

static void simulated_sample(struct gpu_source *src, struct gpu_sample *out)
{
    struct simulated *s = (struct simulated *)src;
    int64_t at_us = mono_us();
    out->ready = out->simulated = true;
    out->at_us = now_us();
    out->age_ms = 0;
    out->n = s->n;
    snprintf(out->note, sizeof(out->note), "%s", GPU_NOTE_SIMULATED);
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < s->n; i++) {
        struct gpu_facts *g = &out->gpus[i];
        struct levels l = card_levels(&s->cards[i], card_key(s, i), at_us);
        gpu_facts_init(g, i);
        g->memory_total_mib = MEMORY_TOTAL_MIB;
        g->memory_used_mib = rounded(l.memory_mib);
        g->utilization_percent = rounded(l.utilization);
        g->memory_utilization_percent = rounded(l.utilization * 0.62);
        g->temperature_c = rounded(l.temperature_c);
        g->power_w = rounded(l.power_w);
        g->power_limit_w = POWER_LIMIT_W;
        snprintf(g->uuid, sizeof(g->uuid), "GPU-51d0a7ed-%04x-%04x-%04x-%012x",
                 (unsigned)(s->seed & 0xffff), (unsigned)((s->seed >> 16) & 0xffff),
                 (unsigned)((s->seed >> 32) & 0xffff), (unsigned)i);
        snprintf(g->name, sizeof(g->name), "NVIDIA GeForce RTX 4090");
        snprintf(g->driver, sizeof(g->driver), "simulated");
        snprintf(g->cuda, sizeof(g->cuda), "12.4");
        snprintf(g->note, sizeof(g->note), "simulated");
    }
    pthread_mutex_unlock(&s->lock);
}

static void simulated_close(struct gpu_source *src)
{
    struct simulated *s = (struct simulated *)src;
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}

static struct gpu_source *simulated_open(const char *options, struct err *e)
{
    char count[16] = "", host[256] = "";
    const char *seed = NULL;
    int64_t n = SIMULATED_DEFAULT;
    if (options != NULL) {
        const char *colon = strchr(options, ':');
        size_t len = colon != NULL ? (size_t)(colon - options) : strlen(options);
        bool fits = len < sizeof(count);
        snprintf(count, sizeof(count), "%.*s", (int)(fits ? len : 0), options);
        if (!str_int(count, &n) || n < 1 || n > GPU_MAX) {
            err_set(e, ERR_INVALID, "simulated GPUs: \"%s\" is not a number from 1 to %d", options,
                    GPU_MAX);
            return NULL;
        }
        if (colon != NULL)
            seed = colon + 1;
    }
    if (seed == NULL) {
        gethostname(host, sizeof(host) - 1);
        seed = host;
    }
    struct simulated *s = mem_alloc(sizeof(*s));
    s->base.driver = &gpu_driver_simulated;
    pthread_mutex_init(&s->lock, NULL);
    s->seed = hash_text(seed);
    s->n = (int)n;
    int64_t at_us = mono_us();
    for (int i = 0; i < s->n; i++) {
        /* As if it had been idle for ever: the first sample is an idle card, not a ramp. */
        struct card long_idle = {.since_us = at_us - 3600 * US_PER_S};
        s->cards[i].since_us = at_us;
        s->cards[i].was = card_levels(&long_idle, card_key(s, i), at_us);
    }
    return &s->base;
}

const struct gpu_driver gpu_driver_simulated = {
    .name = "simulated",
    .open = simulated_open,
    .sample = simulated_sample,
    .held = simulated_held,
    .close = simulated_close,
};
