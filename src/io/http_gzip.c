/* zlib, kept to this file. Setting up a deflate state costs more than compressing a small
 * answer, so each thread keeps one per use and gives it back when it ends. */
#include "io/http_gzip.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <zlib.h>

static pthread_key_t state_key;
static pthread_once_t state_once = PTHREAD_ONCE_INIT;

static void state_free(void *p)
{
    deflateEnd(p);
    free(p);
}

static void state_key_make(void)
{
    pthread_key_create(&state_key, state_free);
}

static z_stream *state_get(int level)
{
    pthread_once(&state_once, state_key_make);
    z_stream *z = pthread_getspecific(state_key);
    if (z == NULL) {
        z = calloc(1, sizeof(*z));
        /* 15 bits of window, +16 for the gzip frame */
        if (z == NULL ||
            deflateInit2(z, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
            free(z);
            return NULL;
        }
        pthread_setspecific(state_key, z);
        return z;
    }
    deflateReset(z);
    /* On a fresh state nothing is pending, so this cannot fail for want of room. */
    deflateParams(z, level, Z_DEFAULT_STRATEGY);
    return z;
}

void *gzip_bytes(const void *p, size_t n, int level, size_t *out_n)
{
    z_stream *z = n < UINT_MAX / 2 ? state_get(level) : NULL;
    if (z == NULL)
        return NULL;
    size_t bound = deflateBound(z, (uLong)n);
    unsigned char *out = malloc(bound);
    if (out == NULL)
        return NULL;
    z->next_in = (unsigned char *)p;
    z->avail_in = (uInt)n;
    z->next_out = out;
    z->avail_out = (uInt)bound;
    if (deflate(z, Z_FINISH) != Z_STREAM_END) {
        free(out);
        return NULL;
    }
    *out_n = bound - z->avail_out;
    return out;
}
