/* What the files of the documented job platform share. */
#ifndef SURFACE_PLATFORM_JOBS_H
#define SURFACE_PLATFORM_JOBS_H

#include "core/view.h"

#define JOBS_TAG "platform: jobs"

struct gpu_spec {
    const char *gpu_type;
    int64_t gpu_count, memory_gb, vcpus, ram_gb;
};
extern const struct view gpu_spec_view;

/* The documented word for each state of a job (conflicts.md, section 4); NULL at the end. */
extern const char *const task_words[];

#endif
