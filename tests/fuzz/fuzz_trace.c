/* Traces from outside: whatever comes in, an error or a simulation that keeps its books. */
#include "placement/simulate.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char nodes[] = "sn,cpu_milli,memory_mib,gpu,model\nn1,8000,1000,2,A\n";
    if (size > 1 << 14)
        return 0;
    const uint8_t *cut = memchr(data, '\1', size);
    size_t first = cut != NULL ? (size_t)(cut - data) : 0;
    AUTO(trace) struct trace t = {0};
    struct simulated r;
    struct err e = {0};
    int k = first > 0 ? trace_nodes(&t, "nodes", (const char *)data, first, &e)
                      : trace_nodes(&t, "nodes", nodes, sizeof(nodes) - 1, &e);
    const char *rest = (const char *)data + (first > 0 ? first + 1 : 0);
    size_t n = size - (first > 0 ? first + 1 : 0);
    if (k == OK && trace_tasks(&t, "tasks", rest, n, true, &e) == OK && t.n_nodes < 100)
        simulate(&t, &(struct simulation){.policy = &policies[0]}, &r, &e);
    return 0;
}
