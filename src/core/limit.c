/* A sliding window of two counted minutes. */
#include "core/limit.h"

#include "base/mem.h"
#include "base/world.h"

#include <pthread.h>

struct slot {
    uint64_t key;
    int64_t minute;
    int64_t now, before;
};
struct limits {
    pthread_mutex_t lock;
    struct slot slots[LIMIT_SLOTS];
};

struct limits *limits_create(void)
{
    struct limits *l = mem_alloc(sizeof(*l));
    pthread_mutex_init(&l->lock, NULL);
    return l;
}

void limits_destroy(struct limits *l)
{
    if (l == NULL)
        return;
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}

static struct slot *find(struct limits *l, uint64_t key)
{
    enum { WAYS = 8 };
    struct slot *first = &l->slots[(key % (LIMIT_SLOTS / WAYS)) * WAYS], *worst = first;
    for (int i = 0; i < WAYS; i++) {
        struct slot *s = &first[i];
        if (s->key == key)
            return s;
        if (s->minute < worst->minute || (s->minute == worst->minute && s->now < worst->now))
            worst = s;
    }
    *worst = (struct slot){.key = key};
    return worst;
}

bool limit_take(struct limits *l, const char *key, int64_t per_minute, struct limit_state *out)
{
    uint64_t h = 1469598103934665603ULL;
    for (const char *c = key; *c != '\0'; c++)
        h = (h ^ (unsigned char)*c) * 1099511628211ULL;
    int64_t second = now_us() / US_PER_S, minute = second / 60, into = second % 60;
    pthread_mutex_lock(&l->lock);
    struct slot *s = find(l, h | 1);
    if (s->minute != minute) {
        s->before = s->minute == minute - 1 ? s->now : 0;
        s->now = 0;
        s->minute = minute;
    }
    int64_t used = s->now + s->before * (60 - into) / 60;
    bool ok = used < per_minute;
    if (ok)
        s->now++;
    int64_t left = per_minute - used - (ok ? 1 : 0);
    bool before_weighs = s->now < per_minute;
    pthread_mutex_unlock(&l->lock);
    out->limit = per_minute;
    out->remaining = left > 0 ? left : 0;
    out->reset_at_s = (minute + 1) * 60;
    /* while the last minute still weighs, its weight falls every second; a minute that was used up
     * weighs whole at the first second of the next */
    out->retry_after_s = ok ? 0 : before_weighs ? 1 : (int)(61 - into);
    return ok;
}
