/* What the helper that holds a maker's library says to the program, one packet a message.
 *
 * The helper may run a library that lies or has trampled on its memory, so everything that comes
 * out of gpu_wire_decode() is in bounds: texts end and are clean, numbers are in the ranges of
 * gpu_fields[] or unknown, and what had to be mended is named in the GPU's note. A packet that
 * cannot come from a sane helper is refused.
 *
 * Threads: any; no state. Not for other rooms. */
#ifndef GPU_GPU_WIRE_H
#define GPU_GPU_WIRE_H

#include "gpu/gpu.h"

#include <stddef.h>
#include <stdint.h>

enum {
    GPU_WIRE_MAX = 16384, /* bytes of one packet: a GPU with all its processes fits */
    GPU_WIRE_VERSION = 2,
    GPU_WIRE_CALL_SIZE = 64,
    GPU_WIRE_ASK_SIZE = 14,
    GPU_WIRE_SOCKET = 3, /* the helper's end of the socket */
};

enum gpu_wire_type {
    GPU_WIRE_CALL = 1, /* about to enter the driver: call, gpu, starting */
    GPU_WIRE_GPU,      /* one GPU of this round: round, facts */
    GPU_WIRE_END,      /* the round is complete: round, told, note */
    GPU_WIRE_XID,      /* the kernel reported something: gpu, xid */
    GPU_WIRE_ABSENT,   /* there is no usable library: note; the helper ends after it */
};

/* The numbers of a GPU on the wire, in this order. */
enum gpu_field {
    FIELD_MEMORY_TOTAL_MIB,
    FIELD_MEMORY_USED_MIB,
    FIELD_UTILIZATION_PERCENT,
    FIELD_MEMORY_UTILIZATION_PERCENT,
    FIELD_TEMPERATURE_C,
    FIELD_MEMORY_TEMPERATURE_C,
    FIELD_POWER_W,
    FIELD_POWER_LIMIT_W,
    FIELD_ECC_UNCORRECTED,
    GPU_FIELDS
};
#define GPU_WIRE_ABSENT_VALUE INT64_MIN

/* A GPU as the driver told it: nothing checked but that texts end. */
struct gpu_told {
    int index;
    enum gpu_state state;
    int64_t values[GPU_FIELDS];   /* or GPU_WIRE_ABSENT_VALUE */
    int64_t numbers[GPU_NUMBERS]; /* likewise */
    int parent;                   /* -1: no MIG instance */
    int n_links;
    struct gpu_link links[GPU_LINKS_MAX];
    char serial[GPU_VERSION_SIZE], vbios[GPU_VERSION_SIZE], bus[GPU_VERSION_SIZE];
    char profile[GPU_VERSION_SIZE], topology[GPU_MAX + 1];
    char uuid[GPU_UUID_SIZE], name[GPU_NAME_SIZE], driver[GPU_VERSION_SIZE], cuda[GPU_VERSION_SIZE];
    char note[GPU_NOTE_SIZE];
    int64_t processes_total;
    int n_processes;
    struct gpu_process processes[GPU_PROCESSES_MAX];
};
void gpu_told_init(struct gpu_told *t, int index);

struct gpu_wire_message {
    enum gpu_wire_type type;
    uint32_t round;
    int64_t told;                  /* END: how many GPUs the driver named, also if not sent */
    int gpu;                       /* CALL, XID: which, -1 none */
    int xid;                       /* XID */
    bool starting;                 /* CALL: the library is being opened, which may take long */
    char call[GPU_WIRE_CALL_SIZE]; /* CALL */
    char note[GPU_NOTE_SIZE];      /* END, ABSENT */
    struct gpu_facts facts;        /* GPU */
};

/* Each writes one packet and returns its length. */
size_t gpu_wire_call(uint8_t to[GPU_WIRE_MAX], const char *call, int gpu, bool starting);
size_t gpu_wire_gpu(uint8_t to[GPU_WIRE_MAX], uint32_t round, const struct gpu_told *t);
size_t gpu_wire_xid(uint8_t to[GPU_WIRE_MAX], int gpu, int64_t xid);
size_t gpu_wire_end(uint8_t to[GPU_WIRE_MAX], uint32_t round, int64_t told, const char *note);
size_t gpu_wire_absent(uint8_t to[GPU_WIRE_MAX], const char *note);
/* False: refused; out is then undefined. */
bool gpu_wire_decode(const uint8_t *p, size_t n, struct gpu_wire_message *out);

/* The other way there is one message only: sample now, and leave out the GPUs of the bits in skip
 * (their driver did not answer last time). */
size_t gpu_wire_ask(uint8_t to[GPU_WIRE_ASK_SIZE], uint32_t round, uint64_t skip);
bool gpu_wire_ask_decode(const uint8_t *p, size_t n, uint32_t *round, uint64_t *skip);

#endif
