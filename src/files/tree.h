/* A tree: what a folder holds, as a text that names contents by their hashes. Its id is the hash of
 * the text, so the same folder always has the same id.
 *
 *   drover-tree 1
 *   d MODE PATH            a folder; every folder is listed, before what is in it
 *   f MODE SIZE HASHES PATH   a file; a hash for each CHUNK_MAX bytes, with commas; "-" when empty
 *   l TARGET PATH          a link that stays inside: "../" at its beginning only, no higher than
 * the root One line each, sorted by path, no path twice. MODE is octal, 0 to 777. In PATH and
 * TARGET every byte outside ! to ~, and %, is written %XX. Paths are relative, without empty parts,
 * "." and "..". Threads: any. */
#ifndef FILES_TREE_H
#define FILES_TREE_H

#include "base/err.h"
#include "base/mem.h"
#include "io/crypto.h"

#include <stdbool.h>

enum {
    CHUNK_MAX = 1 << 20,
    TREE_TEXT_MAX = 8 << 20,
    TREE_ENTRIES_MAX = 100000,
    TREE_PATH_MAX = 1024,
};
#define TREE_FILE_MAX (INT64_C(1) << 40)

struct tree_entry {
    char kind; /* d f l */
    unsigned mode;
    int64_t size;
    const char *path, *target;
    const uint8_t (*hashes)[HASH_SIZE];
    size_t n_hashes;
};
struct tree {
    struct tree_entry *entries;
    size_t n;
    int64_t bytes; /* of all files */
};
/* Everything of out lives in a. ERR_INVALID names the line and the rule. */
int tree_parse(const char *text, size_t n, struct arena *a, struct tree *out, struct err *e);
/* entries as above, sorted. */
int tree_write(const struct tree *t, struct buf *to, struct err *e);
/* Whether a link at this path with this target leads to a place inside. */
bool tree_link_inside(const char *path, const char *target);

#endif
