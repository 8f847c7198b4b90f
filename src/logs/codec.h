/* Compression and checksums of the log store: the only place that knows zstd and zlib.
 * Threads: any. */
#ifndef LOGS_CODEC_H
#define LOGS_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct codec;
struct codec *codec_create(int level);
void codec_destroy(struct codec *c);
/* The most that n bytes can take when packed. */
size_t codec_bound(size_t n);
/* Gives the packed length; 0: it did not work. to has room for codec_bound(n). */
size_t codec_pack(struct codec *c, const void *from, size_t n, void *to, size_t room);
/* False unless the n packed bytes give exactly want bytes. */
bool codec_unpack(struct codec *c, const void *from, size_t n, void *to, size_t want);
uint32_t codec_sum(uint32_t seed, const void *p, size_t n);

#endif
