/* Copying files and folders over two byte streams: one side sends, the other one receives; which of
 * them is the person's and which the job's does not matter.
 *
 * Wire, little-endian. The sender lists what there is; the receiver asks for the files that it does
 * not have, by number and from the byte it has; the sender answers in the order of the questions.
 *   entry    u8 kind | u8 0 | u16 path bytes | u32 mode | u64 size | i64 mtime_us | path | link
 * target kind d folder, f file, l link (size: bytes of its target), w not sent, why (size: of the
 * text), e end of the list, x nothing can be sent, why. The first one has the path "" and is the
 * thing itself; then follows its name as an entry of kind n. question u32 number of the file in the
 * list | u32 0 | u64 from byte; number 2^32-1: no more answer   u32 length, bytes … 0, then 32
 * bytes: BLAKE2b of the whole file; or 2^32-1, u32 n, text: it cannot be read
 *
 * A file comes under a temporary name in its place (.NAME.drover-part) and gets its own name when
 * its hash is right, so a copy that was cut goes on where it was; what has the sender's size and
 * time already is not copied again. The receiver makes nothing outside its target: each part of a
 * path is opened without following links.
 *
 * Both functions block. Threads: one each; SIGPIPE ignored. */
#ifndef FILES_COPY_H
#define FILES_COPY_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    COPY_ENTRIES_MAX = 1000000,
    COPY_PATH_MAX = 4095,
    COPY_DEPTH_MAX = 128,
};
#define COPY_PART_SUFFIX ".drover-part"

struct copy_progress {
    uint64_t done, total; /* bytes */
    size_t files, files_total;
};
struct copy_ops {
    /* NULL is fine; called after each block. */
    void (*progress)(void *ctx, const struct copy_progress *p);
    void (*left_out)(void *ctx, const char *path, const char *why);
    void *ctx;
};

int copy_send(int in, int out, const char *path, const struct copy_ops *ops, struct err *e);
/* target: a folder that exists (the thing comes into it) or the thing's new name. */
int copy_receive(int in, int out, const char *target, const struct copy_ops *ops, struct err *e);

#endif
