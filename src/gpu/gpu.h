/* What the GPUs of this host are doing, from one of several sources behind one interface:
 *
 *   "nvml"                   NVIDIA's library, loaded in a helper process only (see below)
 *   "simulated[:N[:SEED]]"   N (4) simulated GPUs whose load follows gpu_source_held(); SEED is a
 *                            text that makes their uuids differ from another agent's (host name)
 *   "none"                   no GPUs
 *
 * A source is asked as often as one likes: gpu_sample() gives the last complete sample at once and
 * never waits for a driver. The library of a GPU's maker can hang for minutes, crash or lie, so it
 * never lives in this process: a helper (this very program, started again with GPU_HELPER_ARG)
 * loads it and answers over a socket with a deadline per call. A driver that does not answer is a
 * state with a growing age, not an error of ours; at most one helper exists at any time, and a new
 * one starts only when the old one is really gone.
 *
 * Environment: DROVER_NVML_PATH (the library, default libnvidia-ml.so.1), DROVER_NVML_DEADLINE_MS
 * (2000; per driver call, ten times that while the library starts).
 *
 * Threads: all functions of a source may be called from any thread, except gpu_source_close(),
 * after which none may. The source waits for its helper by pid: do not waitpid(-1) in a program
 * that has a source.
 *
 * Protocol source: the documented C interface of NVIDIA's management library (functions and struct
 * layouts of its API reference).
 */
#ifndef GPU_GPU_H
#define GPU_GPU_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    GPU_MAX = 64,           /* GPUs of one host; protects the size of a sample */
    GPU_PROCESSES_MAX = 64, /* per GPU, the largest by memory first */
    GPU_UNKNOWN = -1,       /* "this GPU does not tell": null outside */
    GPU_UUID_SIZE = 96,
    GPU_NAME_SIZE = 96,
    GPU_VERSION_SIZE = 32,
    GPU_NOTE_SIZE = 256,
};

enum gpu_state {
    GPU_OK,
    GPU_ERROR,       /* lost, needs a reset, or its library fails: see the note */
    GPU_DRIVER_HUNG, /* the driver does not answer; the values are age_ms old */
};
const char *gpu_state_name(enum gpu_state state); /* "ok", "error", "driver_hung" */

struct gpu_process {
    int64_t pid;
    int64_t memory_mib;       /* or GPU_UNKNOWN */
    char name[GPU_NAME_SIZE]; /* "" when it cannot be told */
};

/* Texts are clean UTF-8 and always end; numbers are in the ranges named here or GPU_UNKNOWN. */
struct gpu_facts {
    int index;
    enum gpu_state state;
    int64_t age_ms;                 /* since these values were read */
    int64_t memory_total_mib;       /* 0 .. 2^24 */
    int64_t memory_used_mib;        /* 0 .. total, without what the driver reserves */
    int utilization_percent;        /* 0 .. 100; unknown on a GPU split by MIG */
    int memory_utilization_percent; /* 0 .. 100: share of time the memory was busy */
    int temperature_c;              /* 0 .. 200 */
    int memory_temperature_c;       /* 0 .. 200 */
    int power_w;                    /* 0 .. 10000 */
    int power_limit_w;              /* 0 .. 10000 */
    int64_t ecc_uncorrected;        /* since the driver was loaded */
    int n_processes;                /* in processes[] */
    int processes_total;            /* that the driver named */
    char uuid[GPU_UUID_SIZE];       /* "GPU-…", "" when unknown */
    char name[GPU_NAME_SIZE];       /* the maker's; gpu_type_of() gives the short type */
    char driver[GPU_VERSION_SIZE];  /* "" when unknown */
    char cuda[GPU_VERSION_SIZE];    /* "12.4", "" when unknown */
    char note[GPU_NOTE_SIZE];       /* for people, "" when there is nothing to say */
    struct gpu_process processes[GPU_PROCESSES_MAX];
};

struct gpu_sample {
    bool ready;     /* false: the source has not come to a first verdict yet */
    bool simulated; /* every value is made up */
    int64_t at_us;  /* when the values were read, wall clock; 0: never */
    int64_t age_ms; /* since then, by the monotonic clock */
    int n;
    char note[GPU_NOTE_SIZE]; /* why there are no GPUs, or what is wrong with the source; or "" */
    struct gpu_facts gpus[GPU_MAX];
}; /* 500 KiB: keep it off the stack */

struct gpu_source;

/* NULL and e only for a wrong spec or when threads or sockets run out: a host without a driver is
 * a source with no GPUs and a note. Returns before the first sample is ready. */
struct gpu_source *gpu_source_open(const char *spec, struct err *e);
/* How often a real driver is asked (default 1000 ms, least 20). */
void gpu_source_interval(struct gpu_source *src, int ms);
/* Copies the last complete sample; returns at once. */
void gpu_sample(struct gpu_source *src, struct gpu_sample *out);
/* The GPUs that jobs hold now, by index (unknown ones are ignored): simulated load follows it. */
void gpu_source_held(struct gpu_source *src, const int *indexes, int n);
/* Ends the helper; returns within two seconds whatever a driver does. NULL is fine. */
void gpu_source_close(struct gpu_source *src);
static inline void auto_gpu_source(struct gpu_source **p)
{
    gpu_source_close(*p);
}

/* Every main() of a program that opens a source calls, before anything else:
 *     if (gpu_helper_wanted(argc, argv))
 *         return gpu_helper_main(argc, argv);
 */
#define GPU_HELPER_ARG "--gpu-helper"
bool gpu_helper_wanted(int argc, char **argv);
int gpu_helper_main(int argc, char **argv);

/* Whose kernel driver is loaded on this host: "nvidia", "amd" or NULL. Touches no library. */
const char *gpu_driver_present(void);

/* Chinese for the texts and the constant notes of this room: err_translate_with(gpu_texts). */
extern const struct err_text gpu_texts[];

#endif
