/* A stand-in for NVIDIA's management library that does what a script says: right values, error
 * codes, calls that never return, crashes, lies.
 *
 * The script is the file named by FAKE_NVML_SCRIPT, read again at every call, so that a test can
 * change it under a running program. Lines:
 *
 *   count N                       GPUs named by the count call (default: as many as `gpu` lines
 * say) gpu INDEX KEY VALUE           KEY: name uuid total used util memutil temp memtemp power
 * limit ecc remap (VALUE 1: no spare rows); memory in bytes, power in mW process INDEX PID BYTES
 * one compute process graphics INDEX PID BYTES      one graphics process named INDEX N the compute
 * list claims N entries noend KEY                     name or uuid fills its buffer without an end
 *   do CALL GPU ACTION [ARG]      before CALL (or *) of GPU (or *): code N | sleep MS | block |
 *                                 abort | segv | exit N; block lasts until the line is gone
 *
 * Built twice: with FAKE_OLD it has only the first version of each function. */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GPUS = 64, SLOTS = 128, NOT_SUPPORTED = 3, INVALID_ARGUMENT = 2, INSUFFICIENT_SIZE = 7 };

struct process {
    int gpu;
    bool graphics;
    unsigned long long pid, bytes;
};

struct gpu {
    bool there;
    char name[96], uuid[96];
    unsigned long long total, used, ecc;
    unsigned util, memutil, temp, memtemp, power, limit, remap;
    unsigned named;
    bool has_memtemp, has_ecc, has_remap, has_named;
};

struct script {
    unsigned count;
    bool has_count, noend_name, noend_uuid;
    struct gpu gpus[GPUS];
    int n_processes;
    struct process processes[SLOTS];
    int n_rules;
    struct {
        char call[64], gpu[16], action[16];
        long arg;
    } rules[SLOTS];
};

static struct gpu *gpu_at(struct script *s, int i)
{
    if (i < 0 || i >= GPUS)
        return &s->gpus[0];
    struct gpu *g = &s->gpus[i];
    if (!g->there) {
        g->there = true;
        snprintf(g->name, sizeof(g->name), "NVIDIA GeForce RTX 4090");
        snprintf(g->uuid, sizeof(g->uuid), "GPU-fa4e0000-0000-0000-0000-%012d", i);
        g->total = 25757220864ull;
        g->used = 423624704ull;
        g->temp = 34;
        g->power = 21400;
        g->limit = 450000;
    }
    return g;
}

static void gpu_set(struct script *s, struct gpu *g, const char *key, const char *value)
{
    unsigned long long n = strtoull(value, NULL, 10);
    if (strcmp(key, "name") == 0)
        snprintf(g->name, sizeof(g->name), "%s", value);
    else if (strcmp(key, "uuid") == 0)
        snprintf(g->uuid, sizeof(g->uuid), "%s", value);
    else if (strcmp(key, "total") == 0)
        g->total = n;
    else if (strcmp(key, "used") == 0)
        g->used = n;
    else if (strcmp(key, "util") == 0)
        g->util = (unsigned)n;
    else if (strcmp(key, "memutil") == 0)
        g->memutil = (unsigned)n;
    else if (strcmp(key, "temp") == 0)
        g->temp = (unsigned)n;
    else if (strcmp(key, "memtemp") == 0)
        g->memtemp = (unsigned)n, g->has_memtemp = true;
    else if (strcmp(key, "power") == 0)
        g->power = (unsigned)n;
    else if (strcmp(key, "limit") == 0)
        g->limit = (unsigned)n;
    else if (strcmp(key, "ecc") == 0)
        g->ecc = n, g->has_ecc = true;
    else if (strcmp(key, "remap") == 0)
        g->remap = (unsigned)n, g->has_remap = true;
}

static void script_read(struct script *s)
{
    memset(s, 0, sizeof(*s));
    const char *path = getenv("FAKE_NVML_SCRIPT");
    FILE *f = path != NULL ? fopen(path, "re") : NULL;
    char line[512], a[128], b[128], c[256];
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        unsigned long long x, y;
        int i;
        if (sscanf(line, "count %llu", &x) == 1) {
            s->count = (unsigned)x;
            s->has_count = true;
        } else if (sscanf(line, "gpu %d %127s %255[^\n]", &i, a, c) == 3) {
            gpu_set(s, gpu_at(s, i), a, c);
        } else if (sscanf(line, "process %d %llu %llu", &i, &x, &y) == 3 ||
                   sscanf(line, "graphics %d %llu %llu", &i, &x, &y) == 3) {
            if (s->n_processes < SLOTS)
                s->processes[s->n_processes++] = (struct process){i, line[0] == 'g', x, y};
        } else if (sscanf(line, "named %d %llu", &i, &x) == 2) {
            gpu_at(s, i)->named = (unsigned)x;
            gpu_at(s, i)->has_named = true;
        } else if (sscanf(line, "noend %127s", a) == 1) {
            s->noend_name |= strcmp(a, "name") == 0;
            s->noend_uuid |= strcmp(a, "uuid") == 0;
        } else if (sscanf(line, "do %127s %127s %255[^\n]", a, b, c) == 3 && s->n_rules < SLOTS) {
            snprintf(s->rules[s->n_rules].call, 64, "%.63s", a);
            snprintf(s->rules[s->n_rules].gpu, 16, "%.15s", b);
            s->rules[s->n_rules].arg = 0;
            sscanf(c, "%15s %ld", s->rules[s->n_rules].action, &s->rules[s->n_rules].arg);
            s->n_rules++;
        }
    }
    if (f != NULL)
        fclose(f);
    if (!s->has_count)
        for (int i = 0; i < GPUS; i++)
            s->count += s->gpus[i].there;
}

static bool rule_is(const struct script *s, int r, const char *call, int gpu)
{
    char number[16];
    snprintf(number, sizeof(number), "%d", gpu);
    return (strcmp(s->rules[r].call, "*") == 0 || strcmp(s->rules[r].call, call) == 0) &&
           (strcmp(s->rules[r].gpu, "*") == 0 || strcmp(s->rules[r].gpu, number) == 0);
}

/* Obeys one rule; true: it is to block. */
static bool obey_rule(const struct script *s, int r, int *code)
{
    const char *action = s->rules[r].action;
    if (strcmp(action, "code") == 0)
        *code = (int)s->rules[r].arg;
    if (strcmp(action, "sleep") == 0)
        usleep((unsigned)s->rules[r].arg * 1000);
    if (strcmp(action, "exit") == 0)
        _exit((int)s->rules[r].arg);
    if (strcmp(action, "abort") == 0)
        abort();
    if (strcmp(action, "segv") == 0) {
        signal(SIGSEGV, SIG_DFL); /* a sanitizer would make an exit of it */
        raise(SIGSEGV);
    }
    return strcmp(action, "block") == 0;
}

/* Obeys the rules for a call; what it returns, the call returns if it is not 0. */
static int obey(struct script *s, const char *call, int gpu)
{
    for (;;) {
        bool blocked = false;
        int code = 0;
        script_read(s);
        for (int r = 0; r < s->n_rules && !blocked; r++)
            if (rule_is(s, r, call, gpu))
                blocked = obey_rule(s, r, &code);
        if (!blocked)
            return code;
        usleep(10000);
    }
}

/* A handle is the index plus one. */
static int index_of(void *device)
{
    return (int)(uintptr_t)device - 1;
}

#define CALLED(gpu_)                                                                               \
    static struct script s;                                                                        \
    int gpu = (gpu_);                                                                              \
    int code = obey(&s, __func__, gpu);                                                            \
    if (code != 0)                                                                                 \
        return code;                                                                               \
    struct gpu *g = gpu_at(&s, gpu < 0 ? 0 : gpu);                                                 \
    (void)g;

static int text_out(const char *text, bool no_end, char *to, unsigned size)
{
    if (no_end)
        memset(to, 'x', size);
    else if (strlen(text) >= size)
        return INSUFFICIENT_SIZE;
    else
        memcpy(to, text, strlen(text) + 1);
    return 0;
}

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC visibility push(default)

#ifdef FAKE_OLD
#define VERSIONED(name, version) name
#else
#define VERSIONED(name, version) name##version
#endif

int VERSIONED(nvmlInit, _v2)(void)
{
    CALLED(-1);
    return 0;
}

int nvmlShutdown(void)
{
    CALLED(-1);
    return 0;
}

int nvmlSystemGetDriverVersion(char *to, unsigned size)
{
    CALLED(-1);
    return text_out("550.54.14", false, to, size);
}

int VERSIONED(nvmlSystemGetCudaDriverVersion, _v2)(int *version)
{
    CALLED(-1);
    *version = 12040;
    return 0;
}

int VERSIONED(nvmlDeviceGetCount, _v2)(unsigned *count)
{
    CALLED(-1);
    *count = s.count;
    return 0;
}

int VERSIONED(nvmlDeviceGetHandleByIndex, _v2)(unsigned index, void **device)
{
    CALLED((int)index);
    if (index >= s.count)
        return INVALID_ARGUMENT;
    *device = (void *)(uintptr_t)(index + 1);
    return 0;
}

int nvmlDeviceGetName(void *device, char *to, unsigned size)
{
    CALLED(index_of(device));
    return text_out(g->name, s.noend_name, to, size);
}

int nvmlDeviceGetUUID(void *device, char *to, unsigned size)
{
    CALLED(index_of(device));
    return text_out(g->uuid, s.noend_uuid, to, size);
}

#ifdef FAKE_OLD
struct memory {
    unsigned long long total, free, used;
};
int nvmlDeviceGetMemoryInfo(void *device, struct memory *m)
{
    CALLED(index_of(device));
#else
struct memory {
    unsigned version;
    unsigned long long total, reserved, free, used;
};
int nvmlDeviceGetMemoryInfo_v2(void *device, struct memory *m)
{
    CALLED(index_of(device));
    if (m->version != (sizeof(*m) | 2u << 24))
        return 25; /* argument version mismatch */
    m->reserved = 0;
#endif
    m->total = g->total;
    m->used = g->used;
    m->free = g->total - g->used;
    return 0;
}

struct utilization {
    unsigned gpu, memory;
};
int nvmlDeviceGetUtilizationRates(void *device, struct utilization *u)
{
    CALLED(index_of(device));
    u->gpu = g->util;
    u->memory = g->memutil;
    return 0;
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius)
{
    CALLED(index_of(device));
    if (sensor != 0)
        return INVALID_ARGUMENT;
    *celsius = g->temp;
    return 0;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts)
{
    CALLED(index_of(device));
    *milliwatts = g->power;
    return 0;
}

#ifdef FAKE_OLD
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *milliwatts)
#else
int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *milliwatts)
#endif
{
    CALLED(index_of(device));
    *milliwatts = g->limit;
    return 0;
}

#ifndef FAKE_OLD
struct field_value {
    unsigned field, scope;
    long long timestamp, latency;
    int type, result;
    unsigned long long value;
};
int nvmlDeviceGetFieldValues(void *device, int n, struct field_value *values)
{
    CALLED(index_of(device));
    for (int i = 0; i < n; i++) {
        values[i].result = values[i].field == 82 && g->has_memtemp ? 0 : NOT_SUPPORTED;
        values[i].value = g->memtemp;
    }
    return 0;
}

int nvmlDeviceGetTotalEccErrors(void *device, int type, int counter, unsigned long long *errors)
{
    CALLED(index_of(device));
    if (!g->has_ecc)
        return NOT_SUPPORTED;
    *errors = type == 1 && counter == 0 ? g->ecc : 0;
    return 0;
}

int nvmlDeviceGetRemappedRows(void *device, unsigned *corrected, unsigned *uncorrected,
                              unsigned *pending, unsigned *failed)
{
    CALLED(index_of(device));
    if (!g->has_remap)
        return NOT_SUPPORTED;
    *corrected = *uncorrected = *pending = 0;
    *failed = g->remap;
    return 0;
}
#endif

struct process_info {
    unsigned pid;
    unsigned long long bytes;
#ifndef FAKE_OLD
    unsigned gpu_instance, compute_instance;
#endif
};

static int processes_out(struct script *s, int gpu, bool graphics, unsigned *n,
                         struct process_info *to)
{
    unsigned there = 0;
    for (int i = 0; i < s->n_processes; i++)
        there += s->processes[i].gpu == gpu && s->processes[i].graphics == graphics;
    if (there > *n) {
        *n = there;
        return INSUFFICIENT_SIZE;
    }
    unsigned at = 0;
    for (int i = 0; i < s->n_processes; i++)
        if (s->processes[i].gpu == gpu && s->processes[i].graphics == graphics)
            to[at++] = (struct process_info){.pid = (unsigned)s->processes[i].pid,
                                             .bytes = s->processes[i].bytes};
    *n = at;
    struct gpu *g = gpu_at(s, gpu);
    if (g->has_named && !graphics)
        *n = g->named;
    return 0;
}

int VERSIONED(nvmlDeviceGetComputeRunningProcesses, _v3)(void *device, unsigned *n,
                                                         struct process_info *to)
{
    CALLED(index_of(device));
    return processes_out(&s, gpu, false, n, to);
}

int VERSIONED(nvmlDeviceGetGraphicsRunningProcesses, _v3)(void *device, unsigned *n,
                                                          struct process_info *to)
{
    CALLED(index_of(device));
    return processes_out(&s, gpu, true, n, to);
}
