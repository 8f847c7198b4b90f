/* A ring of pending work and the threads that empty it; see pool.h.
 * The ring is allocated once, so that accepting work cannot fail half way. */
#include "io/pool.h"

#include "base/mem.h"
#include "io/thread.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct work {
    void (*fn)(void *ctx);
    void *ctx;
};

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t came;
    struct work *ring;
    size_t max, first, n;
    bool ending;
    pthread_t *threads;
    int n_threads;
};

static void *pool_thread(void *ctx)
{
    struct pool *pool = ctx;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->n == 0 && !pool->ending)
            pthread_cond_wait(&pool->came, &pool->lock);
        if (pool->n == 0)
            break;
        struct work w = pool->ring[pool->first];
        pool->first = (pool->first + 1) % pool->max;
        pool->n--;
        pthread_mutex_unlock(&pool->lock);
        w.fn(w.ctx);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

struct pool *pool_create(const char *name, int threads, size_t queue_max)
{
    struct pool *pool = mem_alloc(sizeof(*pool));
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->came, NULL);
    pool->max = queue_max > 0 ? queue_max : 1;
    pool->ring = mem_alloc(pool->max * sizeof(*pool->ring));
    threads = threads > 0 ? threads : 1;
    pool->threads = mem_alloc((size_t)threads * sizeof(*pool->threads));
    struct err e = {0};
    while (pool->n_threads < threads &&
           thread_start(&pool->threads[pool->n_threads], name, pool_thread, pool, &e) == OK)
        pool->n_threads++;
    if (pool->n_threads == 0) {
        fprintf(stderr, "drover: %s\n", e.text);
        abort();
    }
    return pool;
}

bool pool_run(struct pool *pool, void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&pool->lock);
    bool room = pool->n < pool->max && !pool->ending;
    if (room) {
        pool->ring[(pool->first + pool->n) % pool->max] = (struct work){fn, ctx};
        pool->n++;
        pthread_cond_signal(&pool->came);
    }
    pthread_mutex_unlock(&pool->lock);
    return room;
}

size_t pool_waiting(const struct pool *pool)
{
    struct pool *p = (struct pool *)pool;
    pthread_mutex_lock(&p->lock);
    size_t n = p->n;
    pthread_mutex_unlock(&p->lock);
    return n;
}

void pool_destroy(struct pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->ending = true;
    pthread_cond_broadcast(&pool->came);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->n_threads; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->came);
    pthread_mutex_destroy(&pool->lock);
    mem_free(pool->threads);
    mem_free(pool->ring);
    mem_free(pool);
}
