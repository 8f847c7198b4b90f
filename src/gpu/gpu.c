/* The table of GPU sources, and what all of them share.
 *
 * A source comes in as a spec ("simulated:4") and is from then on reached through its driver row
 * only. Nothing here may wait for a driver. */
#include "gpu/gpu_source.h"

#include "base/mem.h"
#include "base/str.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct gpu_driver *const drivers[] = {
    &gpu_driver_nvml,
    &gpu_driver_simulated,
    &gpu_driver_none,
};

const char *gpu_state_name(enum gpu_state state)
{
    static const char *const names[] = {
        [GPU_OK] = "ok",
        [GPU_ERROR] = "error",
        [GPU_DRIVER_HUNG] = "driver_hung",
    };
    return names[state];
}

const struct gpu_number_row gpu_numbers[GPU_NUMBERS] = {
#define GPU_NUMBER_ROW(id, name, most, doc) [GPU_##id] = {#name, doc, most},
    GPU_NUMBERS_LIST(GPU_NUMBER_ROW)
#undef GPU_NUMBER_ROW
};

const char *const gpu_throttle_words[] = {
    "idle",       "application_clocks", "power_cap",      "hw_slowdown",    "sync_boost",
    "sw_thermal", "hw_thermal",         "hw_power_brake", "display_clocks", NULL};

void gpu_facts_init(struct gpu_facts *g, int index)
{
    memset(g, 0, sizeof(*g));
    g->index = index;
    g->memory_total_mib = g->memory_used_mib = GPU_UNKNOWN;
    g->utilization_percent = g->memory_utilization_percent = GPU_UNKNOWN;
    g->temperature_c = g->memory_temperature_c = GPU_UNKNOWN;
    g->power_w = g->power_limit_w = GPU_UNKNOWN;
    g->ecc_uncorrected = GPU_UNKNOWN;
    g->parent = -1;
    for (int i = 0; i < GPU_NUMBERS; i++)
        g->numbers[i] = GPU_UNKNOWN;
}

struct gpu_source *gpu_source_open(const char *spec, struct err *e)
{
    const char *colon = strchr(spec, ':');
    size_t len = colon != NULL ? (size_t)(colon - spec) : strlen(spec);
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++)
        if (strlen(drivers[i]->name) == len && strncmp(spec, drivers[i]->name, len) == 0)
            return drivers[i]->open(colon != NULL ? colon + 1 : NULL, e);
    err_set(e, ERR_INVALID, "there is no GPU source \"%s\": choose nvml, simulated[:N] or none",
            spec);
    return NULL;
}

void gpu_source_interval(struct gpu_source *src, int ms)
{
    if (src->driver->interval != NULL)
        src->driver->interval(src, ms < 20 ? 20 : ms);
}

void gpu_sample(struct gpu_source *src, struct gpu_sample *out)
{
    src->driver->sample(src, out);
}

void gpu_source_held(struct gpu_source *src, const int *indexes, int n)
{
    if (src->driver->held != NULL)
        src->driver->held(src, indexes, n);
}

void gpu_source_close(struct gpu_source *src)
{
    if (src != NULL)
        src->driver->close(src);
}

const char *gpu_driver_present(void)
{
    if (access("/proc/driver/nvidia/version", F_OK) == 0 || access("/dev/nvidiactl", F_OK) == 0)
        return "nvidia";
    if (access("/dev/kfd", F_OK) == 0)
        return "amd";
    return NULL;
}

/* ---- "none": a host that is told not to look ---- */

static struct gpu_source *none_open(const char *options, struct err *e)
{
    if (options != NULL) {
        err_set(e, ERR_INVALID, "GPU source %s takes no options", gpu_driver_none.name);
        return NULL;
    }
    struct gpu_source *src = mem_alloc(sizeof(*src));
    src->driver = &gpu_driver_none;
    return src;
}

static void none_sample(struct gpu_source *src, struct gpu_sample *out)
{
    out->ready = true;
    out->simulated = false;
    out->at_us = out->age_ms = 0;
    out->n = 0;
    snprintf(out->note, sizeof(out->note), "%s", GPU_NOTE_OFF);
}

static void none_close(struct gpu_source *src)
{
    mem_free(src);
}

const struct gpu_driver gpu_driver_none = {
    .name = "none",
    .open = none_open,
    .sample = none_sample,
    .close = none_close,
};
