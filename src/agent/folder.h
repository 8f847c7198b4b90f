/* The files of one attempt's folder, DATA/agent/jobs/<attempt>/, as both the agent and the shim
 * read and write them:
 *
 *   spec     what to run: NUL-separated, written whole by the agent before it accepts
 *   started  the commit point of "at most once": made by link(2), so it appears once and whole.
 *            The shim links its own record; the agent links `spec` to say "never start this".
 *   stop     why and with which grace to end, written before the shim is signalled
 *   exit     how it ended: made by rename(2) from bytes that were allocated before the start
 *   log.*    the spool (base/spool.h)
 *
 * Everything read here may be torn or hostile and is bounds-checked. Plain C library only, since
 * the shim links nothing else. Threads: any.
 */
#ifndef AGENT_FOLDER_H
#define AGENT_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FOLDER_SPEC    "spec"
#define FOLDER_STARTED "started"
#define FOLDER_STOP    "stop"
#define FOLDER_EXIT    "exit"

enum {
    SPEC_MAX = 2 << 20,     /* bytes of a spec: a start message is at most 1 MiB */
    SPEC_WORDS_MAX = 32768, /* arguments and variables together */
    STARTED_MAX = 512,
    STOP_MAX = 128,
    EXIT_MAX = 2048,
    BOOT_ID_SIZE = 37,
    DETAIL_SIZE = 400
};

/* ---- spec ---- */

enum isolation { ISOLATION_OFF, ISOLATION_BASIC, ISOLATION_STRICT };
#define CELL_HOME "/run/drover/home" /* where a job finds the home that the node keeps for it */

struct spec {
    int64_t id;
    int64_t time_limit_us; /* 0: none */
    int64_t grace_us;
    int64_t log_max_bytes; /* of the spool, heads included */
    int64_t memory_mib;    /* 0: none */
    int64_t pids_max;      /* 0: none */
    int64_t cpus;          /* threads; 0: none */
    int64_t nproc;         /* processes of its user on this host; 0: as many as the agent's */
    int64_t isolation;     /* enum isolation; the rest of it only when it is not off: */
    int64_t uid, gid;      /* who runs it; 0: who runs the agent */
    int64_t tmp_mib;       /* size of its /tmp (strict) */
    int64_t own;           /* 1: the folder `show` is its user's, whoever it belongs to */
    int64_t profiling;     /* 1: the calls that profilers need are allowed */
    const char *groups;    /* further groups, "27,44"; NULL: none */
    const char *home;      /* name below the node's homes, shown as CELL_HOME; NULL: none */
    const char *devices;   /* below /dev, "nvidia0,nvidiactl"; NULL: the common ones */
    const char *show;      /* a folder that it sees whatever covers it; NULL: none */
    const char *cwd;       /* NULL: "/" */
    const char *gpus;      /* indexes that are leased to it, "0,3"; NULL: none */
    const char *cg_tree;   /* v2 group that holds the whole tree; NULL: none */
    const char *cg_memory; /* v1 group, or the same v2 group; NULL: no memory controller */
    const char *cg_pids;
    const char *cg_cpu;
    char **argv; /* NULL-terminated */
    char **env;  /* NULL-terminated; has room for one more before the NULL */
    size_t argc, envc;
};
/* data must end in a NUL at data[n - 1]; the texts of out point into it. False: not a spec. */
bool spec_parse(char *data, size_t n, struct spec *out);
void spec_fini(struct spec *s);
/* How the texts begin, for whoever writes one: FIRST, then key=value items, then LAST, each with
 * its NUL. The keys are the members' names, arg (once a word) and env (once a
 * variable). */
#define SPEC_FIRST "drover-spec 1"
#define SPEC_LAST  "end"

/* ---- started ---- */

struct started {
    pid_t shim;
    uint64_t shim_ticks; /* start time of the shim in /proc/PID/stat */
    char boot_id[BOOT_ID_SIZE];
    pid_t job;         /* 0 until the command has been executed */
    int64_t job_at_us; /* UTC */
    bool claimed;      /* the agent took the place: no shim ever starts this */
};
int started_format(const struct started *s, char to[STARTED_MAX]); /* bytes without the NUL */
bool started_parse(const char *text, size_t n, struct started *out);
/* DROVER_RUN in the job's environment: by it a tree without a cgroup is found again. */
enum { RUN_MARK_SIZE = 96 };
void run_mark(const struct started *s, char to[RUN_MARK_SIZE]); /* "DROVER_RUN=…" */

/* ---- stop ---- */

enum stop_why { STOP_NONE, STOP_CANCELLED, STOP_PREEMPTED };
int stop_format(enum stop_why why, int64_t grace_us, char to[STOP_MAX]);
bool stop_parse(const char *text, size_t n, enum stop_why *why, int64_t *grace_us);

/* ---- exit ---- */

enum end_reason {
    END_EXITED,
    END_SIGNALLED,
    END_OUT_OF_MEMORY,
    END_TIMED_OUT,
    END_CANCELLED,
    END_SUPERVISOR_LOST,
    END_START_FAILED,
    END_NODE_REBOOTED,
    END_REASONS
};
const char *end_reason_name(enum end_reason r);

struct exit_record {
    enum end_reason reason;
    int code;                     /* -1: none */
    int signal;                   /* 0: none */
    int64_t started_us, ended_us; /* UTC; 0: never started */
    int64_t cpu_us, max_rss_kib;
    int64_t dropped;          /* bytes of output that are not in the spool */
    char detail[DETAIL_SIZE]; /* one line for a person */
};
int exit_format(const struct exit_record *x, char to[EXIT_MAX]);
bool exit_parse(const char *text, size_t n, struct exit_record *out);

/* ---- small files ---- */

/* Reads at most max bytes of a file in folder dir and adds a NUL (to has room for max + 1).
 * -1: errno says why; EFBIG when it is longer. */
ssize_t folder_read(int dir, const char *name, char *to, size_t max);
/* The first bytes of a file, at most max, and a NUL; "" when there are none. For /proc, where the
 * beginning of a long text is good enough. */
size_t file_head(const char *path, char *to, size_t max);
/* Writes name by a temporary file and rename(2). 0 or -1 with errno. */
int folder_write(int dir, const char *name, const void *data, size_t n);
/* This boot's id, or "" where /proc does not tell. */
void boot_id_read(char to[BOOT_ID_SIZE]);

#endif
