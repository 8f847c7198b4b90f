/* The server's store of chunks and trees, by the hash of their bytes, in a namespace for each
 * owner: nobody can find out, or get, what another one holds by its hash.
 *
 *   DIR/OWNER/XX/HASH     a chunk (XX: first byte)         DIR/OWNER/trees/HASH   a tree's text
 *
 * A file appears by rename(2). A tree is durable when tree_keep() returns, with all its chunks;
 * chunks alone survive kill -9. What a name says is checked when it is read, so a file that a loss
 * of power tore is found, removed and asked for again. Threads: any. */
#ifndef FILES_BLOBS_H
#define FILES_BLOBS_H

#include "files/sync.h"

struct blobs;
int blobs_open(const char *dir, int64_t bytes_max, struct blobs **out, struct err *e);
void blobs_close(struct blobs *b); /* NULL is fine */
/* It is there, and stays at least a day. */
bool blob_has(struct blobs *b, int64_t owner, const uint8_t hash[HASH_SIZE]);
/* ERR_INVALID: the bytes have another hash. ERR_FULL: the store's limit, or the disk. */
int blob_put(struct blobs *b, int64_t owner, const uint8_t hash[HASH_SIZE], const void *p, size_t n,
             struct err *e);
int blob_read(struct blobs *b, int64_t owner, const uint8_t hash[HASH_SIZE], struct buf *out,
              struct err *e);
/* ERR_CONFLICT: a chunk is missing. */
int tree_keep(struct blobs *b, int64_t owner, const char *text, size_t n, char id[TREE_ID_SIZE],
              struct err *e);
int tree_load(struct blobs *b, int64_t owner, const char *id, struct buf *out, struct err *e);
bool tree_there(struct blobs *b, int64_t owner, const char *id); /* counts as a use */
/* Removes trees that were not used for so long, then chunks that no tree names and that are older
 * than a day; counts what is left. */
void blobs_sweep(struct blobs *b, int64_t keep_us);
int64_t blobs_bytes(const struct blobs *b);

#endif
