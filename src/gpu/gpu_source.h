/* Inside the room: what a source of GPU facts must do. gpu.c holds the table of sources.
 * Not for other rooms. */
#ifndef GPU_GPU_SOURCE_H
#define GPU_GPU_SOURCE_H

#include "gpu/gpu.h"

struct gpu_driver {
    const char *name; /* what stands before the ':' of a spec */
    /* options: what stands after the ':', or NULL. NULL and e on failure. */
    struct gpu_source *(*open)(const char *options, struct err *e);
    void (*sample)(struct gpu_source *src, struct gpu_sample *out);  /* never blocks */
    void (*held)(struct gpu_source *src, const int *indexes, int n); /* may be NULL */
    void (*interval)(struct gpu_source *src, int ms);                /* may be NULL */
    void (*close)(struct gpu_source *src);                           /* frees it */
};

/* First member of every source. */
struct gpu_source {
    const struct gpu_driver *driver;
};

extern const struct gpu_driver gpu_driver_nvml, gpu_driver_simulated, gpu_driver_none;

/* Notes that are whole sentences, so that a reader can translate them (rows of gpu_texts). */
#define GPU_NOTE_OFF        "looking for GPUs is switched off on this host"
#define GPU_NOTE_SIMULATED  "these GPUs are simulated: no value is real"
#define GPU_NOTE_NO_LIBRARY "no NVIDIA driver: libnvidia-ml.so.1 is not installed"
#define GPU_NOTE_NO_DRIVER  "the NVIDIA kernel driver is not loaded: try modprobe nvidia"
#define GPU_NOTE_NO_GPU     "the NVIDIA driver found no GPU"

/* A GPU of which nothing is known yet. */
void gpu_facts_init(struct gpu_facts *g, int index);

#endif
