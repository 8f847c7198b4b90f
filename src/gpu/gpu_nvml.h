/* NVIDIA's management library, as the helper process uses it. Nothing else may: every call below
 * can hang, crash or lie. Not for other rooms. Threads: one. */
#ifndef GPU_GPU_NVML_H
#define GPU_GPU_NVML_H

#include "gpu/gpu_wire.h"

struct nvml;
/* Called before every step into the driver. */
typedef void nvml_entering(const char *call, int gpu, bool starting);

/* Loads and initialises the library; NULL: the note says why there is none. */
struct nvml *nvml_open(nvml_entering *entering, char note[GPU_NOTE_SIZE]);
void nvml_close(struct nvml *n);

/* How many GPUs the driver names; -1: the note says what went wrong. */
int64_t nvml_count(struct nvml *n, char note[GPU_NOTE_SIZE]);
/* False: there is no such GPU. */
bool nvml_read(struct nvml *n, int index, struct gpu_told *told);
/* The MIG instances of a GPU that was just read, one after the other in *told. Returns how many. */
int nvml_read_instances(struct nvml *n, int index, struct gpu_told *told,
                        void (*each)(const struct gpu_told *t));
/* What the kernel driver has reported since the last call. */
void nvml_xids(struct nvml *n, void (*each)(int gpu, int64_t xid));

#endif
