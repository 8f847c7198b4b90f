/* One attempt as the agent knows it: what the server asked, what lies in its folder, and what is
 * left to do. The folder is the truth; a new agent builds all this from it again.
 *
 *   NEW ──journal durable──▶ ACCEPTED ──the command runs──▶ RUNNING ──▶ ENDED
 *    └──cannot be done here──▶ REFUSED
 *
 * attempt_check() is the only function that moves an attempt on because of its files.
 * Threads: one. */
#ifndef AGENT_ATTEMPT_H
#define AGENT_ATTEMPT_H

#include "agent/folder.h"
#include "agent/groups.h"
#include "base/json.h"

#include <stdint.h>

enum attempt_state {
    ATTEMPT_NEW,
    ATTEMPT_ACCEPTED,
    ATTEMPT_RUNNING,
    ATTEMPT_ENDED,
    ATTEMPT_REFUSED
};
enum files_state { FILES_READY, FILES_FETCH }; /* FETCH: its code is not there yet */
enum launch_state { LAUNCH_NO, LAUNCH_WANTED, LAUNCH_ASKED };

enum { ATTEMPT_GPUS_MAX = 64, LAUNCH_TRIES_MAX = 5 };
#define ATTEMPT_ID_MAX ((INT64_C(1) << 56) - 1) /* the loop's events carry a kind above the id */

struct attempt {
    int64_t id;
    struct attempt *next; /* in the table's list */
    enum attempt_state state;
    char boot_id[BOOT_ID_SIZE]; /* in which it was accepted */
    char job[32];               /* "j-17", for the page; "": not looked up yet */
    int64_t journal_us;         /* 0: the journal does not have it yet, nothing is told */
    int gpus[ATTEMPT_GPUS_MAX];
    int n_gpus;

    enum launch_state launch;
    int tries;
    int64_t launch_at; /* mono: not before */
    int launch_errno;  /* of the last try that failed */
    bool told;         /* the launcher has told shim_pid of the present try */

    enum files_state files;
    bool has_out;    /* its results were not kept yet */
    pid_t files_pid; /* the helper; 0: none */
    int files_tries;
    int64_t files_at; /* mono: no helper before */

    bool dirty;  /* its files may have changed */
    bool report; /* the server has to hear of it */
    bool have_started;
    struct started started;
    int pidfd; /* of the shim; -1: none */
    bool shim_gone;
    pid_t shim_pid;          /* as the launcher said, before `started` is there */
    bool losing;             /* the shim is gone without an exit record: the tree is killed */
    int64_t lose_at;         /* mono: next step of that */
    int lose_tries;          /* its empty groups could not be removed yet */
    bool forget;             /* the server wants it gone; live ones end first */
    struct exit_record exit; /* of an ENDED or REFUSED one */
    int watch;               /* inotify; -1: none */

    /* log shipping: chunk starts in order, and offsets in the spool */
    uint64_t *chunks;
    size_t n_chunks, cap_chunks;
    uint64_t end; /* whole records are there up to here */
    uint64_t sent, acked;
    bool ship; /* the server has said from where */
    bool more; /* there may be bytes that were not sent */
};

/* The folder that holds the attempts' folders. */
struct attempt_home {
    int dir;
    const char *path;
    const struct groups *groups;
    const char *boot_id;
};

struct attempt *attempt_create(int64_t id);
void attempt_destroy(struct attempt *a);
static inline bool attempt_live(const struct attempt *a)
{
    return a->state < ATTEMPT_ENDED;
}

/* It has ended, and that is told when its results are kept. */
static inline bool attempt_keeps(const struct attempt *a)
{
    return a->state == ATTEMPT_ENDED && a->has_out;
}

int attempt_open(const struct attempt_home *h, int64_t id); /* its folder; -1 */
/* Makes the folder with its spec (and an exit record's room is checked). 0 or an errno. */
int attempt_prepare(const struct attempt_home *h, struct attempt *a, const void *spec, size_t n);
/* Takes what an earlier agent left. */
void attempt_recover(const struct attempt_home *h, struct attempt *a);
/* Looks at the files. True: something changed. */
bool attempt_check(const struct attempt_home *h, struct attempt *a);
/* Ends it here without the shim: a record in memory and, if the disk takes it, in the folder. */
void attempt_end(const struct attempt_home *h, struct attempt *a, enum end_reason reason,
                 const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Makes sure that no shim ever starts it. False: one has. */
bool attempt_claim(const struct attempt_home *h, struct attempt *a);
void attempt_stop(const struct attempt_home *h, struct attempt *a, enum stop_why why,
                  int64_t grace_us);
/* One step of killing a tree whose shim is gone; ends the attempt once nothing is left. */
void attempt_lose(const struct attempt_home *h, struct attempt *a);
void attempt_remove(const struct attempt_home *h, struct attempt *a);
/* Members of the protocol's A, without the braces. */
void attempt_json(const struct attempt *a, struct json *to);

/* ---- its spool ---- */

/* Reads whole records at offset `from` into to. Returns their bytes; 0: none yet. Updates end. */
size_t attempt_read_log(const struct attempt_home *h, struct attempt *a, uint64_t from, void *to,
                        size_t max);
/* Finds the chunks again and the true end of the spool. */
void attempt_scan_log(const struct attempt_home *h, struct attempt *a);
/* The server has everything below offset: chunks wholly below it go. */
void attempt_free_log(const struct attempt_home *h, struct attempt *a, uint64_t offset);

#endif
