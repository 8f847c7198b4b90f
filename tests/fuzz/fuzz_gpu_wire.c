/* Any bytes as a packet of the GPU helper: what is taken keeps every promise of gpu.h.
 * The unit test runs a fixed corpus of the same; this one searches. */
#include "gpu/gpu_wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_end(const char *s, size_t size)
{
    if (memchr(s, '\0', size) == NULL)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct gpu_wire_message m;
    uint32_t round;
    uint64_t skip;
    gpu_wire_ask_decode(data, size, &round, &skip);
    if (!gpu_wire_decode(data, size, &m))
        return 0;
    must_end(m.call, sizeof(m.call));
    must_end(m.note, sizeof(m.note));
    if (m.type != GPU_WIRE_GPU)
        return 0;
    const struct gpu_facts *g = &m.facts;
    must_end(g->uuid, sizeof(g->uuid));
    must_end(g->name, sizeof(g->name));
    must_end(g->driver, sizeof(g->driver));
    must_end(g->cuda, sizeof(g->cuda));
    must_end(g->note, sizeof(g->note));
    must_end(g->serial, sizeof(g->serial));
    must_end(g->topology, sizeof(g->topology));
    for (int i = 0; i < GPU_NUMBERS; i++)
        if (g->numbers[i] < GPU_UNKNOWN || g->numbers[i] > gpu_numbers[i].most)
            abort();
    if (g->index < 0 || g->index > GPU_INDEX_MOST || g->parent >= GPU_MAX || g->n_links < 0 ||
        g->n_links > GPU_LINKS_MAX || g->memory_used_mib > g->memory_total_mib ||
        g->memory_used_mib < GPU_UNKNOWN || g->utilization_percent > 100 ||
        g->utilization_percent < GPU_UNKNOWN || g->temperature_c > 200 ||
        g->temperature_c < GPU_UNKNOWN || g->n_processes < 0 ||
        g->n_processes > GPU_PROCESSES_MAX || g->processes_total < g->n_processes)
        abort();
    for (int i = 0; i < g->n_processes; i++) {
        must_end(g->processes[i].name, sizeof(g->processes[i].name));
        if (g->processes[i].pid <= 0)
            abort();
    }
    return 0;
}
