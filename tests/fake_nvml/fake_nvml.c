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
 *   fact INDEX CALL VALUE [VALUE]   what CALL of a GPU gives; CALL/2: with the argument 2. A call
 *                                   without a fact is not supported
 *   mig INDEX K NAME                instance K of a GPU; its uuid is MIG- and the GPU's
 *   use INDEX PID SM                share of the multiprocessors of a process
 *   xid INDEX CODE                  reported once each time the file is written anew
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
#include <sys/stat.h>
#include <unistd.h>

enum {
    GPUS = 64,
    SLOTS = 128,
    FACTS = 512,
    NOT_SUPPORTED = 3,
    INVALID_ARGUMENT = 2,
    INSUFFICIENT_SIZE = 7
};

struct fact {
    int gpu;
    char call[64];
    unsigned long long values[2];
};

struct process {
    int gpu;
    char kind; /* as the lines begin: p, g, m */
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
    int n_processes, n_facts, n_migs, n_uses, n_xids, xids_told;
    struct process processes[SLOTS];
    struct fact facts[FACTS], uses[SLOTS];
    struct {
        int gpu, k;
        char name[96];
    } migs[SLOTS];
    struct {
        int gpu, code;
    } xids[SLOTS];
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
    const char *path = getenv("FAKE_NVML_SCRIPT");
    static struct stat known;
    struct stat st = {0};
    if (path != NULL && stat(path, &st) == 0 && st.st_ino == known.st_ino &&
        st.st_mtim.tv_sec == known.st_mtim.tv_sec && st.st_mtim.tv_nsec == known.st_mtim.tv_nsec)
        return;
    known = st;
    memset(s, 0, sizeof(*s));
    FILE *f = path != NULL ? fopen(path, "re") : NULL;
    char line[512], a[128], b[128], c[256];
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        unsigned long long x, y;
        int i, k;
        if (sscanf(line, "fact %d %63s %llu %llu", &i, a, &x, &y) >= 3 && s->n_facts < FACTS) {
            struct fact *fact = &s->facts[s->n_facts++];
            *fact = (struct fact){.gpu = i};
            snprintf(fact->call, sizeof(fact->call), "%.63s", a);
            sscanf(line, "fact %*d %*s %llu %llu", &fact->values[0], &fact->values[1]);
            gpu_at(s, i);
        } else if (sscanf(line, "mig %d %d %95[^\n]", &i, &k, c) == 3 && s->n_migs < SLOTS) {
            s->migs[s->n_migs].gpu = i;
            s->migs[s->n_migs].k = k;
            snprintf(s->migs[s->n_migs++].name, 96, "%.95s", c);
        } else if (sscanf(line, "use %d %llu %llu", &i, &x, &y) == 3 && s->n_uses < SLOTS) {
            s->uses[s->n_uses++] = (struct fact){.gpu = i, .values = {x, y}};
        } else if (sscanf(line, "xid %d %d", &i, &k) == 2 && s->n_xids < SLOTS) {
            s->xids[s->n_xids].gpu = i;
            s->xids[s->n_xids++].code = k;
        } else if (sscanf(line, "count %llu", &x) == 1) {
            s->count = (unsigned)x;
            s->has_count = true;
        } else if (sscanf(line, "gpu %d %127s %255[^\n]", &i, a, c) == 3) {
            gpu_set(s, gpu_at(s, i), a, c);
        } else if (sscanf(line, "process %d %llu %llu", &i, &x, &y) == 3 ||
                   sscanf(line, "graphics %d %llu %llu", &i, &x, &y) == 3 ||
                   sscanf(line, "mps %d %llu %llu", &i, &x, &y) == 3) {
            if (s->n_processes < SLOTS)
                s->processes[s->n_processes++] = (struct process){i, line[0], x, y};
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

/* A handle is the index plus one; of an instance, with its number plus one in the next byte. */
static int index_of(void *device)
{
    return (int)((uintptr_t)device & 0xff) - 1;
}

static int instance_of(void *device)
{
    return (int)((uintptr_t)device >> 8) - 1;
}

static struct script s;

#ifndef FAKE_OLD
static const struct fact *fact_find(const char *call, int argument, int gpu)
{
    char with[80];
    snprintf(with, sizeof(with), argument < 0 ? "%s" : "%s/%d", call, argument);
    for (int i = 0; i < s.n_facts; i++)
        if (s.facts[i].gpu == gpu && strcmp(s.facts[i].call, with) == 0)
            return &s.facts[i];
    return NULL;
}
#endif

#define CALLED(gpu_)                                                                               \
    (void)0;                                                                                       \
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
    for (int i = 0; i < s.n_migs; i++)
        if (s.migs[i].gpu == gpu && s.migs[i].k == instance_of(device))
            return text_out(s.migs[i].name, false, to, size);
    return text_out(g->name, s.noend_name, to, size);
}

int nvmlDeviceGetUUID(void *device, char *to, unsigned size)
{
    CALLED(index_of(device));
    if (instance_of(device) >= 0) {
        char uuid[128];
        snprintf(uuid, sizeof(uuid), "MIG-%s-%d", g->uuid, instance_of(device));
        return text_out(uuid, false, to, size);
    }
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
    const struct fact *fact = fact_find("nvmlDeviceGetTotalEccErrors", type * 10 + counter, gpu);
    if (fact != NULL) {
        *errors = fact->values[0];
        return 0;
    }
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

static int processes_out(struct script *script, int gpu, char kind, unsigned *n,
                         struct process_info *to)
{
    unsigned there = 0;
    for (int i = 0; i < script->n_processes; i++)
        there += script->processes[i].gpu == gpu && script->processes[i].kind == kind;
    if (there > *n) {
        *n = there;
        return INSUFFICIENT_SIZE;
    }
    unsigned at = 0;
    for (int i = 0; i < script->n_processes; i++)
        if (script->processes[i].gpu == gpu && script->processes[i].kind == kind)
            to[at++] = (struct process_info){.pid = (unsigned)script->processes[i].pid,
                                             .bytes = script->processes[i].bytes};
    *n = at;
    struct gpu *g = gpu_at(script, gpu);
    if (g->has_named && kind == 'p')
        *n = g->named;
    return 0;
}

/* A process of instance K of GPU I is in the script's list of GPU 100 * (I + 1) + K. */
static int list_of(void *device)
{
    int k = instance_of(device), i = index_of(device);
    return k < 0 ? i : 100 * (i + 1) + k;
}

int VERSIONED(nvmlDeviceGetComputeRunningProcesses, _v3)(void *device, unsigned *n,
                                                         struct process_info *to)
{
    CALLED(index_of(device));
    return processes_out(&s, list_of(device), 'p', n, to);
}

int VERSIONED(nvmlDeviceGetGraphicsRunningProcesses, _v3)(void *device, unsigned *n,
                                                          struct process_info *to)
{
    CALLED(index_of(device));
    return processes_out(&s, list_of(device), 'g', n, to);
}

#ifndef FAKE_OLD
int nvmlDeviceGetMPSComputeRunningProcesses_v3(void *device, unsigned *n, struct process_info *to)
{
    CALLED(index_of(device));
    return processes_out(&s, list_of(device), 'm', n, to);
}

struct process_use {
    unsigned pid;
    unsigned long long at;
    unsigned sm, memory, encoder, decoder;
};
int nvmlDeviceGetProcessUtilization(void *device, struct process_use *to, unsigned *n,
                                    unsigned long long since)
{
    CALLED(index_of(device));
    unsigned at = 0;
    for (int i = 0; i < s.n_uses && at < *n; i++)
        if (s.uses[i].gpu == gpu)
            to[at++] = (struct process_use){.pid = (unsigned)s.uses[i].values[0],
                                            .at = since + 1,
                                            .sm = (unsigned)s.uses[i].values[1]};
    *n = at;
    return at > 0 ? 0 : 6; /* not found: nobody did anything */
}

/* One function, one number, as the script's facts say. */
#define NUMBER(name)                                                                               \
    int name(void *device, unsigned *to)                                                           \
    {                                                                                              \
        CALLED(index_of(device));                                                                  \
        const struct fact *fact = fact_find(#name, -1, gpu);                                       \
        if (fact != NULL)                                                                          \
            *to = (unsigned)fact->values[0];                                                       \
        return fact != NULL ? 0 : NOT_SUPPORTED;                                                   \
    }
#define NUMBER_OF(name)                                                                            \
    int name(void *device, unsigned which, unsigned *to)                                           \
    {                                                                                              \
        CALLED(index_of(device));                                                                  \
        const struct fact *fact = fact_find(#name, (int)which, gpu);                               \
        if (fact != NULL)                                                                          \
            *to = (unsigned)fact->values[0];                                                       \
        return fact != NULL ? 0 : NOT_SUPPORTED;                                                   \
    }
#define WIDE(name)                                                                                 \
    int name(void *device, unsigned long long *to)                                                 \
    {                                                                                              \
        CALLED(index_of(device));                                                                  \
        const struct fact *fact = fact_find(#name, -1, gpu);                                       \
        if (fact != NULL)                                                                          \
            *to = fact->values[0];                                                                 \
        return fact != NULL ? 0 : NOT_SUPPORTED;                                                   \
    }
#define TWO(name)                                                                                  \
    int name(void *device, unsigned *first, unsigned *second)                                      \
    {                                                                                              \
        CALLED(index_of(device));                                                                  \
        const struct fact *fact = fact_find(#name, -1, gpu);                                       \
        if (fact != NULL) {                                                                        \
            *first = (unsigned)fact->values[0];                                                    \
            *second = (unsigned)fact->values[1];                                                   \
        }                                                                                          \
        return fact != NULL ? 0 : NOT_SUPPORTED;                                                   \
    }
NUMBER(nvmlDeviceGetFanSpeed)
NUMBER(nvmlDeviceGetPerformanceState)
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth)
NUMBER(nvmlDeviceGetPcieReplayCounter)
NUMBER(nvmlDeviceGetRetiredPagesPendingStatus)
NUMBER(nvmlDeviceGetComputeMode)
NUMBER(nvmlDeviceGetPersistenceMode)
NUMBER_OF(nvmlDeviceGetClockInfo)
NUMBER_OF(nvmlDeviceGetMaxClockInfo)
NUMBER_OF(nvmlDeviceGetTemperatureThreshold)
NUMBER_OF(nvmlDeviceGetPcieThroughput)
NUMBER_OF(nvmlDeviceGetNvLinkState)
NUMBER_OF(nvmlDeviceGetNvLinkVersion)
WIDE(nvmlDeviceGetCurrentClocksEventReasons)
WIDE(nvmlDeviceGetTotalEnergyConsumption)
TWO(nvmlDeviceGetEncoderUtilization)
TWO(nvmlDeviceGetDecoderUtilization)
TWO(nvmlDeviceGetPowerManagementLimitConstraints)
TWO(nvmlDeviceGetEccMode)
TWO(nvmlDeviceGetMigMode)

int nvmlDeviceGetNvLinkErrorCounter(void *device, unsigned link, int counter,
                                    unsigned long long *to)
{
    CALLED(index_of(device));
    const struct fact *fact = fact_find("nvmlDeviceGetNvLinkErrorCounter", (int)link * 10 + counter,
                                        gpu);
    *to = fact != NULL ? fact->values[0] : 0;
    return 0;
}

int nvmlDeviceGetRetiredPages(void *device, int cause, unsigned *n, unsigned long long *addresses)
{
    CALLED(index_of(device));
    const struct fact *fact = fact_find("nvmlDeviceGetRetiredPages", cause, gpu);
    if (fact == NULL)
        return NOT_SUPPORTED;
    *n = (unsigned)fact->values[0];
    return *n > 0 && addresses == NULL ? INSUFFICIENT_SIZE : 0;
}

int nvmlDeviceGetBAR1MemoryInfo(void *device, unsigned long long *to)
{
    CALLED(index_of(device));
    const struct fact *fact = fact_find("nvmlDeviceGetBAR1MemoryInfo", -1, gpu);
    if (fact == NULL)
        return NOT_SUPPORTED;
    to[0] = fact->values[0];
    to[1] = fact->values[0] - fact->values[1];
    to[2] = fact->values[1];
    return 0;
}

struct pci {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char name[32];
};
int nvmlDeviceGetPciInfo_v3(void *device, struct pci *to)
{
    CALLED(index_of(device));
    to->bus = 0xf0u + (unsigned)gpu;
    snprintf(to->name, sizeof(to->name), "00000000:%02X:00.0", to->bus);
    return 0;
}

int nvmlDeviceGetSerial(void *device, char *to, unsigned size)
{
    CALLED(index_of(device));
    return text_out("1324222000123", false, to, size);
}

int nvmlDeviceGetVbiosVersion(void *device, char *to, unsigned size)
{
    CALLED(index_of(device));
    return text_out("96.00.74.00.01", false, to, size);
}

int nvmlDeviceGetTopologyCommonAncestor(void *device, void *other, int *level)
{
    CALLED(index_of(device));
    *level = (gpu ^ index_of(other)) == 1 ? 10 : 50;
    return 0;
}

int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count)
{
    CALLED(index_of(device));
    const struct fact *fact = fact_find("nvmlDeviceGetMaxMigDeviceCount", -1, gpu);
    *count = fact != NULL ? (unsigned)fact->values[0] : 7;
    return 0;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned k, void **to)
{
    CALLED(index_of(device));
    for (int i = 0; i < s.n_migs; i++)
        if (s.migs[i].gpu == gpu && s.migs[i].k == (int)k) {
            *to = (void *)((uintptr_t)device | (uintptr_t)(k + 1) << 8);
            return 0;
        }
    return 6;
}

int nvmlEventSetCreate(void **set)
{
    CALLED(-1);
    *set = &s;
    return 0;
}

int nvmlDeviceGetSupportedEventTypes(void *device, unsigned long long *types)
{
    CALLED(index_of(device));
    *types = 0x1f;
    return 0;
}

int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set)
{
    CALLED(index_of(device));
    return types == 8 && set == &s ? 0 : INVALID_ARGUMENT;
}

struct event {
    void *device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};
int nvmlEventSetWait_v2(void *set, struct event *to, unsigned timeout_ms)
{
    CALLED(-1);
    (void)set, (void)timeout_ms;
    if (s.xids_told >= s.n_xids)
        return 10; /* timeout */
    *to = (struct event){.device = (void *)(uintptr_t)(s.xids[s.xids_told].gpu + 1),
                         .type = 8,
                         .data = (unsigned long long)s.xids[s.xids_told].code};
    s.xids_told++;
    return 0;
}
#endif
