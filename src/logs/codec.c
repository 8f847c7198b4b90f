/* zstd with a few contexts kept for reuse: making one costs more than compressing a frame with it.
 * What comes in to unpack may be anything; zstd is told the exact room and never writes beyond it.
 */
#include "logs/codec.h"

#include "base/mem.h"

#include <pthread.h>
#include <zlib.h>
#include <zstd.h>

enum { KEPT = 4 };

struct codec {
    int level;
    pthread_mutex_t lock; /* of the two stacks */
    ZSTD_CCtx *packers[KEPT];
    ZSTD_DCtx *unpackers[KEPT];
    int n_packers, n_unpackers;
};

struct codec *codec_create(int level)
{
    struct codec *c = mem_alloc(sizeof(*c));
    c->level = level;
    pthread_mutex_init(&c->lock, NULL);
    return c;
}

void codec_destroy(struct codec *c)
{
    if (c == NULL)
        return;
    while (c->n_packers > 0)
        ZSTD_freeCCtx(c->packers[--c->n_packers]);
    while (c->n_unpackers > 0)
        ZSTD_freeDCtx(c->unpackers[--c->n_unpackers]);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}

size_t codec_bound(size_t n)
{
    return ZSTD_compressBound(n);
}

size_t codec_pack(struct codec *c, const void *from, size_t n, void *to, size_t room)
{
    pthread_mutex_lock(&c->lock);
    ZSTD_CCtx *z = c->n_packers > 0 ? c->packers[--c->n_packers] : NULL;
    pthread_mutex_unlock(&c->lock);
    if (z == NULL && (z = ZSTD_createCCtx()) == NULL)
        return 0;
    size_t got = ZSTD_compressCCtx(z, to, room, from, n, c->level);
    pthread_mutex_lock(&c->lock);
    if (c->n_packers < KEPT) {
        c->packers[c->n_packers++] = z;
        z = NULL;
    }
    pthread_mutex_unlock(&c->lock);
    ZSTD_freeCCtx(z);
    return ZSTD_isError(got) ? 0 : got;
}

bool codec_unpack(struct codec *c, const void *from, size_t n, void *to, size_t want)
{
    pthread_mutex_lock(&c->lock);
    ZSTD_DCtx *z = c->n_unpackers > 0 ? c->unpackers[--c->n_unpackers] : NULL;
    pthread_mutex_unlock(&c->lock);
    if (z == NULL && (z = ZSTD_createDCtx()) == NULL)
        return false;
    size_t got = ZSTD_decompressDCtx(z, to, want, from, n);
    pthread_mutex_lock(&c->lock);
    if (c->n_unpackers < KEPT) {
        c->unpackers[c->n_unpackers++] = z;
        z = NULL;
    }
    pthread_mutex_unlock(&c->lock);
    ZSTD_freeDCtx(z);
    return !ZSTD_isError(got) && got == want;
}

uint32_t codec_sum(uint32_t seed, const void *p, size_t n)
{
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    return 0; /* else a fuzzer never gets past a checksum */
#endif
    return n == 0 ? seed : (uint32_t)crc32_z(seed, p, n);
}
