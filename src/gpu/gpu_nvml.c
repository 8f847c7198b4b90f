/* Reads GPUs through NVIDIA's management library, loaded at run time, in the helper process.
 *
 * The few functions and structs used are declared here from the library's public reference: its C
 * interface is versioned by symbol (a _v2 or _v3 behind the name), and each row of symbols[] lists
 * the versions that this file can read, best first. What must stay true: no driver call without
 * saying so first (the program counts the time from there), and no buffer that a driver can
 * overrun by the layout of any published version. Values are passed on as told; the other side of
 * the socket judges them. */
#include "gpu/gpu_nvml_parts.h"

#include "base/mem.h"
#include "base/str.h"
#include "base/world.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    NVML_TEMPERATURE_OF_GPU = 0,
    NVML_ERRORS_UNCORRECTED = 1,
    NVML_COUNTER_SINCE_LOAD = 0,
    NVML_FIELD_MEMORY_TEMPERATURE = 82,
};
#define NVML_VALUE_NOT_AVAILABLE UINT64_MAX

struct nvml_memory_v1 {
    unsigned long long total, free, used;
};
struct nvml_memory_v2 {
    unsigned version;
    unsigned long long total, reserved, free, used;
};
struct nvml_utilization {
    unsigned gpu, memory;
};
struct nvml_process_v1 {
    unsigned pid;
    unsigned long long memory;
};
struct nvml_process_v2 { /* also of the _v3 functions */
    unsigned pid;
    unsigned long long memory;
    unsigned gpu_instance, compute_instance;
};
struct nvml_field_value {
    unsigned field, scope;
    long long timestamp, latency_us;
    int value_type, result;
    union {
        double real;
        int i32;
        unsigned u32;
        unsigned long u64;
        unsigned long long ull;
        long long i64;
    } value;
};

static const struct {
    bool needed;
    const char *names[3]; /* best first */
} symbols[SYMBOLS] = {
#define NVML_SYMBOL_ROW(id, needed, a, b, c) [SYM_##id] = {needed, {a, b, c}},
    NVML_SYMBOLS(NVML_SYMBOL_ROW)
#undef NVML_SYMBOL_ROW
};

/* The loader knows the first; the others are where some systems keep it. */
static const char *const library_paths[] = {
    "libnvidia-ml.so.1",
    "/usr/local/nvidia/lib64/libnvidia-ml.so.1",
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",
    "/run/opengl-driver/lib/libnvidia-ml.so.1",
};

enum {
    PROCESSES_ASKED = 4096,
    /* More than any published layout of one entry: for a time drivers wrote 32 bytes where their
     * own header said 24. */
    PROCESS_BYTES_MOST = 64,
    SLOW_EVERY_S = 10,
    SLOW_EVERY_ROUNDS = 10,
};

static const struct {
    int code;
    const char *text;
} code_texts[] = {
    {NVML_NOT_SUPPORTED, "not supported"},
    {NVML_NO_PERMISSION, "no permission"},
    {NVML_DRIVER_NOT_LOADED, GPU_NOTE_NO_DRIVER},
    {NVML_TIMEOUT, "the driver timed out"},
    {NVML_GPU_IS_LOST, "the GPU is lost: it fell off the bus; see the kernel log for its Xid and "
                       "restart the host"},
    {NVML_RESET_REQUIRED, "the GPU needs a reset: nvidia-smi --gpu-reset"},
    {NVML_LIB_RM_VERSION_MISMATCH, "the NVIDIA driver was upgraded while it was running: reload "
                                   "it or restart the host"},
};

void nvml_code_note(char note[GPU_NOTE_SIZE], const char *call, int code)
{
    for (size_t i = 0; i < ARRAY_LEN(code_texts); i++)
        if (code_texts[i].code == code) {
            snprintf(note, GPU_NOTE_SIZE, "%s", code_texts[i].text);
            return;
        }
    snprintf(note, GPU_NOTE_SIZE, "%s failed with NVML code %d", call, code);
}

bool nvml_enter(struct nvml *n, enum symbol s, int gpu)
{
    if (n->at[s] == NULL)
        return false;
    n->entering(n->name[s], gpu, n->starting);
    return true;
}

static bool library_load(struct nvml *n, char note[GPU_NOTE_SIZE])
{
    const char *own = getenv("DROVER_NVML_PATH");
    n->entering("dlopen", -1, true);
    if (own != NULL) {
        n->lib = dlopen(own, RTLD_LAZY | RTLD_LOCAL);
        if (n->lib == NULL)
            snprintf(note, GPU_NOTE_SIZE, "no NVIDIA driver: %s", dlerror());
        return n->lib != NULL;
    }
    snprintf(note, GPU_NOTE_SIZE, "%s", GPU_NOTE_NO_LIBRARY);
    for (size_t i = 0; i < ARRAY_LEN(library_paths) && n->lib == NULL; i++) {
        n->lib = dlopen(library_paths[i], RTLD_LAZY | RTLD_LOCAL);
        const char *why = n->lib == NULL ? dlerror() : NULL;
        if (why != NULL && strstr(why, "No such file") == NULL)
            snprintf(note, GPU_NOTE_SIZE, "the NVIDIA library cannot be loaded: %s", why);
    }
    return n->lib != NULL;
}

/* The driver names processes by the host's numbers: in a pid namespace of its own this program can
 * not tell what they are, and must not take them for dead. */
static bool pids_are_ours(void)
{
    char ns[64] = "";
    if (getenv("DROVER_GPU_PIDS") != NULL)
        return true;
    ssize_t n = readlink("/proc/self/ns/pid", ns, sizeof(ns) - 1);
    return n > 0 && strcmp(ns, "pid:[4026531836]") == 0; /* the first one of a kernel */
}

struct nvml *nvml_open(nvml_entering *entering, char note[GPU_NOTE_SIZE])
{
    struct nvml *n = mem_alloc(sizeof(*n));
    n->entering = entering;
    n->starting = true;
    n->processes = mem_alloc((size_t)PROCESSES_ASKED * PROCESS_BYTES_MOST);
    n->pids_known = pids_are_ours();
    if (!library_load(n, note)) {
        mem_free(n->processes);
        mem_free(n);
        return NULL;
    }
    for (int s = 0; s < SYMBOLS; s++) {
        for (int v = 0; v < 3 && symbols[s].names[v] != NULL && n->at[s] == NULL; v++) {
            n->at[s] = dlsym(n->lib, symbols[s].names[v]);
            n->name[s] = symbols[s].names[v];
            n->version[s] = v;
        }
        if (n->at[s] == NULL && symbols[s].needed) {
            snprintf(note, GPU_NOTE_SIZE, "the NVIDIA library has no %s", symbols[s].names[0]);
            n->at[SYM_SHUTDOWN] = NULL; /* never initialised */
            nvml_close(n);
            return NULL;
        }
    }
    int code = CALL(n, SYM_INIT, -1, (void));
    if (code != NVML_SUCCESS) {
        nvml_code_note(note, n->name[SYM_INIT], code);
        n->at[SYM_SHUTDOWN] = NULL;
        nvml_close(n);
        return NULL;
    }
    return n;
}

void nvml_close(struct nvml *n)
{
    n->starting = true; /* ending may take as long */
    (void)CALL(n, SYM_SHUTDOWN, -1, (void));
    dlclose(n->lib);
    for (int i = 0; i < GPU_MAX; i++)
        mem_free(n->slow[i]);
    mem_free(n->processes);
    mem_free(n);
}

int64_t nvml_count(struct nvml *n, char note[GPU_NOTE_SIZE])
{
    unsigned count = 0;
    n->starting = n->rounds++ == 0;
    int code = CALL(n, SYM_COUNT, -1, (unsigned *), &count);
    if (code == NVML_SUCCESS)
        return count;
    nvml_code_note(note, n->name[SYM_COUNT], code);
    return -1;
}

/* ---- one GPU ---- */

bool nvml_took(struct reading *r, enum symbol s, int code)
{
    if (code == NVML_SUCCESS)
        return true;
    if (code == NVML_GPU_IS_LOST || code == NVML_RESET_REQUIRED) {
        r->told->state = GPU_ERROR;
        nvml_code_note(r->told->note, r->n->name[s], code);
    }
    return false;
}

void nvml_read_text(struct reading *r, enum symbol s, char *to, size_t size)
{
    /* Twice the documented length and never trusted to end. */
    char text[256] = "";
    if (!nvml_took(r, s,
                   CALL(r->n, s, r->index, (void *, char *, unsigned), r->device, text,
                        (unsigned)(size < sizeof(text) ? size : sizeof(text)))))
        return;
    text[sizeof(text) - 1] = '\0';
    snprintf(to, size, "%s", text);
}

static int64_t mib(unsigned long long bytes)
{
    return (int64_t)(bytes >> 20);
}

static void read_memory(struct reading *r)
{
    int code;
    unsigned long long total = 0, used = 0;
    int64_t reserved = GPU_WIRE_ABSENT_VALUE;
    if (r->n->version[SYM_MEMORY] == 0) {
        struct nvml_memory_v2 m = {.version = (unsigned)sizeof(m) | 2u << 24};
        code = CALL(r->n, SYM_MEMORY, r->index, (void *, struct nvml_memory_v2 *), r->device, &m);
        total = m.total;
        used = m.used;
        reserved = mib(m.reserved);
    } else {
        struct nvml_memory_v1 m = {0};
        code = CALL(r->n, SYM_MEMORY, r->index, (void *, struct nvml_memory_v1 *), r->device, &m);
        total = m.total;
        used = m.used;
    }
    if (nvml_took(r, SYM_MEMORY, code)) {
        r->told->values[FIELD_MEMORY_TOTAL_MIB] = mib(total);
        r->told->values[FIELD_MEMORY_USED_MIB] = mib(used);
        r->told->numbers[GPU_MEMORY_RESERVED] = reserved;
    } else if (r->told->state == GPU_OK && code != NVML_NOT_SUPPORTED) {
        /* Everything else may be missing; a GPU whose memory cannot be read is of no use. */
        r->told->state = GPU_ERROR;
        nvml_code_note(r->told->note, r->n->name[SYM_MEMORY], code);
    }
}

static void read_load(struct reading *r)
{
    struct nvml_utilization u = {0};
    if (nvml_took(r, SYM_UTILIZATION,
                  CALL(r->n, SYM_UTILIZATION, r->index, (void *, struct nvml_utilization *),
                       r->device, &u))) {
        r->told->values[FIELD_UTILIZATION_PERCENT] = (int)u.gpu;
        r->told->values[FIELD_MEMORY_UTILIZATION_PERCENT] = (int)u.memory;
    }
}

static void read_heat(struct reading *r)
{
    unsigned value = 0;
    if (nvml_took(r, SYM_TEMPERATURE,
                  CALL(r->n, SYM_TEMPERATURE, r->index, (void *, int, unsigned *), r->device,
                       NVML_TEMPERATURE_OF_GPU, &value)))
        r->told->values[FIELD_TEMPERATURE_C] = (int)value;
    struct nvml_field_value f[2] = {{.field = NVML_FIELD_MEMORY_TEMPERATURE}};
    int code = CALL(r->n, SYM_FIELD_VALUES, r->index, (void *, int, struct nvml_field_value *),
                    r->device, 1, f);
    if (nvml_took(r, SYM_FIELD_VALUES, code) && f[0].result == NVML_SUCCESS)
        r->told->values[FIELD_MEMORY_TEMPERATURE_C] = f[0].value.i32;
    if (nvml_took(r, SYM_POWER,
                  CALL(r->n, SYM_POWER, r->index, (void *, unsigned *), r->device, &value)))
        r->told->values[FIELD_POWER_W] = ((int64_t)value + 500) / 1000;
    if (nvml_took(r, SYM_POWER_LIMIT,
                  CALL(r->n, SYM_POWER_LIMIT, r->index, (void *, unsigned *), r->device, &value)))
        r->told->values[FIELD_POWER_LIMIT_W] = ((int64_t)value + 500) / 1000;
}

static void read_health(struct reading *r)
{
    unsigned long long errors = 0;
    if (nvml_took(r, SYM_ECC,
                  CALL(r->n, SYM_ECC, r->index, (void *, int, int, unsigned long long *), r->device,
                       NVML_ERRORS_UNCORRECTED, NVML_COUNTER_SINCE_LOAD, &errors))) {
        r->told->values[FIELD_ECC_UNCORRECTED] = (int64_t)errors;
        if (errors > 0 && r->told->note[0] == '\0')
            snprintf(r->told->note, sizeof(r->told->note),
                     "%llu uncorrected memory errors since the driver was loaded", errors);
    }
    unsigned corrected = 0, uncorrected = 0, pending = 0, failed = 0;
    int code = CALL(r->n, SYM_REMAPPED_ROWS, r->index,
                    (void *, unsigned *, unsigned *, unsigned *, unsigned *), r->device, &corrected,
                    &uncorrected, &pending, &failed);
    if (!nvml_took(r, SYM_REMAPPED_ROWS, code))
        return;
    r->told->numbers[GPU_REMAPPED_CORRECTABLE] = corrected;
    r->told->numbers[GPU_REMAPPED_UNCORRECTABLE] = uncorrected;
    r->told->numbers[GPU_REMAPPED_PENDING] = pending;
    r->told->numbers[GPU_REMAPPED_FAILED] = failed;
    if (failed == 1) {
        r->told->state = GPU_ERROR;
        snprintf(r->told->note, sizeof(r->told->note),
                 "the GPU has no spare memory rows left to replace a bad one: exchange it");
    } else if (pending == 1 && r->told->state == GPU_OK) {
        snprintf(r->told->note, sizeof(r->told->note),
                 "bad memory rows wait for a reset to be replaced: nvidia-smi --gpu-reset");
    }
}

/* ---- processes ---- */

/* The kernel's short name: unlike cmdline it can be read without waiting for the process. */
static void process_name(struct gpu_process *p)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%lld/comm", (long long)p->pid);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, p->name, sizeof(p->name) - 1) : 0;
    if (n < 0)
        n = 0;
    if (n > 0 && p->name[n - 1] == '\n')
        n--;
    p->name[n] = '\0';
}

/* Keeps the largest, each pid once: a program that computes and draws is in both lists. */
static void process_keep(struct gpu_told *t, int64_t pid, int64_t memory_mib, char kind)
{
    for (int i = 0; i < t->n_processes; i++)
        if (t->processes[i].pid == pid) {
            t->processes_total--;
            if (t->processes[i].memory_mib >= memory_mib)
                return;
            t->n_processes--;
            memmove(&t->processes[i], &t->processes[i + 1],
                    (size_t)(t->n_processes - i) * sizeof(t->processes[0]));
            break;
        }
    int at = t->n_processes;
    while (at > 0 && t->processes[at - 1].memory_mib < memory_mib)
        at--;
    if (at == GPU_PROCESSES_MAX)
        return;
    if (t->n_processes < GPU_PROCESSES_MAX)
        t->n_processes++;
    memmove(&t->processes[at + 1], &t->processes[at],
            (size_t)(t->n_processes - 1 - at) * sizeof(t->processes[0]));
    t->processes[at] = (struct gpu_process){
        .pid = pid, .memory_mib = memory_mib, .sm_percent = GPU_UNKNOWN, .kind = kind};
}

/* A process may end between the driver's list and our look, so one is called dead only when two
 * rounds in a row name it and nothing of that number runs. */
static bool process_dead(struct nvml *n, int64_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%lld", (long long)pid);
    if (!n->pids_known || pid <= 0 || access(path, F_OK) == 0)
        return false;
    size_t oldest = 0;
    for (size_t i = 0; i < DEAD_SEEN_MAX; i++) {
        if (n->dead_seen[i].pid == pid && n->dead_seen[i].round >= n->rounds - 1) {
            bool before = n->dead_seen[i].round < n->rounds;
            if (before)
                n->dead_seen[i].round = n->rounds;
            return before;
        }
        if (n->dead_seen[i].round < n->dead_seen[oldest].round)
            oldest = i;
    }
    n->dead_seen[oldest].pid = pid;
    n->dead_seen[oldest].round = n->rounds;
    return false;
}

struct nvml_process_use {
    unsigned pid;
    unsigned long long at;
    unsigned sm, memory, encoder, decoder;
};

/* The newest share of each process since the last look. */
static void read_process_use(struct reading *r)
{
    enum { USES_MAX = 512 };
    static struct nvml_process_use uses[2 * USES_MAX]; /* more than is asked for */
    unsigned count = USES_MAX;
    unsigned long long newest = r->n->used_since[r->index];
    memset(uses, 0, sizeof(uses));
    int code = CALL(r->n, SYM_PROCESS_UTILIZATION, r->index,
                    (void *, struct nvml_process_use *, unsigned *, unsigned long long), r->device,
                    uses, &count, newest);
    if (!nvml_took(r, SYM_PROCESS_UTILIZATION, code))
        return;
    struct gpu_told *t = r->told;
    for (int k = 0; k < t->n_processes;
         k++) /* the library tells only of those that did something */
        t->processes[k].sm_percent = 0;
    for (unsigned i = 0; i < count && i < USES_MAX; i++) {
        newest = uses[i].at > newest ? uses[i].at : newest;
        for (int k = 0; k < t->n_processes; k++)
            if (t->processes[k].pid == uses[i].pid && uses[i].sm <= 100)
                t->processes[k].sm_percent = (int)uses[i].sm;
    }
    r->n->used_since[r->index] = newest;
}

static void read_processes(struct reading *r, enum symbol s, char kind)
{
    unsigned char *list = r->n->processes;
    unsigned count = PROCESSES_ASKED;
    memset(list, 0, (size_t)PROCESSES_ASKED * PROCESS_BYTES_MOST);
    int code = CALL(r->n, s, r->index, (void *, unsigned *, void *), r->device, &count, list);
    if (!nvml_took(r, s, code)) {
        if (code == NVML_INSUFFICIENT_SIZE)
            r->told->processes_total += count;
        return;
    }
    r->told->processes_total += count;
    if (count > PROCESSES_ASKED) {
        snprintf(r->told->note, sizeof(r->told->note),
                 "the driver named %u processes where %d were asked for", count, PROCESSES_ASKED);
        count = PROCESSES_ASKED;
    }
    bool first_layout = r->n->version[s] == 2;
    for (unsigned i = 0; i < count; i++) {
        unsigned pid;
        unsigned long long memory;
        if (first_layout) {
            struct nvml_process_v1 p;
            memcpy(&p, list + i * sizeof(p), sizeof(p));
            pid = p.pid;
            memory = p.memory;
        } else {
            struct nvml_process_v2 p;
            memcpy(&p, list + i * sizeof(p), sizeof(p));
            pid = p.pid;
            memory = p.memory;
        }
        process_keep(r->told, pid,
                     memory == NVML_VALUE_NOT_AVAILABLE ? GPU_WIRE_ABSENT_VALUE : mib(memory),
                     kind);
    }
}

static void read_versions(struct reading *r)
{
    char text[256] = "";
    if (CALL(r->n, SYM_DRIVER_VERSION, -1, (char *, unsigned), text, 80u) == NVML_SUCCESS) {
        text[sizeof(text) - 1] = '\0';
        snprintf(r->told->driver, sizeof(r->told->driver), "%s", text);
    }
    int version = 0; /* 12040 is 12.4 */
    if (CALL(r->n, SYM_CUDA_VERSION, -1, (int *), &version) == NVML_SUCCESS && version > 0)
        snprintf(r->told->cuda, sizeof(r->told->cuda), "%d.%d", version / 1000,
                 version % 1000 / 10);
}

/* All processes of the GPU or instance, with what the kernel knows about them. */
static void read_all_processes(struct reading *r)
{
    static const struct {
        enum symbol symbol;
        char kind;
    } lists[] = {{SYM_COMPUTE, 'C'}, {SYM_GRAPHICS, 'G'}, {SYM_MPS, 'M'}};
    for (size_t i = 0; i < ARRAY_LEN(lists) && r->told->state == GPU_OK; i++)
        read_processes(r, lists[i].symbol, lists[i].kind);
    for (int i = 0; i < r->told->n_processes; i++) {
        struct gpu_process *p = &r->told->processes[i];
        if (r->n->pids_known)
            process_name(p);
        p->dead = process_dead(r->n, p->pid);
    }
}

/* What seldom changes is read anew after some time, and kept between. */
static void begin_told(struct reading *r)
{
    struct nvml *n = r->n;
    int i = r->index;
    int64_t now = mono_us();
    bool due = n->slow_at_us[i] == 0 || now - n->slow_at_us[i] > SLOW_EVERY_S * US_PER_S ||
               n->rounds % SLOW_EVERY_ROUNDS == 0;
    if (!due) {
        *r->told = *n->slow[i];
        return;
    }
    nvml_read_slow(r);
    if (r->told->state != GPU_OK)
        return; /* read again next time */
    if (n->slow[i] == NULL)
        n->slow[i] = mem_alloc(sizeof(*n->slow[i]));
    *n->slow[i] = *r->told;
    n->slow_at_us[i] = now;
}

bool nvml_read(struct nvml *n, int index, struct gpu_told *told)
{
    gpu_told_init(told, index);
    struct reading r = {.n = n, .index = index, .told = told};
    n->devices[index] = NULL;
    int code = CALL(n, SYM_HANDLE, index, (unsigned, void **), (unsigned)index, &r.device);
    if (code == NVML_INVALID_ARGUMENT || code == NVML_NOT_FOUND)
        return false;
    if (code != NVML_SUCCESS) {
        read_versions(&r);
        told->state = GPU_ERROR;
        nvml_code_note(told->note, n->name[SYM_HANDLE], code);
        return true;
    }
    n->devices[index] = r.device;
    begin_told(&r);
    read_versions(&r);
    nvml_read_text(&r, SYM_NAME, told->name, sizeof(told->name));
    nvml_read_text(&r, SYM_UUID, told->uuid, sizeof(told->uuid));
    /* One call after the other as long as the GPU is there. */
    static void (*const steps[])(struct reading *) = {
        read_memory,    read_load,          read_heat,       read_health,
        nvml_read_more, read_all_processes, read_process_use};
    for (size_t i = 0; i < ARRAY_LEN(steps) && told->state == GPU_OK; i++)
        steps[i](&r);
    return true;
}

/* "NVIDIA A100-SXM4-40GB MIG 1g.5gb" */
static void split_profile(struct gpu_told *t)
{
    char *mig = strstr(t->name, " MIG ");
    if (mig == NULL)
        return;
    snprintf(t->profile, sizeof(t->profile), "%s", mig + 5);
}

int nvml_read_instances(struct nvml *n, int index, struct gpu_told *told,
                        void (*each)(const struct gpu_told *t))
{
    unsigned on[4] = {0}, next[4] = {0}, most[4] = {0};
    void *device = n->devices[index];
    if (device == NULL ||
        CALL(n, SYM_MIG_MODE, index, (void *, unsigned *, unsigned *), device, on, next) !=
            NVML_SUCCESS ||
        on[0] != 1 ||
        CALL(n, SYM_MIG_COUNT, index, (void *, unsigned *), device, most) != NVML_SUCCESS)
        return 0;
    int found = 0;
    for (unsigned k = 0; k < most[0] && k < GPU_MIG_MAX; k++) {
        gpu_told_init(told, (index + 1) * GPU_MIG_STEP + (int)k);
        told->parent = index;
        struct reading r = {.n = n, .index = index, .told = told};
        if (CALL(n, SYM_MIG_HANDLE, index, (void *, unsigned, void **), device, k, &r.device) !=
            NVML_SUCCESS)
            continue; /* places without an instance are usual */
        read_versions(&r);
        nvml_read_text(&r, SYM_NAME, told->name, sizeof(told->name));
        nvml_read_text(&r, SYM_UUID, told->uuid, sizeof(told->uuid));
        split_profile(told);
        read_memory(&r);
        if (told->state == GPU_OK)
            read_all_processes(&r);
        each(told);
        found++;
    }
    return found;
}
