/* GPU sources: simulated cards, the table of types, and NVIDIA's library through a stand-in that
 * hangs, crashes and lies on command. */
#include "base/mem.h"
#include "base/str.h"
#include "base/world.h"
#include "gpu/gpu.h"
#include "gpu/gpu_types.h"
#include "gpu/gpu_wire.h"

#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* One for all tests: half a megabyte. */
static struct gpu_sample sample;

/* ---- types ---- */

TEST(type_names_find_their_row)
{
    static const struct {
        const char *name, *type;
    } rows[] = {
        {"NVIDIA GeForce RTX 4090", "RTX4090"},
        {"RTX4090", "RTX4090"},
        {"rtx 4090", "RTX4090"},
        {"4090", "RTX4090"},
        {"GeForce-RTX-4090", "RTX4090"},
        {"NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 Laptop GPU"},
        {"NVIDIA GeForce RTX 3090", "RTX3090"},
        {"NVIDIA GeForce RTX 3090 Ti", "RTX3090TI"},
        {"NVIDIA GeForce RTX 4080 SUPER", "RTX4080SUPER"},
        {"NVIDIA A100-SXM4-80GB", "A100"},
        {"NVIDIA A100-SXM4-40GB", "A100"},
        {"NVIDIA A100-PCIE-40GB", "A100"},
        {"NVIDIA A100 80GB PCIe", "A100"},
        {"a100", "A100"},
        {"NVIDIA A10", "A10"},
        {"NVIDIA A10G", "A10G"},
        {"NVIDIA H100 80GB HBM3", "H100"},
        {"NVIDIA H100 PCIe", "H100"},
        {"NVIDIA H100 NVL", "H100"},
        {"NVIDIA H200", "H200"},
        {"NVIDIA GH200 480GB", "GH200"},
        {"NVIDIA B200", "B200"},
        {"Tesla V100-SXM2-32GB", "V100"},
        {"Tesla V100-DGXS-32GB", "V100"},
        {"Tesla T4", "T4"},
        {"NVIDIA L4", "L4"},
        {"NVIDIA L40S", "L40S"},
        {"Tesla P100-PCIE-16GB", "P100"},
        {"NVIDIA RTX A6000", "A6000"},
        {"RTX A6000", "A6000"},
        {"A6000", "A6000"},
        {"NVIDIA RTX A5000", "A5000"},
        {"NVIDIA RTX A4000", "A4000"},
        {"NVIDIA RTX 6000 Ada Generation", "RTX6000ADA"},
        {"Quadro RTX 6000", "RTX6000"},
        {"NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTXPRO6000"},
        {"AMD Instinct MI300X", "MI300X"},
        {"AMD Instinct MI250X / MI250", "MI250X"},
        {"mi250", "MI250"},
        {"AMD Radeon RX 7900 XTX", "RX7900XTX"},
        {"  Ascend 910B ", "Ascend 910B"},
        {"", ""},
        {"NVIDIA", "NVIDIA"},
    };
    char type[GPU_TYPE_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        CHECK_STR(gpu_type_of(rows[i].name, type), rows[i].type);
    for (size_t i = 0; gpu_type_at(i) != NULL; i++)
        CHECK_STR(gpu_type_of(gpu_type_at(i), type), gpu_type_at(i));
    CHECK(gpu_type_same("nvidia geforce rtx 4090", "4090"));
    CHECK(!gpu_type_same("4090", "4080"));
    CHECK(gpu_type_same("Ascend 910B", "ascend-910b"));
    CHECK(!gpu_type_same("NVIDIA", "AMD"));
    CHECK_INT(gpu_type_memory_gib("NVIDIA GeForce RTX 4090"), 24);
    CHECK_INT(gpu_type_memory_gib("A100"), 0);
    /* A name in place of itself, and one too long to keep, cut at a character. */
    char own[GPU_TYPE_SIZE] = " Biren BR100 ";
    CHECK_STR(gpu_type_of(own, own), "Biren BR100");
    char longer[400] = "";
    for (int i = 0; i < 100; i++)
        memcpy(longer + 3 * i, "\xe5\x8d\xa1", 4);
    CHECK_INT(strlen(gpu_type_of(longer, type)), 93);
}

/* ---- sources in general ---- */

TEST(wrong_specs_are_refused)
{
    static const char *const bad[] = {"",           "cuda",          "simulated:0", "simulated:65",
                                      "simulated:", "simulated:two", "nvml:1",      "none:1",
                                      "simulatedd", "simulated:4x"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err e = {0};
        CHECK(gpu_source_open(bad[i], &e) == NULL);
        CHECK_INT(e.kind, ERR_INVALID);
        CHECK(e.text[0] != '\0');
    }
}

TEST(none_says_so)
{
    struct err e;
    AUTO(gpu_source) struct gpu_source *src = gpu_source_open("none", &e);
    gpu_sample(src, &sample);
    CHECK(sample.ready && !sample.simulated);
    CHECK_INT(sample.n, 0);
    CHECK(strstr(sample.note, "switched off") != NULL);
}

/* ---- simulated ---- */

static int64_t fake_us;
static int64_t fake_now(void)
{
    return fake_us;
}
static void no_random(void *to, size_t n)
{
    (void)to, (void)n;
    abort();
}
static const struct world fake_world = {fake_now, fake_now, no_random};

static bool between(int64_t v, int64_t least, int64_t most)
{
    if (v < least || v > most)
        printf("# %lld is not in %lld .. %lld\n", (long long)v, (long long)least, (long long)most);
    return v >= least && v <= most;
}

TEST(simulated_load_follows_the_held_gpus)
{
    struct err e;
    world_set(&fake_world);
    fake_us = INT64_C(1764000000) * US_PER_S;
    struct gpu_source *src = gpu_source_open("simulated:3:here", &e);
    gpu_sample(src, &sample);
    CHECK(sample.ready && sample.simulated);
    CHECK_INT(sample.n, 3);
    CHECK_INT(sample.at_us, fake_us);
    int64_t first_memory = 0;
    int moved = 0;
    for (int minute = 0; minute < 60; minute++, fake_us += 60 * US_PER_S) {
        gpu_sample(src, &sample);
        for (int i = 0; i < 3; i++) {
            const struct gpu_facts *g = &sample.gpus[i];
            CHECK_STR(g->name, "NVIDIA GeForce RTX 4090");
            CHECK(strstr(g->note, "simulated") != NULL && strcmp(g->driver, "simulated") == 0);
            CHECK_INT(g->memory_total_mib, 24576);
            CHECK(between(g->utilization_percent, 0, 2));
            CHECK(between(g->temperature_c, 30, 35));
            CHECK(between(g->power_w, 20, 25));
            CHECK(between(g->memory_used_mib, 380, 440));
        }
        moved += minute > 0 && sample.gpus[0].memory_used_mib != first_memory;
        first_memory = sample.gpus[0].memory_used_mib;
    }
    CHECK(moved > 10); /* charts move */

    gpu_source_held(src, (const int[]){1, 7, -3}, 3);
    int64_t memory = sample.gpus[1].memory_used_mib;
    int last_temperature = sample.gpus[1].temperature_c;
    for (int s = 0; s <= 600; s++, fake_us += US_PER_S) {
        gpu_sample(src, &sample);
        const struct gpu_facts *g = &sample.gpus[1];
        CHECK(sample.gpus[0].utilization_percent <= 2 && sample.gpus[2].power_w <= 25);
        CHECK(abs(g->temperature_c - last_temperature) <= 4); /* heat lags */
        if (s < 6)
            CHECK(g->memory_used_mib >= memory && g->temperature_c < 60);
        if (s == 1)
            CHECK(between(g->utilization_percent, 10, 80));
        if (s >= 8) {
            CHECK(between(g->utilization_percent, 85, 99));
            CHECK(between(g->memory_used_mib, 8192, 20480));
            CHECK(between(g->power_w, 300, 430));
        }
        if (s > 120)
            CHECK(between(g->temperature_c, 65, 78));
        memory = g->memory_used_mib;
        last_temperature = g->temperature_c;
    }
    gpu_source_held(src, NULL, 0);
    fake_us += US_PER_S;
    gpu_sample(src, &sample);
    CHECK(sample.gpus[1].temperature_c > 60); /* still hot */
    fake_us += 300 * US_PER_S;
    gpu_sample(src, &sample);
    CHECK(between(sample.gpus[1].temperature_c, 30, 35));
    CHECK(between(sample.gpus[1].memory_used_mib, 380, 440));
    CHECK(between(sample.gpus[1].power_w, 20, 25));
    gpu_source_close(src);
    world_set(NULL);
}

TEST(simulated_is_a_function_of_the_clock)
{
    struct err e;
    static struct gpu_sample again;
    world_set(&fake_world);
    fake_us = INT64_C(1764000000) * US_PER_S;
    struct gpu_source *a = gpu_source_open("simulated:64:x", &e);
    struct gpu_source *b = gpu_source_open("simulated:64:x", &e);
    struct gpu_source *c = gpu_source_open("simulated:64:y", &e);
    fake_us += 5 * US_PER_S;
    gpu_source_held(a, (const int[]){0, 5}, 2);
    gpu_source_held(b, (const int[]){5, 0}, 2);
    gpu_source_held(b, (const int[]){0, 5, 5}, 3); /* the same again changes nothing */
    fake_us += 3 * US_PER_S;
    memset(&sample, 0, sizeof(sample));
    memset(&again, 0, sizeof(again));
    gpu_sample(a, &sample);
    gpu_sample(b, &again);
    CHECK_INT(sample.n, 64);
    CHECK(memcmp(&sample, &again, sizeof(sample)) == 0);
    gpu_sample(c, &again);
    for (int i = 0; i < 64; i++) /* another host has other cards */
        for (int k = 0; k < 64; k++)
            CHECK(strcmp(sample.gpus[i].uuid, again.gpus[k].uuid) != 0);
    gpu_source_close(a);
    gpu_source_close(b);
    gpu_source_close(c);
    world_set(NULL);
}

/* ---- the helper's packets ---- */

static uint64_t seed = 1;
static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static bool text_good(const char *s, size_t size)
{
    size_t n = strnlen(s, size);
    if (n == size || utf8_len(s, n) == (size_t)-1)
        return false;
    for (; *s != '\0'; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            return false;
    return true;
}

/* What gpu.h promises of every GPU, whatever a driver said. */
static bool facts_good(const struct gpu_facts *g)
{
    bool good = g->index >= 0 && g->index <= GPU_INDEX_MOST && (int)g->state >= GPU_OK &&
                g->state <= GPU_DRIVER_HUNG && g->memory_total_mib >= -1 &&
                g->memory_total_mib <= 1 << 24 && g->memory_used_mib >= -1 &&
                g->memory_used_mib <= g->memory_total_mib && g->utilization_percent >= -1 &&
                g->utilization_percent <= 100 && g->memory_utilization_percent >= -1 &&
                g->memory_utilization_percent <= 100 && g->temperature_c >= -1 &&
                g->temperature_c <= 200 && g->memory_temperature_c >= -1 &&
                g->memory_temperature_c <= 200 && g->power_w >= -1 && g->power_w <= 10000 &&
                g->power_limit_w >= -1 && g->power_limit_w <= 10000 && g->ecc_uncorrected >= -1 &&
                g->parent >= -1 && g->parent < GPU_MAX && g->n_links >= 0 &&
                g->n_links <= GPU_LINKS_MAX && g->n_xids >= 0 && g->n_xids <= GPU_XIDS_MAX &&
                text_good(g->serial, sizeof(g->serial)) && text_good(g->vbios, sizeof(g->vbios)) &&
                text_good(g->bus, sizeof(g->bus)) && text_good(g->profile, sizeof(g->profile)) &&
                text_good(g->topology, sizeof(g->topology)) && g->n_processes >= 0 &&
                g->n_processes <= GPU_PROCESSES_MAX && g->processes_total >= g->n_processes &&
                text_good(g->uuid, sizeof(g->uuid)) && text_good(g->name, sizeof(g->name)) &&
                text_good(g->driver, sizeof(g->driver)) && text_good(g->cuda, sizeof(g->cuda)) &&
                text_good(g->note, sizeof(g->note));
    for (int i = 0; i < GPU_NUMBERS && good; i++)
        good = g->numbers[i] >= GPU_UNKNOWN && g->numbers[i] <= gpu_numbers[i].most;
    for (int i = 0; i < g->n_processes && good; i++)
        good = g->processes[i].sm_percent >= -1 && g->processes[i].sm_percent <= 100 &&
               g->processes[i].pid > 0 && g->processes[i].memory_mib >= -1 &&
               text_good(g->processes[i].name, sizeof(g->processes[i].name));
    return good;
}

static struct gpu_wire_message message;

static size_t full_packet(uint8_t *to)
{
    static struct gpu_told t;
    gpu_told_init(&t, 3);
    t.state = GPU_OK;
    for (int i = 0; i < GPU_FIELDS; i++)
        t.values[i] = 10 + i;
    t.values[FIELD_MEMORY_TOTAL_MIB] = 24564;
    t.values[FIELD_MEMORY_TEMPERATURE_C] = GPU_WIRE_ABSENT_VALUE;
    for (int i = 0; i < GPU_NUMBERS; i++)
        t.numbers[i] = 1;
    t.numbers[GPU_FAN] = GPU_WIRE_ABSENT_VALUE;
    t.numbers[GPU_ENERGY] = INT64_C(1) << 60;
    t.n_links = 2;
    t.links[0] = (struct gpu_link){true, 4, 1, 2, 3, GPU_UNKNOWN};
    snprintf(t.serial, sizeof(t.serial), "13242");
    snprintf(t.topology, sizeof(t.topology), "PX.");
    snprintf(t.uuid, sizeof(t.uuid), "GPU-1");
    snprintf(t.name, sizeof(t.name), "NVIDIA H100");
    snprintf(t.driver, sizeof(t.driver), "550.1");
    snprintf(t.cuda, sizeof(t.cuda), "12.4");
    snprintf(t.note, sizeof(t.note), "well");
    t.processes_total = 70;
    for (t.n_processes = 0; t.n_processes < GPU_PROCESSES_MAX; t.n_processes++) {
        struct gpu_process *p = &t.processes[t.n_processes];
        p->pid = 1000 + t.n_processes;
        p->memory_mib = t.n_processes == 5 ? GPU_WIRE_ABSENT_VALUE : 100;
        p->sm_percent = t.n_processes;
        p->kind = 'M';
        p->dead = t.n_processes == 7;
        snprintf(p->name, sizeof(p->name), "python3");
    }
    return gpu_wire_gpu(to, 77, &t);
}

TEST(wire_reads_back_what_was_written)
{
    uint8_t p[GPU_WIRE_MAX];
    size_t n = full_packet(p);
    CHECK(gpu_wire_decode(p, n, &message));
    CHECK_INT(message.type, GPU_WIRE_GPU);
    CHECK_INT(message.round, 77);
    const struct gpu_facts *g = &message.facts;
    CHECK_INT(g->index, 3);
    CHECK_INT(g->memory_total_mib, 24564);
    CHECK_INT(g->memory_used_mib, 10 + FIELD_MEMORY_USED_MIB);
    CHECK_INT(g->power_limit_w, 10 + FIELD_POWER_LIMIT_W);
    CHECK_INT(g->memory_temperature_c, GPU_UNKNOWN);
    CHECK_STR(g->uuid, "GPU-1");
    CHECK_STR(g->name, "NVIDIA H100");
    CHECK_STR(g->driver, "550.1");
    CHECK_STR(g->cuda, "12.4");
    CHECK_STR(g->note, "well");
    CHECK_INT(g->n_processes, 64);
    CHECK_INT(g->processes_total, 70);
    CHECK_INT(g->processes[5].memory_mib, GPU_UNKNOWN);
    CHECK_INT(g->processes[63].pid, 1063);
    CHECK_STR(g->processes[63].name, "python3");
    CHECK_INT(g->processes[63].sm_percent, 63);
    CHECK_INT(g->processes[63].kind, 'M');
    CHECK(g->processes[7].dead && !g->processes[8].dead);
    CHECK_INT(g->numbers[GPU_FAN], GPU_UNKNOWN);
    CHECK_INT(g->numbers[GPU_ENERGY], INT64_C(1) << 60);
    CHECK_INT(g->parent, -1);
    CHECK_INT(g->n_links, 2);
    CHECK(g->links[0].active && g->links[0].flit_crc == 3 && g->links[0].data_crc == GPU_UNKNOWN);
    CHECK_STR(g->serial, "13242");
    CHECK_STR(g->topology, "PX.");
    CHECK(facts_good(g));

    n = gpu_wire_call(p, "nvmlInit_v2", -1, true);
    CHECK(gpu_wire_decode(p, n, &message) && message.type == GPU_WIRE_CALL && message.gpu == -1);
    CHECK(message.starting);
    CHECK_STR(message.call, "nvmlInit_v2");
    n = gpu_wire_end(p, 5, 1000, "x");
    CHECK(gpu_wire_decode(p, n, &message) && message.type == GPU_WIRE_END && message.told == 1000);
    n = gpu_wire_absent(p, "gone");
    CHECK(gpu_wire_decode(p, n, &message) && message.type == GPU_WIRE_ABSENT);
    CHECK_STR(message.note, "gone");
    uint8_t ask[GPU_WIRE_ASK_SIZE];
    uint32_t round = 0;
    uint64_t skip = 0;
    CHECK(gpu_wire_ask_decode(ask, gpu_wire_ask(ask, 0xfffffffe, UINT64_MAX - 1), &round, &skip));
    CHECK_INT(round, 0xfffffffe);
    CHECK(skip == UINT64_MAX - 1);
    CHECK(!gpu_wire_ask_decode(ask, 5, &round, &skip));
    n = gpu_wire_xid(p, 3, 79);
    CHECK(gpu_wire_decode(p, n, &message) && message.type == GPU_WIRE_XID && message.gpu == 3);
    CHECK_INT(message.xid, 79);
    CHECK(!gpu_wire_decode(p, gpu_wire_xid(p, 64, 79), &message));
    CHECK(!gpu_wire_decode(p, gpu_wire_xid(p, 3, -1), &message));
}

TEST(wire_survives_any_bytes)
{
    uint8_t whole[GPU_WIRE_MAX];
    size_t n = full_packet(whole);
    /* Every cut of a packet is refused; malloc'ed to its size so that a read beyond it is seen. */
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *p = malloc(cut + 1);
        memcpy(p, whole, cut);
        CHECK(!gpu_wire_decode(p, cut, &message));
        free(p);
    }
    whole[n] = 0;
    CHECK(!gpu_wire_decode(whole, n + 1, &message)); /* nothing may be left over */
    int taken = 0;
    for (int i = 0; i < 20000; i++) {
        uint8_t *p = malloc(n);
        memcpy(p, whole, n);
        int flips = 1 + (int)(next_random() % 8);
        for (int k = 0; k < flips; k++)
            p[next_random() % (k % 2 == 0 ? n : 120)] = (uint8_t)next_random();
        if (gpu_wire_decode(p, n, &message)) {
            taken++;
            if (message.type == GPU_WIRE_GPU && !facts_good(&message.facts))
                FAIL_("a packet of flip %d was taken with values out of bounds", i);
        }
        free(p);
    }
    CHECK(taken > 1000);
    for (int i = 0; i < 20000; i++) {
        size_t len = next_random() % 200;
        uint8_t *p = malloc(len + 1);
        for (size_t k = 0; k < len; k++)
            p[k] = (uint8_t)next_random();
        if (len > 1) {
            p[0] = (uint8_t)(1 + next_random() % 5);
            p[1] = GPU_WIRE_VERSION;
        }
        if (gpu_wire_decode(p, len, &message) && message.type != GPU_WIRE_GPU)
            CHECK(text_good(message.note, sizeof(message.note)) &&
                  text_good(message.call, sizeof(message.call)));
        free(p);
    }
}

/* ---- NVML through the stand-in ---- */

static char script_path[] = "/tmp/drover-gpu-test.XXXXXX/script";

/* Replaces the script in one step. */
static void script(const char *text)
{
    char temporary[64];
    snprintf(temporary, sizeof(temporary), "%s.new", script_path);
    FILE *f = fopen(temporary, "we");
    if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0 || rename(temporary, script_path) != 0)
        abort();
}

static bool is_helper(pid_t pid, pid_t parent, char *state)
{
    char path[64], line[512], *end;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    bool read_it = f != NULL && fgets(line, sizeof(line), f) != NULL;
    if (f != NULL)
        fclose(f);
    int ppid = 0;
    if (!read_it || (end = strrchr(line, ')')) == NULL ||
        sscanf(end + 1, " %c %d", state, &ppid) != 2)
        return false;
    /* The name is its own only after its first instructions; the parent is right from the start. */
    return ppid == parent;
}

/* Children of a process; the last one's pid in *pid. Zombies count: they are not gone. */
static int helpers_of(pid_t parent, pid_t *pid)
{
    DIR *d = opendir("/proc");
    int n = 0;
    for (struct dirent *f; (f = readdir(d)) != NULL;) {
        int64_t id;
        char state;
        if (str_int(f->d_name, &id) && is_helper((pid_t)id, parent, &state)) {
            n++;
            if (pid != NULL)
                *pid = (pid_t)id;
        }
    }
    closedir(d);
    return n;
}

static int helpers(pid_t *pid)
{
    return helpers_of(getpid(), pid);
}

static int64_t slowest_us;
static int taken, taken_slowly;

/* The promise to the caller: at once, whatever the driver does. */
static void take(struct gpu_source *src)
{
    int64_t from = mono_us();
    gpu_sample(src, &sample);
    int64_t took = mono_us() - from;
    if (took > slowest_us)
        slowest_us = took;
    taken++;
    taken_slowly += took > 5 * US_PER_MS;
    for (int i = 0; i < sample.n; i++)
        if (!facts_good(&sample.gpus[i]))
            FAIL_("GPU %d is out of bounds", i);
    CHECK(helpers(NULL) <= 1);
}

/* Samples until cond holds, at most for some seconds; true if it came to hold. */
#define UNTIL(src, seconds, cond)                                                                  \
    ({                                                                                             \
        int64_t until_ = mono_us() + (seconds)*US_PER_S;                                           \
        bool held_ = false;                                                                        \
        do {                                                                                       \
            take(src);                                                                             \
            held_ = (cond);                                                                        \
            if (!held_)                                                                            \
                usleep(10000);                                                                     \
        } while (!held_ && mono_us() < until_);                                                    \
        if (!held_)                                                                                \
            FAIL_("not within %d s: %s (note: %s)", (seconds), #cond, sample.note);                \
        held_;                                                                                     \
    })

static struct gpu_source *open_fast(void)
{
    struct err e;
    struct gpu_source *src = gpu_source_open("nvml", &e);
    gpu_source_interval(src, 30);
    slowest_us = taken = taken_slowly = 0;
    return src;
}

static void close_clean(struct gpu_source *src)
{
    gpu_source_close(src);
    CHECK_INT(helpers(NULL), 0);
    /* At once; the few that a busy machine set aside in the middle stay far below a deadline. */
    CHECK(taken_slowly <= 2 + taken / 50);
    CHECK(slowest_us < 250 * US_PER_MS);
    if (taken_slowly > 0)
        printf("# %d of %d samples took more than 5 ms, the slowest %lld us\n", taken_slowly, taken,
               (long long)slowest_us);
}

static const char two_gpus[] = "gpu 0 util 98\n"
                               "gpu 0 memutil 61\n"
                               "gpu 0 used 20971520000\n"
                               "gpu 0 temp 78\n"
                               "gpu 0 power 420400\n"
                               "gpu 1 name NVIDIA H100 80GB HBM3\n"
                               "gpu 1 total 85520809984\n"
                               "gpu 1 memtemp 52\n"
                               "gpu 1 ecc 0\n"
                               "gpu 1 limit 700000\n";

TEST(nvml_values_arrive)
{
    char text[2048];
    snprintf(text, sizeof(text),
             "%sprocess 0 %d 1073741824\nprocess 0 4000000 2147483648\n"
             "graphics 0 %d 1073741824\nprocess 1 77 18446744073709551615\n",
             two_gpus, (int)getpid(), (int)getpid());
    script(text);
    struct gpu_source *src = open_fast();
    if (UNTIL(src, 10, sample.ready && sample.n == 2)) {
        const struct gpu_facts *g = &sample.gpus[0];
        CHECK(!sample.simulated);
        CHECK_STR(sample.note, "");
        CHECK(sample.at_us > 0 && now_us() - sample.at_us < 60 * US_PER_S);
        CHECK_STR(g->name, "NVIDIA GeForce RTX 4090");
        CHECK_STR(g->uuid, "GPU-fa4e0000-0000-0000-0000-000000000000");
        CHECK_STR(g->driver, "550.54.14");
        CHECK_STR(g->cuda, "12.4");
        CHECK_INT(g->state, GPU_OK);
        CHECK_STR(g->note, "");
        CHECK_INT(g->memory_total_mib, 24564);
        CHECK_INT(g->memory_used_mib, 20000);
        CHECK_INT(g->utilization_percent, 98);
        CHECK_INT(g->memory_utilization_percent, 61);
        CHECK_INT(g->temperature_c, 78);
        CHECK_INT(g->memory_temperature_c, GPU_UNKNOWN);
        CHECK_INT(g->power_w, 420);
        CHECK_INT(g->power_limit_w, 450);
        CHECK_INT(g->ecc_uncorrected, GPU_UNKNOWN);
        CHECK_INT(g->n_processes, 2);
        CHECK_INT(g->processes_total, 2); /* one computes and draws */
        CHECK_INT(g->processes[0].pid, 4000000);
        CHECK_INT(g->processes[0].memory_mib, 2048);
        CHECK_STR(g->processes[0].name, "");
        CHECK_INT(g->processes[1].pid, getpid());
        CHECK_INT(g->processes[1].memory_mib, 1024);
        CHECK_STR(g->processes[1].name, "unit-gpu");
        g = &sample.gpus[1];
        CHECK_INT(g->index, 1);
        CHECK_STR(g->name, "NVIDIA H100 80GB HBM3");
        CHECK_INT(g->memory_temperature_c, 52);
        CHECK_INT(g->ecc_uncorrected, 0);
        CHECK_INT(g->memory_total_mib, 81559);
        CHECK_INT(g->power_limit_w, 700);
        CHECK_INT(g->processes[0].memory_mib, GPU_UNKNOWN);
    }
    script("gpu 0 temp 50\n");
    CHECK(UNTIL(src, 10, sample.n == 1 && sample.gpus[0].temperature_c == 50));
    CHECK(UNTIL(src, 10, sample.age_ms < 1000));
    script("count 0\n");
    CHECK(UNTIL(src, 10, sample.n == 0));
    CHECK(strstr(sample.note, "no GPU") != NULL);
    close_clean(src);
}

static const char all_facts[] =
    "gpu 0 temp 60\ngpu 1 temp 61\n"
    "fact 0 nvmlDeviceGetClockInfo/0 1410\nfact 0 nvmlDeviceGetClockInfo/1 1395\n"
    "fact 0 nvmlDeviceGetClockInfo/2 1593\nfact 0 nvmlDeviceGetMaxClockInfo/1 1980\n"
    "fact 0 nvmlDeviceGetCurrentClocksEventReasons 68\nfact 0 nvmlDeviceGetFanSpeed 45\n"
    "fact 0 nvmlDeviceGetPerformanceState 0\nfact 0 nvmlDeviceGetTotalEnergyConsumption 7200000\n"
    "fact 0 nvmlDeviceGetPowerManagementDefaultLimit 400000\n"
    "fact 0 nvmlDeviceGetPowerManagementLimitConstraints 100000 450000\n"
    "fact 0 nvmlDeviceGetTemperatureThreshold/0 92\nfact 0 nvmlDeviceGetTemperatureThreshold/1 89\n"
    "fact 0 nvmlDeviceGetCurrPcieLinkGeneration 1\nfact 0 nvmlDeviceGetMaxPcieLinkGeneration 4\n"
    "fact 0 nvmlDeviceGetCurrPcieLinkWidth 16\nfact 0 nvmlDeviceGetMaxPcieLinkWidth 16\n"
    "fact 0 nvmlDeviceGetPcieReplayCounter 3\nfact 0 nvmlDeviceGetPcieThroughput/1 1024\n"
    "fact 0 nvmlDeviceGetTotalEccErrors/0 5\nfact 0 nvmlDeviceGetTotalEccErrors/1 50\n"
    "fact 0 nvmlDeviceGetTotalEccErrors/10 0\nfact 0 nvmlDeviceGetTotalEccErrors/11 2\n"
    "fact 0 nvmlDeviceGetEccMode 1 0\nfact 0 nvmlDeviceGetRetiredPages/0 4\n"
    "fact 0 nvmlDeviceGetRetiredPages/1 0\nfact 0 nvmlDeviceGetRetiredPagesPendingStatus 0\n"
    "fact 0 nvmlDeviceGetBAR1MemoryInfo 268435456 4194304\n"
    "fact 0 nvmlDeviceGetComputeMode 3\nfact 0 nvmlDeviceGetPersistenceMode 1\n"
    "fact 0 nvmlDeviceGetEncoderUtilization 12 1000000\n"
    "fact 0 nvmlDeviceGetDecoderUtilization 0 1000000\n"
    "fact 0 nvmlDeviceGetNvLinkState/0 1\nfact 0 nvmlDeviceGetNvLinkState/1 0\n"
    "fact 0 nvmlDeviceGetNvLinkVersion/0 4\nfact 0 nvmlDeviceGetNvLinkErrorCounter/0 6\n"
    "fact 0 nvmlDeviceGetNvLinkErrorCounter/3 1\n";

TEST(nvml_all_facts_arrive)
{
    script(all_facts);
    struct gpu_source *src = open_fast();
    if (UNTIL(src, 10, sample.n == 2 && strcmp(sample.gpus[0].topology, ".P") == 0)) {
        const struct gpu_facts *g = &sample.gpus[0];
        static const struct {
            enum gpu_number number;
            int64_t value;
        } rows[] = {{GPU_CLOCK_GRAPHICS, 1410},
                    {GPU_CLOCK_SM, 1395},
                    {GPU_CLOCK_MEMORY, 1593},
                    {GPU_CLOCK_VIDEO, GPU_UNKNOWN},
                    {GPU_CLOCK_SM_MAX, 1980},
                    {GPU_THROTTLE, 68},
                    {GPU_FAN, 45},
                    {GPU_PERFORMANCE, 0},
                    {GPU_ENERGY, 7200000},
                    {GPU_POWER_LIMIT_DEFAULT, 400},
                    {GPU_POWER_LIMIT_MIN, 100},
                    {GPU_POWER_LIMIT_MAX, 450},
                    {GPU_TEMPERATURE_SHUTDOWN, 92},
                    {GPU_TEMPERATURE_SLOWDOWN, 89},
                    {GPU_PCIE_GEN, 1},
                    {GPU_PCIE_GEN_MAX, 4},
                    {GPU_PCIE_WIDTH, 16},
                    {GPU_PCIE_REPLAYS, 3},
                    {GPU_PCIE_RX, 1024},
                    {GPU_PCIE_TX, GPU_UNKNOWN},
                    {GPU_ECC, 1},
                    {GPU_ECC_PENDING, 0},
                    {GPU_ECC_CORRECTED, 5},
                    {GPU_ECC_CORRECTED_TOTAL, 50},
                    {GPU_ECC_UNCORRECTED_TOTAL, 2},
                    {GPU_RETIRED_SINGLE, 4},
                    {GPU_RETIRED_DOUBLE, 0},
                    {GPU_RETIRED_PENDING, 0},
                    {GPU_BAR1_TOTAL, 256},
                    {GPU_BAR1_USED, 4},
                    {GPU_COMPUTE_MODE, 3},
                    {GPU_PERSISTENCE, 1},
                    {GPU_ENCODER, 12},
                    {GPU_DECODER, 0},
                    {GPU_NVLINKS_ACTIVE, 1},
                    {GPU_NVLINK_ERRORS, 7},
                    {GPU_MEMORY_RESERVED, 0},
                    {GPU_MIG, GPU_UNKNOWN}};
        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
            if (g->numbers[rows[i].number] != rows[i].value)
                FAIL_("%s is %lld, not %lld", gpu_numbers[rows[i].number].name,
                      (long long)g->numbers[rows[i].number], (long long)rows[i].value);
        CHECK_INT(g->n_links, 2);
        CHECK(g->links[0].active && !g->links[1].active);
        CHECK_INT(g->links[0].version, 4);
        CHECK_INT(g->links[0].replays, 6);
        CHECK_INT(g->links[0].data_crc, 1);
        CHECK_STR(g->serial, "1324222000123");
        CHECK_STR(g->vbios, "96.00.74.00.01");
        CHECK_STR(g->bus, "00000000:F0:00.0");
        CHECK_INT(sample.gpus[1].numbers[GPU_FAN], GPU_UNKNOWN); /* no fact: unknown, never 0 */
        CHECK_INT(sample.gpus[1].n_links, 0);
    }
    close_clean(src);
}

/* Each function of the library in turn refuses, lies, and hangs: nobody else is troubled. */
TEST(nvml_every_call_may_fail_and_lie)
{
    static const char *const calls[] = {"nvmlDeviceGetClockInfo",
                                        "nvmlDeviceGetMaxClockInfo",
                                        "nvmlDeviceGetCurrentClocksEventReasons",
                                        "nvmlDeviceGetFanSpeed",
                                        "nvmlDeviceGetPerformanceState",
                                        "nvmlDeviceGetTotalEnergyConsumption",
                                        "nvmlDeviceGetPowerManagementDefaultLimit",
                                        "nvmlDeviceGetPowerManagementLimitConstraints",
                                        "nvmlDeviceGetTemperatureThreshold",
                                        "nvmlDeviceGetCurrPcieLinkGeneration",
                                        "nvmlDeviceGetCurrPcieLinkWidth",
                                        "nvmlDeviceGetPcieReplayCounter",
                                        "nvmlDeviceGetPcieThroughput",
                                        "nvmlDeviceGetTotalEccErrors",
                                        "nvmlDeviceGetEccMode",
                                        "nvmlDeviceGetRetiredPages",
                                        "nvmlDeviceGetRetiredPagesPendingStatus",
                                        "nvmlDeviceGetBAR1MemoryInfo",
                                        "nvmlDeviceGetComputeMode",
                                        "nvmlDeviceGetPersistenceMode",
                                        "nvmlDeviceGetEncoderUtilization",
                                        "nvmlDeviceGetDecoderUtilization",
                                        "nvmlDeviceGetNvLinkState",
                                        "nvmlDeviceGetNvLinkErrorCounter",
                                        "nvmlDeviceGetNvLinkVersion",
                                        "nvmlDeviceGetPciInfo_v3",
                                        "nvmlDeviceGetSerial",
                                        "nvmlDeviceGetVbiosVersion",
                                        "nvmlDeviceGetTopologyCommonAncestor",
                                        "nvmlDeviceGetMigMode",
                                        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
                                        "nvmlDeviceGetProcessUtilization",
                                        "nvmlEventSetCreate",
                                        "nvmlDeviceGetSupportedEventTypes",
                                        "nvmlEventSetWait_v2"};
    char text[8192];
    struct gpu_source *src = open_fast();
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        int code = i % 3 == 0 ? 3 : i % 3 == 1 ? 999 : 4;
        snprintf(text, sizeof(text), "%sgpu 1 util %zu\ndo %s * code %d\n", all_facts, i + 1,
                 calls[i], code);
        script(text);
        CHECK(UNTIL(src, 10, sample.n == 2 && sample.gpus[1].utilization_percent == (int)i + 1));
        CHECK_INT(sample.gpus[0].state, GPU_OK);
        CHECK_INT(sample.gpus[0].temperature_c, 60);
    }
    /* absurd numbers */
    int n = snprintf(text, sizeof(text), "gpu 0 temp 60\n");
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        for (int which = -1; which < 4; which++) {
            char of[8] = "";
            if (which >= 0)
                snprintf(of, sizeof(of), "/%d", which);
            if (strstr(calls[i], "NvLinkState") == NULL)
                n += snprintf(text + n, sizeof(text) - (size_t)n, "fact 0 %s%s %s %s\n", calls[i],
                              of, i % 2 == 0 ? "18446744073709551615" : "4294967295", "4294967286");
            if (n > (int)sizeof(text) - 100)
                n = (int)sizeof(text) - 100;
        }
    text[n] = '\0';
    *strrchr(text, '\n') = '\0';
    script(text);
    CHECK(
        UNTIL(src, 10, strstr(sample.gpus[0].note, "impossible") != NULL)); /* take() checks all */
    CHECK_INT(sample.gpus[0].numbers[GPU_CLOCK_SM], GPU_UNKNOWN);
    CHECK_INT(sample.gpus[0].temperature_c, 60);
    close_clean(src);
}

TEST(nvml_gpu_that_falls_off_the_bus)
{
    char text[8192];
    script(all_facts);
    struct gpu_source *src = open_fast();
    CHECK(UNTIL(src, 10, sample.n == 2));
    static const char *const calls[] = {"nvmlDeviceGetClockInfo", "nvmlDeviceGetEncoderUtilization",
                                        "nvmlDeviceGetProcessUtilization"};
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        snprintf(text, sizeof(text), "%sdo %s 1 code 15\nxid 1 79\n", all_facts, calls[i]);
        script(text);
        CHECK(UNTIL(src, 10, sample.gpus[1].state == GPU_ERROR));
        CHECK(strstr(sample.gpus[1].note, "fell off the bus") != NULL);
        CHECK_STR(sample.gpus[1].uuid, "GPU-fa4e0000-0000-0000-0000-000000000001");
        CHECK_INT(sample.gpus[0].state, GPU_OK);
        script(all_facts);
        CHECK(UNTIL(src, 10, sample.gpus[1].state == GPU_OK));
    }
    CHECK(sample.gpus[1].n_xids >= 3 && sample.gpus[1].xids[0].code == 79);
    CHECK(now_us() - sample.gpus[1].xids[0].at_us < 60 * US_PER_S);
    CHECK_INT(sample.gpus[0].n_xids, 0);
    close_clean(src);
}

TEST(nvml_xids_are_kept_and_bounded)
{
    char text[8192];
    int n = snprintf(text, sizeof(text), "%s", all_facts);
    for (int i = 0; i < 100; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, "xid %d %d\n", i % 2, 13 + i);
    n += snprintf(text + n, sizeof(text) - (size_t)n, "xid 0 -5\n"); /* a lie ends the helper */
    script(all_facts);
    struct gpu_source *src = open_fast();
    CHECK(UNTIL(src, 10, sample.n == 2));
    script(text);
    CHECK(UNTIL(src, 10, sample.gpus[0].n_xids == GPU_XIDS_MAX));
    for (int i = 1; i < sample.gpus[0].n_xids; i++)
        CHECK(sample.gpus[0].xids[i - 1].at_us >= sample.gpus[0].xids[i].at_us);
    script(all_facts);
    CHECK(UNTIL(src, 20, sample.gpus[0].age_ms < 300 && sample.gpus[0].state == GPU_OK));
    CHECK(sample.gpus[0].n_xids == GPU_XIDS_MAX); /* also through a restart of the helper */
    close_clean(src);
}

TEST(nvml_mig_instances_are_gpus_of_their_own)
{
    char text[8192];
    snprintf(text, sizeof(text),
             "%sgpu 0 name NVIDIA A100-SXM4-40GB\nfact 0 nvmlDeviceGetMigMode 1 1\n"
             "mig 0 0 NVIDIA A100-SXM4-40GB MIG 3g.20gb\nmig 0 2 NVIDIA A100-SXM4-40GB MIG 1g.5gb\n"
             "process 100 %d 1073741824\nprocess 102 3999999 2147483648\n",
             all_facts, (int)getpid());
    setenv("DROVER_GPU_PIDS", "trust", 1);
    script(text);
    struct gpu_source *src = open_fast();
    if (UNTIL(src, 10, sample.n == 4 && sample.gpus[3].processes[0].dead)) {
        CHECK_INT(sample.gpus[0].parent, -1);
        CHECK_INT(sample.gpus[0].numbers[GPU_MIG], 1);
        const struct gpu_facts *g = &sample.gpus[2];
        CHECK_INT(g->index, 100);
        CHECK_INT(g->parent, 0);
        CHECK_STR(g->profile, "3g.20gb");
        CHECK_STR(g->uuid, "MIG-GPU-fa4e0000-0000-0000-0000-000000000000-0");
        CHECK_INT(g->memory_total_mib, 24564);
        CHECK_INT(g->n_processes, 1);
        CHECK(g->processes[0].pid == getpid() && !g->processes[0].dead);
        CHECK_INT(sample.gpus[3].index, 102);
        CHECK_STR(sample.gpus[3].profile, "1g.5gb");
        CHECK(sample.gpus[3].processes[0].dead && sample.gpus[3].processes[0].name[0] == '\0');
    }
    /* its GPU hangs: so do they, and the other GPU goes on */
    size_t n = strlen(text);
    snprintf(text + n, sizeof(text) - n, "do nvmlDeviceGetMigDeviceHandleByIndex 0 block\n");
    script(text);
    CHECK(UNTIL(src, 20,
                sample.n == 4 && sample.gpus[0].state == GPU_DRIVER_HUNG &&
                    sample.gpus[3].state == GPU_DRIVER_HUNG && sample.gpus[1].age_ms < 300 &&
                    sample.gpus[3].age_ms > 2000));
    CHECK_INT(sample.gpus[1].state, GPU_OK);
    /* counts without sense */
    snprintf(text, sizeof(text),
             "%sfact 0 nvmlDeviceGetMigMode 1 1\nfact 0 "
             "nvmlDeviceGetMaxMigDeviceCount 4000000000\n",
             all_facts);
    script(text);
    CHECK(UNTIL(src, 20, sample.n == 2 && sample.gpus[0].state == GPU_OK));
    unsetenv("DROVER_GPU_PIDS");
    close_clean(src);
}

TEST(nvml_processes_tell_their_share_and_death)
{
    char text[8192];
    snprintf(text, sizeof(text),
             "%sprocess 0 %d 1073741824\nmps 0 0 5\nmps 1 %d 3145728\nprocess 0 4194000 999999999\n"
             "use 0 %d 37\nuse 0 4194000 4000\n",
             all_facts, (int)getpid(), (int)getpid(), (int)getpid());
    setenv("DROVER_GPU_PIDS", "trust", 1);
    script(text);
    struct gpu_source *src = open_fast();
    if (UNTIL(src, 10,
              sample.n == 2 && sample.gpus[0].n_processes == 2 &&
                  sample.gpus[0].processes[1].dead)) {
        const struct gpu_process *p = sample.gpus[0].processes;
        CHECK_INT(p[0].pid, getpid());
        CHECK_INT(p[0].sm_percent, 37);
        CHECK_INT(p[0].kind, 'C');
        CHECK(!p[0].dead);
        CHECK_INT(p[1].memory_mib, 953);
        CHECK_INT(p[1].sm_percent, 0); /* 4000 percent is a lie */
        CHECK_INT(sample.gpus[1].processes[0].kind, 'M');
        CHECK_INT(sample.gpus[1].processes[0].sm_percent, GPU_UNKNOWN);
        CHECK(strstr(sample.gpus[0].note, "impossible process") != NULL); /* pid 0 */
    }
    unsetenv("DROVER_GPU_PIDS");
    close_clean(src);
}

/* ---- how well a GPU is ---- */

TEST(health_is_the_worst_that_is_still_true)
{
    int64_t numbers[GPU_NUMBERS];
    for (int i = 0; i < GPU_NUMBERS; i++)
        numbers[i] = GPU_UNKNOWN;
    char why[GPU_NOTE_SIZE];
    int64_t now = INT64_C(1764000000) * US_PER_S;
    struct gpu_xid xids[3] = {{13, now - US_PER_S}, {45, now}, {31, now}};
    struct gpu_health_in in = {.state = GPU_OK,
                               .numbers = numbers,
                               .ecc_uncorrected = GPU_UNKNOWN,
                               .temperature_c = GPU_UNKNOWN,
                               .xids = xids,
                               .n_xids = 3,
                               .now_us = now};
    CHECK_INT(gpu_health_of(&in, why), GPU_HEALTH_OK); /* faults of programs, and nothing known */
    CHECK_STR(why, "");
    xids[1].code = 63;
    CHECK_INT(gpu_health_of(&in, why), GPU_HEALTH_DEGRADED);
    CHECK(strstr(why, "XID 63") != NULL);
    xids[2].code = 79;
    CHECK_INT(gpu_health_of(&in, why), GPU_HEALTH_FAILED);
    CHECK(strstr(why, "XID 79") != NULL && strstr(why, "bus") != NULL);
    in.now_us = now + 2 * 3600 * US_PER_S; /* an hour later that one says nothing more */
    CHECK_INT(gpu_health_of(&in, why), GPU_HEALTH_DEGRADED);
    in.now_us = now + 25 * 3600 * US_PER_S;
    CHECK_INT(gpu_health_of(&in, why), GPU_HEALTH_OK);
    in.n_xids = 0;
    numbers[GPU_REMAPPED_PENDING] = 1;
    CHECK_INT(gpu_health_of(&in, why), GPU_HEALTH_DEGRADED);
    numbers[GPU_REMAPPED_FAILED] = 1;
    CHECK_INT(gpu_health_of(&in, why), GPU_HEALTH_FAILED);
    numbers[GPU_REMAPPED_FAILED] = numbers[GPU_REMAPPED_PENDING] = 0;
    numbers[GPU_THROTTLE] = 1 | 4; /* idle, power cap: as it should be */
    CHECK_INT(gpu_health_of(&in, why), GPU_HEALTH_OK);
    numbers[GPU_THROTTLE] = 1 << 6;
    CHECK_INT(gpu_health_of(&in, why), GPU_HEALTH_DEGRADED);
    CHECK(strstr(why, "hot") != NULL);
    in.state = GPU_DRIVER_HUNG;
    CHECK_INT(gpu_health_of(&in, why), GPU_HEALTH_FAILED);
    CHECK_INT(gpu_xid_row(79)->code, 79);
    CHECK(gpu_xid_row(4711)->meaning[0] != '\0');
    for (int code = 0; code < 200; code++)
        for (const char *const *t =
                 (const char *const[]){gpu_xid_row(code)->meaning, gpu_xid_row(code)->action, NULL};
             *t != NULL; t++) {
            bool chinese = false;
            for (const struct err_text *x = gpu_texts; x->en != NULL; x++)
                chinese |= strcmp(x->en, *t) == 0;
            if (!chinese)
                FAIL_("no Chinese for: %s", *t);
        }
}

/* The library beside the usual one, for the time of one test. */
static char fake_path[PATH_MAX], fake_old_path[PATH_MAX];

TEST(nvml_first_versions_are_understood)
{
    setenv("DROVER_NVML_PATH", fake_old_path, 1);
    script("gpu 0 util 7\nprocess 0 11 1048576\nprocess 0 12 3145728\nprocess 0 13 2097152\n");
    struct gpu_source *src = open_fast();
    if (UNTIL(src, 10, sample.n == 1)) {
        const struct gpu_facts *g = &sample.gpus[0];
        CHECK_INT(g->utilization_percent, 7);
        CHECK_INT(g->memory_total_mib, 24564);
        CHECK_INT(g->memory_used_mib, 404);
        CHECK_INT(g->power_limit_w, 450);
        CHECK_STR(g->cuda, "12.4");
        CHECK_INT(g->memory_temperature_c, GPU_UNKNOWN);
        CHECK_INT(g->n_processes, 3);
        CHECK_INT(g->processes[0].pid, 12);
        CHECK_INT(g->processes[1].pid, 13);
        CHECK_INT(g->processes[2].pid, 11);
        CHECK_INT(g->processes[2].memory_mib, 1);
    }
    close_clean(src);
    setenv("DROVER_NVML_PATH", fake_path, 1);
}

TEST(nvml_errors_become_states_and_nulls)
{
    script("gpu 0 temp 40\ngpu 1 temp 41\n"
           "do nvmlDeviceGetUtilizationRates * code 3\n"
           "do nvmlDeviceGetPowerUsage 0 code 3\n"
           "do nvmlDeviceGetComputeRunningProcesses_v3 * code 4\n");
    struct gpu_source *src = open_fast();
    if (UNTIL(src, 10, sample.n == 2)) {
        CHECK_INT(sample.gpus[0].state, GPU_OK);
        CHECK_INT(sample.gpus[0].utilization_percent, GPU_UNKNOWN);
        CHECK_INT(sample.gpus[0].power_w, GPU_UNKNOWN);
        CHECK_INT(sample.gpus[1].power_w, 21);
        CHECK_INT(sample.gpus[0].temperature_c, 40);
    }
    script("gpu 0 temp 40\ngpu 1 temp 41\ndo nvmlDeviceGetHandleByIndex_v2 1 code 15\n");
    CHECK(UNTIL(src, 10, sample.gpus[1].state == GPU_ERROR));
    CHECK(strstr(sample.gpus[1].note, "lost") != NULL);
    CHECK_STR(sample.gpus[1].uuid, "GPU-fa4e0000-0000-0000-0000-000000000001"); /* still known */
    CHECK_INT(sample.gpus[1].memory_total_mib, 24564);
    CHECK_INT(sample.gpus[0].state, GPU_OK);
    script("gpu 0 temp 40\ngpu 1 temp 41\ndo nvmlDeviceGetTemperature 0 code 16\n");
    CHECK(UNTIL(src, 10, sample.gpus[0].state == GPU_ERROR && sample.gpus[1].state == GPU_OK));
    CHECK(strstr(sample.gpus[0].note, "reset") != NULL);
    script("gpu 0 temp 40\ndo nvmlDeviceGetMemoryInfo_v2 0 code 999\n");
    CHECK(UNTIL(src, 10, sample.n == 1 && sample.gpus[0].state == GPU_ERROR));
    CHECK(strstr(sample.gpus[0].note, "999") != NULL);
    script("gpu 0 temp 40\ngpu 0 ecc 3\n");
    CHECK(UNTIL(src, 10, sample.gpus[0].ecc_uncorrected == 3));
    CHECK(sample.gpus[0].state == GPU_OK && strstr(sample.gpus[0].note, "3 uncorrected") != NULL);
    script("gpu 0 temp 40\ngpu 0 remap 1\n");
    CHECK(UNTIL(src, 10, sample.gpus[0].state == GPU_ERROR));
    CHECK(strstr(sample.gpus[0].note, "spare") != NULL);
    script("gpu 0 temp 40\ndo nvmlDeviceGetCount_v2 -1 code 18\n");
    CHECK(UNTIL(src, 10, strstr(sample.note, "upgraded") != NULL));
    CHECK_INT(sample.gpus[0].state, GPU_ERROR);
    close_clean(src);
}

TEST(nvml_absent_is_a_note)
{
    setenv("DROVER_NVML_PATH", "/nonexistent/libnvidia-ml.so.1", 1);
    struct gpu_source *src = open_fast();
    CHECK(UNTIL(src, 10, sample.ready));
    CHECK_INT(sample.n, 0);
    CHECK(strstr(sample.note, "no NVIDIA driver") != NULL);
    close_clean(src);

    setenv("DROVER_NVML_PATH", "/etc/passwd", 1); /* there, but no library */
    src = open_fast();
    CHECK(UNTIL(src, 10, sample.ready));
    CHECK(sample.n == 0 && sample.note[0] != '\0');
    close_clean(src);

    setenv("DROVER_NVML_PATH", fake_path, 1);
    script("gpu 0 temp 40\ndo nvmlInit_v2 * code 9\n");
    src = open_fast();
    CHECK(UNTIL(src, 10, sample.ready));
    CHECK(strstr(sample.note, "modprobe") != NULL);
    CHECK_INT(sample.n, 0);
    close_clean(src);
}

TEST(nvml_hang_is_a_state_with_an_age)
{
    script(two_gpus);
    struct gpu_source *src = open_fast();
    CHECK(UNTIL(src, 10, sample.n == 2));
    pid_t before = 0, after = 0;
    CHECK_INT(helpers(&before), 1);
    char hanging[1024];
    snprintf(hanging, sizeof(hanging), "%sdo nvmlDeviceGetPowerUsage 1 block\n", two_gpus);
    script(hanging);
    int64_t from = mono_us();
    CHECK(UNTIL(src, 10, sample.gpus[1].state == GPU_DRIVER_HUNG));
    CHECK(mono_us() - from < 2 * US_PER_S);
    CHECK_INT(sample.gpus[0].state, GPU_OK);                 /* the other is not to blame */
    CHECK_STR(sample.gpus[1].name, "NVIDIA H100 80GB HBM3"); /* the last known */
    CHECK(strstr(sample.gpus[1].note, "nvmlDeviceGetPowerUsage for GPU 1") != NULL);
    CHECK(strstr(sample.note, "not answered") != NULL);
    int64_t age = sample.gpus[1].age_ms, at = sample.at_us;
    CHECK(age >= 300);
    CHECK(UNTIL(src, 10, sample.gpus[1].age_ms > age + 100 && sample.at_us == at));
    /* It comes back by itself before it is ended. */
    script(two_gpus);
    CHECK(UNTIL(src, 10, sample.gpus[1].state == GPU_OK && sample.age_ms < 300));
    CHECK(strstr(sample.note, "did not answer in time (1 times") != NULL);
    CHECK_INT(helpers(&after), 1);
    CHECK_INT(after, before);
    close_clean(src);
}

/* Long enough to tell it: the others go on, and it comes back by itself in time. */
TEST(nvml_one_hung_gpu_does_not_stop_the_others)
{
    script(two_gpus);
    struct gpu_source *src = open_fast();
    CHECK(UNTIL(src, 10, sample.n == 2));
    char hanging[1024];
    snprintf(hanging, sizeof(hanging), "%sdo nvmlDeviceGetClockInfo 1 block\n", two_gpus);
    script(hanging);
    CHECK(UNTIL(src, 20,
                sample.gpus[1].state == GPU_DRIVER_HUNG && sample.gpus[1].age_ms > 2500 &&
                    sample.gpus[0].age_ms < 300));
    CHECK_INT(sample.gpus[0].state, GPU_OK);
    CHECK_STR(sample.gpus[1].uuid, "GPU-fa4e0000-0000-0000-0000-000000000001");
    CHECK(strstr(sample.gpus[1].note, "nvmlDeviceGetClockInfo for GPU 1 for") != NULL);
    int64_t age = sample.gpus[1].age_ms;
    CHECK(UNTIL(src, 10, sample.gpus[1].age_ms > age + 500 && sample.gpus[0].age_ms < 300));
    script(two_gpus);
    CHECK(UNTIL(src, 20, sample.gpus[1].state == GPU_OK && sample.gpus[1].age_ms < 300));
    CHECK_INT(sample.n, 2);
    close_clean(src);
}

/* One that hangs from the start is there with its place, and the others with all they tell. */
TEST(nvml_gpu_that_never_answered)
{
    char hanging[1024];
    snprintf(hanging, sizeof(hanging),
             "%sgpu 2 temp 33\ndo nvmlDeviceGetHandleByIndex_v2 1 block\n", two_gpus);
    script(hanging);
    setenv("DROVER_NVML_DEADLINE_MS", "60", 1);
    struct gpu_source *src = open_fast();
    CHECK(UNTIL(src, 20, sample.n == 3 && sample.gpus[0].age_ms < 500));
    CHECK_INT(sample.gpus[1].index, 1);
    CHECK_INT(sample.gpus[1].state, GPU_DRIVER_HUNG);
    CHECK_STR(sample.gpus[1].uuid, "");
    CHECK_INT(sample.gpus[2].temperature_c, 33);
    setenv("DROVER_NVML_DEADLINE_MS", "300", 1);
    close_clean(src);
}

TEST(nvml_helper_that_stays_hung_is_replaced)
{
    script(two_gpus);
    struct gpu_source *src = open_fast();
    CHECK(UNTIL(src, 10, sample.n == 2));
    pid_t before = 0, after = 0;
    CHECK_INT(helpers(&before), 1);
    script("gpu 0 temp 1\ngpu 1 temp 1\ndo * * block\n");
    CHECK(UNTIL(src, 10, sample.gpus[0].state == GPU_DRIVER_HUNG));
    CHECK(UNTIL(src, 20, helpers(&after) == 1 && after != before)); /* also hangs, in its start */
    CHECK_INT(sample.gpus[0].state, GPU_DRIVER_HUNG);
    script(two_gpus);
    CHECK(UNTIL(src, 20, sample.gpus[0].state == GPU_OK && sample.n == 2));
    CHECK_INT(sample.gpus[0].temperature_c, 78);
    close_clean(src);
}

TEST(nvml_close_does_not_wait_for_a_hung_driver)
{
    script("gpu 0 temp 1\ndo nvmlDeviceGetName 0 block\n");
    struct gpu_source *src = open_fast();
    usleep(200000);
    int64_t from = mono_us();
    close_clean(src);
    CHECK(mono_us() - from < 2 * US_PER_S);
    /* Hung before it ever gave a sample: no GPUs, but the reason. */
    script("gpu 0 temp 1\ndo nvmlInit_v2 * block\n");
    setenv("DROVER_NVML_DEADLINE_MS", "50", 1);
    src = open_fast();
    CHECK(UNTIL(src, 10, sample.ready));
    CHECK_INT(sample.n, 0);
    CHECK(strstr(sample.note, "nvmlInit_v2") != NULL);
    close_clean(src);
    setenv("DROVER_NVML_DEADLINE_MS", "300", 1);
}

/* A process that the kernel will not let go, as a driver in an uninterruptible sleep does: a
 * tracer that stops it on its way out. */
TEST(nvml_never_has_two_helpers)
{
    script(two_gpus);
    struct gpu_source *src = open_fast();
    CHECK(UNTIL(src, 10, sample.n == 2));
    pid_t stuck = 0, other = 0;
    CHECK_INT(helpers(&stuck), 1);
    if (ptrace(PTRACE_SEIZE, stuck, NULL, (void *)PTRACE_O_TRACEEXIT) != 0) {
        printf("# skipped: this host does not allow ptrace\n");
        close_clean(src);
        return;
    }
    char hanging[1024];
    snprintf(hanging, sizeof(hanging), "%sdo * * block\n", two_gpus);
    script(hanging);
    CHECK(UNTIL(src, 10, sample.gpus[0].state == GPU_DRIVER_HUNG));
    /* Killed after a second or so, and still there: nothing new is started beside it. */
    CHECK(UNTIL(src, 20, strstr(sample.note, "cannot be ended") != NULL));
    CHECK_INT(helpers(&other), 1);
    CHECK_INT(other, stuck);
    script(two_gpus);
    usleep(300000);
    take(src);
    CHECK_INT(sample.gpus[0].state, GPU_DRIVER_HUNG);
    ptrace(PTRACE_CONT, stuck, NULL, NULL);
    CHECK(UNTIL(src, 10, sample.gpus[0].state == GPU_OK));
    CHECK(helpers(&other) == 1 && other != stuck);
    close_clean(src);
}

TEST(nvml_crash_is_told_and_mended)
{
    static const char *const ways[] = {"abort", "segv", "exit 3"};
    static const char *const told[] = {"signal 6", "signal 11", "code 3"};
    script(two_gpus);
    struct gpu_source *src = open_fast();
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        CHECK(UNTIL(src, 20, sample.n == 2 && sample.gpus[0].state == GPU_OK));
        pid_t before = 0, after = 0;
        CHECK_INT(helpers(&before), 1);
        char crashing[1024];
        snprintf(crashing, sizeof(crashing), "%sdo nvmlDeviceGetTemperature 1 %s\n", two_gpus,
                 ways[i]);
        script(crashing);
        CHECK(UNTIL(src, 10, strstr(sample.note, told[i]) != NULL));
        CHECK(strstr(sample.note, "nvmlDeviceGetTemperature") != NULL);
        CHECK_INT(sample.n, 2); /* what was known is still shown */
        if (i == 0)             /* and in time it says that it is not true any more */
            CHECK(UNTIL(src, 10, sample.gpus[0].state == GPU_ERROR));
        script(two_gpus);
        CHECK(UNTIL(src, 20, helpers(&after) == 1 && after != before && sample.age_ms < 300));
        CHECK_INT(sample.gpus[0].state, GPU_OK);
        CHECK(strstr(sample.note, "started again") != NULL);
    }
    close_clean(src);
}

TEST(nvml_lies_are_clamped_and_marked)
{
    script("count 1000\n"
           "gpu 0 total 9223372036854775808\n"
           "gpu 1 temp 4294967286\n"
           "gpu 2 util 250\n"
           "gpu 3 used 30000000000000\n"
           "gpu 4 power 4294967295\n"
           "gpu 5 name \xff\xfe bad \x01 name\n"
           "named 6 4000000000\n"
           "process 6 4294967295 1\n"
           "noend uuid\n");
    struct gpu_source *src = open_fast();
    if (UNTIL(src, 20, sample.n > 0)) {
        const struct gpu_facts *g = sample.gpus;
        CHECK_INT(sample.n, GPU_MAX);
        CHECK(strstr(sample.note, "1000 GPUs") != NULL);
        CHECK_INT(g[0].memory_total_mib, GPU_UNKNOWN);
        CHECK(strstr(g[0].note, "impossible memory_total_mib: 8796093022208") != NULL);
        CHECK_INT(g[1].temperature_c, GPU_UNKNOWN);
        CHECK(strstr(g[1].note, "temperature_c: -10") != NULL);
        CHECK_INT(g[2].utilization_percent, 100);
        CHECK(strstr(g[2].note, "utilization: 250") != NULL);
        CHECK(g[3].memory_used_mib <= g[3].memory_total_mib && g[3].note[0] != '\0');
        CHECK_INT(g[4].power_w, GPU_UNKNOWN);
        CHECK(utf8_len(g[5].name, strlen(g[5].name)) != (size_t)-1);
        CHECK(strstr(g[5].name, "bad ? name") != NULL);
        CHECK(strstr(g[5].note, "not clean") != NULL);
        CHECK_INT(g[6].n_processes, 0);
        CHECK(strstr(g[6].note, "4000000000") != NULL);
        CHECK(strlen(g[7].uuid) > 0 && strlen(g[7].uuid) < GPU_UUID_SIZE);
        CHECK_STR(g[8].driver, "550.54.14");
    }
    close_clean(src);
}

/* ---- one suite over every source ---- */

static atomic_bool hammer_stop;

static void *hammer(void *arg)
{
    struct gpu_source *src = arg;
    struct gpu_sample *own = mem_alloc(sizeof(*own));
    static const int held[] = {3, -1, 0, INT_MAX, INT_MIN, 0, 64};
    for (int i = 0; !atomic_load(&hammer_stop); i++) {
        gpu_sample(src, own);
        for (int k = 0; k < own->n; k++)
            if (!facts_good(&own->gpus[k]))
                abort();
        gpu_source_held(src, held, i % (int)ARRAY_LEN(held));
        gpu_source_interval(src, i % 100);
        usleep(1000);
    }
    mem_free(own);
    return NULL;
}

TEST(every_source_keeps_the_promises)
{
    static const char *const specs[] = {"simulated", "simulated:64:a", "none", "nvml"};
    script(two_gpus);
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        struct err e;
        struct gpu_source *src = gpu_source_open(specs[i], &e);
        CHECK(UNTIL(src, 10, sample.ready));
        pthread_t threads[2];
        atomic_store(&hammer_stop, false);
        for (size_t t = 0; t < ARRAY_LEN(threads); t++)
            pthread_create(&threads[t], NULL, hammer, src);
        int64_t at = sample.at_us;
        CHECK(sample.n == 0 || UNTIL(src, 10, sample.at_us > at)); /* time goes on */
        CHECK_INT(sample.n == 0, strcmp(specs[i], "none") == 0);
        CHECK(sample.n > 0 || sample.note[0] != '\0'); /* no GPUs: then why */
        CHECK_INT(sample.simulated, str_starts(specs[i], "simulated"));
        for (int k = 0; k < sample.n; k++) {
            CHECK_INT(sample.gpus[k].index, k);
            CHECK(sample.gpus[k].name[0] != '\0' && str_starts(sample.gpus[k].uuid, "GPU-"));
            for (int other = 0; other < k; other++)
                CHECK(strcmp(sample.gpus[k].uuid, sample.gpus[other].uuid) != 0);
        }
        usleep(100000);
        atomic_store(&hammer_stop, true);
        for (size_t t = 0; t < ARRAY_LEN(threads); t++)
            pthread_join(threads[t], NULL);
        gpu_source_close(src);
        CHECK_INT(helpers(NULL), 0);
    }
}

TEST(nvml_helper_dies_with_its_program)
{
    script("gpu 0 temp 40\ndo nvmlDeviceGetName 0 block\n");
    char *argv[] = {(char *)"unit-gpu", (char *)"--hold-a-source", NULL};
    pid_t program, helper = 0;
    CHECK_INT(posix_spawn(&program, "/proc/self/exe", NULL, NULL, argv, environ), 0);
    int64_t until = mono_us() + 10 * US_PER_S;
    char state = 0;
    while (mono_us() < until && helpers_of(program, &helper) == 0)
        usleep(10000);
    CHECK(helper != 0);
    usleep(300000); /* into the blocked call */
    CHECK(helper != 0 && is_helper(helper, program, &state));
    kill(program, SIGKILL);
    waitpid(program, NULL, 0);
    until = mono_us() + 5 * US_PER_S;
    while (mono_us() < until && kill(helper, 0) == 0)
        usleep(10000);
    /* Gone, or a zombie where nothing reaps orphans. */
    char path[64], line[256] = "";
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)helper);
    FILE *f = fopen(path, "re");
    if (f != NULL) {
        CHECK(fgets(line, sizeof(line), f) != NULL && strstr(line, ") Z ") != NULL);
        fclose(f);
    }
}

static int hold_a_source(void)
{
    struct err e;
    struct gpu_source *src = gpu_source_open("nvml", &e);
    poll(NULL, 0, 30000);
    gpu_source_close(src);
    return 0;
}

/* The stand-ins lie beside this program in the build folder. */
static void find_libraries(void)
{
    char own[PATH_MAX - 64] = "";
    if (readlink("/proc/self/exe", own, sizeof(own) - 1) < 0)
        abort();
    *strrchr(own, '/') = '\0';
    snprintf(fake_path, sizeof(fake_path), "%s/../fake_nvml/libnvidia-ml.so.1", own);
    snprintf(fake_old_path, sizeof(fake_old_path), "%s/../fake_nvml/libnvidia-ml-old.so.1", own);
}

int main(int argc, char **argv)
{
    if (gpu_helper_wanted(argc, argv))
        return gpu_helper_main(argc, argv);
    if (argc == 2 && strcmp(argv[1], "--hold-a-source") == 0)
        return hold_a_source();
    find_libraries();
    char *slash = strrchr(script_path, '/');
    *slash = '\0';
    if (mkdtemp(script_path) == NULL)
        return 1;
    *slash = '/';
    setenv("FAKE_NVML_SCRIPT", script_path, 1);
    setenv("DROVER_NVML_PATH", fake_path, 1);
    setenv("DROVER_NVML_DEADLINE_MS", "300", 1);
    int code = test_run(argc, argv);
    unlink(script_path);
    *slash = '\0';
    rmdir(script_path);
    return code;
}
