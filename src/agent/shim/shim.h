/* drover-shim: one small process a job. It owns the job's processes, reads what they print into
 * the spool, enforces limits, and writes how the job ended. It talks to no one: the agent sees
 * its files (agent/folder.h) and sends it two signals: SIGTERM (end the job with grace; the file
 * `stop` says why) and SIGUSR1 (kill it now).
 *
 * A launcher is the same program: it forks shims on request over a socket, so a launch needs no
 * exec of the shim, and it adopts what a killed shim leaves behind.
 */
#ifndef AGENT_SHIM_H
#define AGENT_SHIM_H

#include "agent/folder.h"
#include "base/disk.h"
#include "base/spool.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- between agent and launcher (one SOCK_SEQPACKET message each) ---- */

struct launch_request {
    int64_t id; /* the folder is jobs/<id> below the launcher's folder */
};
enum { LAUNCHED = 1, LAUNCH_FAILED = 2, LAUNCH_ENDED = 3, LAUNCHER_READY = 4 };
struct launch_reply {
    int32_t what;
    int32_t pid; /* of the shim */
    int64_t id;  /* 0 with LAUNCH_ENDED */
    /* errno with LAUNCH_FAILED, wait status with LAUNCH_ENDED, cell_fact bits with LAUNCHER_READY,
     * which comes first and once */
    int32_t status;
    int32_t zero;
};
/* The shim's exit status: 0 it did its work; SHIM_LOST another one has the attempt;
 * SHIM_ERRNO + errno it could not begin and nothing was started. */
enum { SHIM_LOST = 3, SHIM_ERRNO = 64 };

struct cell_house;
/* isolate: makes the template of the jobs' cells first. */
int launcher_main(int fd, const struct cell_house *house, bool isolate, char *title,
                  size_t title_size);
int shim_main(int jobs, const char *folder); /* folder below jobs; the exit status */

/* ---- spool writer ---- */

enum {
    SPOOLER_OUT_MAX = 160 << 10,
    SPOOLER_LINE_MAX = 128, /* room behind it for the line that says that the log stops */
    SPOOLER_RETRY_US = 200 * 1000,
    SPOOLER_LOW = -1 /* of why: free space is below the floor of base/disk.h */
};
struct spooler {
    int dir;
    int fd;         /* current chunk; -1: none open */
    uint64_t total; /* offset of the end of what is on disk */
    uint64_t chunk_start;
    uint32_t chunk_used;
    uint64_t max; /* of total */
    int64_t floor_mib;
    size_t out_n;     /* encoded bytes that wait for one write */
    uint64_t dropped; /* bytes of output that no record holds, newlines included */
    uint64_t untold;  /* those of them that no system record has told yet */
    bool printed;     /* some of the bytes that wait were printed by the job */
    int why;          /* errno while the disk takes nothing, or SPOOLER_LOW; 0: fine */
    bool limit_hit;   /* for good */
    int64_t retry_at; /* mono µs */
    uint8_t out[SPOOLER_OUT_MAX + SPOOL_HEAD_SIZE + SPOOLER_LINE_MAX];
};
void spooler_init(struct spooler *s, int dir, uint64_t max, int64_t floor_mib);
void spooler_add(struct spooler *s, uint8_t stream, uint8_t flags, const void *p, uint32_t len);
void spooler_system(struct spooler *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void spooler_flush(struct spooler *s);
/* After retry_at, while why is set: does the disk take records again? */
void spooler_retry(struct spooler *s);
void spooler_finish(struct spooler *s); /* tells what was dropped, if the disk takes it */

/* One output of the job, cut into lines. */
struct line {
    uint8_t stream;
    bool open; /* a piece was written that says the line goes on */
    uint32_t n;
    int64_t since; /* mono µs of the oldest byte that waits */
    uint8_t data[SPOOL_TEXT_MAX];
};
void line_feed(struct line *l, struct spooler *s, const uint8_t *p, size_t n);
void line_flush(struct line *l, struct spooler *s, bool final);

/* ---- limits ---- */

/* Makes the job's cgroups and sets limits. NULL, or a sentence that says what cannot be set. */
const char *limits_set(const struct spec *spec, char text[DETAIL_SIZE]);
/* fork(2) with flags of clone(2), the child in the tree's group at once where the kernel can do
 * that. pidfd and in_tree may be NULL. */
pid_t limits_fork(const struct spec *spec, uint64_t flags, int *pidfd, bool *in_tree);
/* By the child: enters the groups, but for the tree's when it is there already. */
void limits_join(const struct spec *spec, bool in_tree, int *err_no, const char **group);
int64_t limits_oom_kills(const struct spec *spec);
bool limits_remove(const struct spec *spec);

/* ---- the child's side ---- */

enum { NO_OOM_SCORE = 10000 };
struct cell;
struct child_files {
    const struct cell *cell;
    int out, err; /* write ends */
    int status;   /* closes by exec; text of the failure otherwise */
    pid_t shim;
    int oom_score; /* to go back to; NO_OOM_SCORE: it was not changed */
    bool in_tree;  /* already in the tree's group */
};
_Noreturn void child_exec(const struct spec *spec, const struct child_files *files);

int64_t shim_now(void); /* UTC µs */
int64_t shim_mono(void);

#endif
