/* Trees between a folder and the server's store, over one WebSocket; for the command line (code)
 * and for the agent (code to the node, results back).
 *
 * Wire, sub-protocol drover-files.1, binary messages, one answer for each question, in order:
 *   T id         → T text                    a tree by its 64-digit id
 *   G hash       → G bytes                   a chunk by its 32-byte hash
 *   M hash…      → M u8…                     for each: 1 it is missing
 *   P hash bytes → P                         a chunk is kept
 *   C text       → C id                      a tree is kept; all its chunks are there
 *   X text       → X                         an agent: there are no results, and why
 *   anything     → E text                    it cannot be done
 *
 * What is acknowledged stays, so an upload that was cut goes on where it was. Both functions block.
 * Threads: one. */
#ifndef FILES_SYNC_H
#define FILES_SYNC_H

#include "files/tree.h"

#include <stdbool.h>

#define SYNC_PROTOCOL "drover-files.1"
enum { SYNC_MESSAGE_MAX = TREE_TEXT_MAX + 1024, TREE_ID_SIZE = HASH_HEX_SIZE };

struct ws_client;
struct sync_progress {
    int64_t done, total; /* bytes that had to be moved */
    size_t files;
};
struct sync_ops {
    void (*progress)(void *ctx, const struct sync_progress *p); /* NULL is fine */
    void (*left_out)(void *ctx, const char *path, const char *why);
    void *ctx;
};
/* only: NULL, or n globs of paths below dir that are taken (with all below them); ignore files
 * count only without it. id "" when `only` finds nothing. */
int sync_push(struct ws_client *ws, const char *dir, const char *const *only, size_t n,
              const struct sync_ops *ops, char id[TREE_ID_SIZE], struct err *e);
/* Makes the tree below dir, which must exist; nothing of it leaves dir. */
int sync_fetch(struct ws_client *ws, const char *id, const char *dir, const struct sync_ops *ops,
               struct err *e);
int sync_no_results(struct ws_client *ws, const char *why, struct err *e);

#endif
