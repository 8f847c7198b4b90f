/* Prints one sample of a GPU source as JSON, as drover-agent would take it: for gpu_real, and to
 * see with one's own eyes what a host tells.   gpu-show [SPEC]   (nvml) */
#include "base/json.h"
#include "base/world.h"
#include "gpu/gpu.h"
#include "gpu/gpu_types.h"

#include <poll.h>
#include <stdio.h>

enum { READY_WITHIN_S = 60 }; /* a driver without persistence wakes its cards first */

static void number(struct json *j, const char *key, int64_t v)
{
    if (v == GPU_UNKNOWN)
        json_knull(j, key);
    else
        json_kint(j, key, v);
}

static void gpu_write(struct json *j, const struct gpu_facts *g)
{
    char type[GPU_TYPE_SIZE];
    json_open(j, '{');
    json_kint(j, "index", g->index);
    json_ktext(j, "uuid", g->uuid);
    json_ktext(j, "name", g->name);
    json_ktext(j, "type", gpu_type_of(g->name, type));
    json_ktext(j, "state", gpu_state_name(g->state));
    json_ktext(j, "note", g->note[0] != '\0' ? g->note : NULL);
    json_ktext(j, "driver", g->driver);
    json_ktext(j, "cuda", g->cuda);
    number(j, "age_ms", g->age_ms);
    number(j, "memory_total_mib", g->memory_total_mib);
    number(j, "memory_used_mib", g->memory_used_mib);
    number(j, "utilization", g->utilization_percent);
    number(j, "memory_utilization", g->memory_utilization_percent);
    number(j, "temperature_c", g->temperature_c);
    number(j, "memory_temperature_c", g->memory_temperature_c);
    number(j, "power_w", g->power_w);
    number(j, "power_limit_w", g->power_limit_w);
    number(j, "ecc_uncorrected", g->ecc_uncorrected);
    json_key(j, "processes");
    json_open(j, '[');
    for (int i = 0; i < g->n_processes; i++) {
        json_open(j, '{');
        json_kint(j, "pid", g->processes[i].pid);
        json_ktext(j, "name", g->processes[i].name[0] != '\0' ? g->processes[i].name : NULL);
        number(j, "memory_mib", g->processes[i].memory_mib);
        json_close(j, '}');
    }
    json_close(j, ']');
    json_close(j, '}');
}

int main(int argc, char **argv)
{
    if (gpu_helper_wanted(argc, argv))
        return gpu_helper_main(argc, argv);
    struct err e;
    static struct gpu_sample sample;
    AUTO(gpu_source) struct gpu_source *src = gpu_source_open(argc > 1 ? argv[1] : "nvml", &e);
    if (src == NULL) {
        fprintf(stderr, "%s\n", e.text);
        return 2;
    }
    int64_t until = mono_us() + READY_WITHIN_S * US_PER_S;
    do {
        poll(NULL, 0, 20);
        gpu_sample(src, &sample);
    } while (!sample.ready && mono_us() < until);
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    json_open(&j, '{');
    json_kbool(&j, "ready", sample.ready);
    json_kbool(&j, "simulated", sample.simulated);
    json_ktext(&j, "note", sample.note[0] != '\0' ? sample.note : NULL);
    json_key(&j, "gpus");
    json_open(&j, '[');
    for (int i = 0; i < sample.n; i++)
        gpu_write(&j, &sample.gpus[i]);
    json_close(&j, ']');
    json_close(&j, '}');
    puts(buf_str(&b));
    return sample.ready ? 0 : 1;
}
