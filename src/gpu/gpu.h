/* What the GPUs of this host are doing, from one of several sources behind one interface:
 *
 *   "nvml"                   NVIDIA's library, loaded in a helper process only (see below)
 *   "amd"                    AMD's cards, read from the kernel's files
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
    GPU_LINKS_MAX = 18, /* NVLinks of one GPU */
    GPU_XIDS_MAX = 16,  /* told per GPU, the newest first */
    GPU_MIG_MAX = 8,    /* instances of one GPU */
    /* A MIG instance k of GPU i has the index (i + 1) * GPU_MIG_STEP + k. */
    GPU_MIG_STEP = 100,
    GPU_INDEX_MOST = GPU_MAX * GPU_MIG_STEP + GPU_MIG_MAX,
};

enum gpu_state {
    GPU_OK,
    GPU_ERROR,       /* lost, needs a reset, or its library fails: see the note */
    GPU_DRIVER_HUNG, /* the driver does not answer; the values are age_ms old */
};
const char *gpu_state_name(enum gpu_state state); /* "ok", "error", "driver_hung" */

/* Everything that is one number, in one list: X(CONSTANT, name, most, meaning). The name is the
 * same on the agent's link, in the native API and in /metrics; each is 0 … most or GPU_UNKNOWN. */
#define GPU_NUMBERS_LIST(X)                                                                        \
    X(CLOCK_SM, clock_sm_mhz, 100000, "clock of the multiprocessors")                              \
    X(CLOCK_MEMORY, clock_memory_mhz, 100000, "clock of the memory")                               \
    X(CLOCK_GRAPHICS, clock_graphics_mhz, 100000, "clock of the graphics engine")                  \
    X(CLOCK_VIDEO, clock_video_mhz, 100000, "clock of the video engine")                           \
    X(CLOCK_SM_MAX, clock_sm_max_mhz, 100000, "highest clock of the multiprocessors")              \
    X(CLOCK_MEMORY_MAX, clock_memory_max_mhz, 100000, "highest clock of the memory")               \
    X(CLOCK_GRAPHICS_MAX, clock_graphics_max_mhz, 100000, "highest clock of the graphics engine")  \
    X(THROTTLE, throttle_bits, INT64_MAX, "why the clocks are held down: bits, see throttle")      \
    X(FAN, fan_percent, 255, "fan speed in percent of its highest")                                \
    X(PERFORMANCE, performance_state, 31, "P-state: 0 is the fastest")                             \
    X(ENCODER, encoder_percent, 100, "use of the video encoder")                                   \
    X(DECODER, decoder_percent, 100, "use of the video decoder")                                   \
    X(ENERGY, energy_mj, INT64_MAX, "energy used since the driver was loaded, in millijoules")     \
    X(POWER_LIMIT_DEFAULT, power_limit_default_w, 10000, "power limit as it was made")             \
    X(POWER_LIMIT_MIN, power_limit_min_w, 10000, "lowest power limit that can be set")             \
    X(POWER_LIMIT_MAX, power_limit_max_w, 10000, "highest power limit that can be set")            \
    X(TEMPERATURE_SLOWDOWN, temperature_slowdown_c, 200, "it slows itself down from here")         \
    X(TEMPERATURE_SHUTDOWN, temperature_shutdown_c, 200, "it switches itself off here")            \
    X(MEMORY_RESERVED, memory_reserved_mib, 1 << 24, "memory that the driver keeps for itself")    \
    X(BAR1_TOTAL, bar1_total_mib, 1 << 24, "memory that can be mapped over the bus")               \
    X(BAR1_USED, bar1_used_mib, 1 << 24, "of it in use")                                           \
    X(PCIE_GEN, pcie_generation, 99, "PCIe generation now (it drops when idle)")                   \
    X(PCIE_GEN_MAX, pcie_generation_max, 99, "highest PCIe generation here")                       \
    X(PCIE_WIDTH, pcie_width, 64, "PCIe lanes now")                                                \
    X(PCIE_WIDTH_MAX, pcie_width_max, 64, "most PCIe lanes here")                                  \
    X(PCIE_REPLAYS, pcie_replays, INT64_MAX, "packets that PCIe had to send again")                \
    X(PCIE_RX, pcie_rx_kib_s, INT64_C(1) << 32, "received over PCIe")                              \
    X(PCIE_TX, pcie_tx_kib_s, INT64_C(1) << 32, "sent over PCIe")                                  \
    X(ECC, ecc_enabled, 1, "memory errors are corrected")                                          \
    X(ECC_PENDING, ecc_pending, 1, "what ecc_enabled will be after a reset")                       \
    X(ECC_CORRECTED, ecc_corrected, INT64_MAX, "corrected errors since the driver was loaded")     \
    X(ECC_CORRECTED_TOTAL, ecc_corrected_total, INT64_MAX, "corrected errors in its life")         \
    X(ECC_UNCORRECTED_TOTAL, ecc_uncorrected_total, INT64_MAX, "uncorrected errors in its life")   \
    X(RETIRED_SINGLE, retired_pages_single, 1 << 20,                                               \
      "pages retired for repeated corrected errors")                                               \
    X(RETIRED_DOUBLE, retired_pages_double, 1 << 20, "pages retired for an uncorrected error")     \
    X(RETIRED_PENDING, retired_pages_pending, 1, "pages wait for a reset to be retired")           \
    X(REMAPPED_CORRECTABLE, remapped_rows_correctable, 1 << 20, "rows replaced: corrected errors") \
    X(REMAPPED_UNCORRECTABLE, remapped_rows_uncorrectable, 1 << 20,                                \
      "rows replaced: uncorrected errors")                                                         \
    X(REMAPPED_PENDING, remapped_rows_pending, 1, "rows wait for a reset to be replaced")          \
    X(REMAPPED_FAILED, remapped_rows_failed, 1, "no spare rows are left")                          \
    X(NVLINKS_ACTIVE, nvlinks_active, GPU_LINKS_MAX, "NVLinks that are up")                        \
    X(NVLINK_ERRORS, nvlink_errors, INT64_MAX, "errors of all NVLinks, every kind")                \
    X(COMPUTE_MODE, compute_mode, 3, "0 shared, 1 and 3 one process, 2 no compute")                \
    X(PERSISTENCE, persistence, 1, "the driver stays loaded when nobody uses it")                  \
    X(MIG, mig_enabled, 1, "it can be split into MIG instances")                                   \
    X(NUMA_NODE, numa_node, 4095, "NUMA node of the host that it hangs on")

enum gpu_number {
#define GPU_NUMBER_ENUM(id, name, most, doc) GPU_##id,
    GPU_NUMBERS_LIST(GPU_NUMBER_ENUM)
#undef GPU_NUMBER_ENUM
        GPU_NUMBERS
};
struct gpu_number_row {
    const char *name, *doc;
    int64_t most;
};
extern const struct gpu_number_row gpu_numbers[GPU_NUMBERS];

/* The words of GPU_THROTTLE: bit i is gpu_throttle_words[i]. */
enum { GPU_THROTTLES = 9 };
extern const char *const gpu_throttle_words[GPU_THROTTLES + 1];

struct gpu_process {
    int64_t pid;              /* as the host counts, also for a process in a container */
    int64_t memory_mib;       /* or GPU_UNKNOWN */
    int sm_percent;           /* its share of the multiprocessors; or GPU_UNKNOWN */
    char kind;                /* 'C' computes, 'G' draws, 'M' computes through MPS */
    bool dead;                /* no such process any more: its memory was not given back */
    char name[GPU_NAME_SIZE]; /* "" when it cannot be told */
};

struct gpu_link {
    bool active;
    int version;                                     /* or GPU_UNKNOWN */
    int64_t replays, recoveries, flit_crc, data_crc; /* errors; or GPU_UNKNOWN */
};

/* What the kernel driver reported about a GPU; gpu_xid_row() says what it means. */
struct gpu_xid {
    int code;
    int64_t at_us; /* when it was heard of */
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
    int parent;                     /* a MIG instance: the GPU it is a part of; else -1 */
    int64_t numbers[GPU_NUMBERS];   /* by enum gpu_number */
    int n_links, n_xids;
    int n_processes;               /* in processes[] */
    int processes_total;           /* that the driver named */
    char uuid[GPU_UUID_SIZE];      /* "GPU-…", "" when unknown */
    char name[GPU_NAME_SIZE];      /* the maker's; gpu_type_of() gives the short type */
    char driver[GPU_VERSION_SIZE]; /* "" when unknown */
    char cuda[GPU_VERSION_SIZE];   /* "12.4", "" when unknown */
    char serial[GPU_VERSION_SIZE], vbios[GPU_VERSION_SIZE], bus[GPU_VERSION_SIZE];
    char profile[GPU_VERSION_SIZE]; /* of a MIG instance: "1g.10gb" */
    /* How near each other GPU of the host is, by index: '.' itself, 'B' same board, 'P' one PCIe
     * switch, 'X' several, 'H' same root, 'N' same NUMA node, 'S' across; "" unknown. */
    char topology[GPU_MAX + 1];
    char note[GPU_NOTE_SIZE]; /* for people, "" when there is nothing to say */
    struct gpu_link links[GPU_LINKS_MAX];
    struct gpu_xid xids[GPU_XIDS_MAX];
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
}; /* 700 KiB: keep it off the stack */

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

/* ---- how well a GPU is ---- */

enum gpu_health { GPU_HEALTH_OK, GPU_HEALTH_DEGRADED, GPU_HEALTH_FAILED, GPU_HEALTH_UNKNOWN };
extern const char *const gpu_health_names[]; /* ok degraded failed unknown */

/* What an XID says of the GPU itself: an application's fault says nothing. */
struct gpu_xid_row {
    int code;
    enum gpu_health health; /* while it is fresh */
    int heals_s;            /* after this long without another it says nothing any more */
    const char *meaning, *action;
};
/* Never NULL: codes that the table does not know have a row of their own. */
const struct gpu_xid_row *gpu_xid_row(int code);

struct gpu_health_in {
    enum gpu_state state;
    const int64_t *numbers;  /* GPU_NUMBERS of them */
    int64_t ecc_uncorrected; /* or GPU_UNKNOWN */
    int temperature_c;
    const struct gpu_xid *xids;
    size_t n_xids;
    int64_t now_us;
};
/* Pure: the worst of what the facts say, with one sentence why ("" when ok). Everything heals: a
 * fact that is gone, or an XID that is older than its row says, changes nothing. */
enum gpu_health gpu_health_of(const struct gpu_health_in *in, char reason[GPU_NOTE_SIZE]);

/* Whose kernel driver is loaded on this host: "nvidia", "amd" or NULL. Touches no library. */
const char *gpu_driver_present(void);

/* Chinese for the texts and the constant notes of this room: err_translate_with(gpu_texts). */
extern const struct err_text gpu_texts[];

#endif
