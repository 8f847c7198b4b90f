/* Reading /proc. A value that a kernel does not give is 0, never an error: a sample without a
 * load average is better than none. */
#include "agent/host.h"

#include "agent/folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { TEXT_MAX = 64 << 10 };

static bool text_of(const char *path, char *to)
{
    return file_head(path, to, TEXT_MAX - 1) > 0;
}

static long long meminfo(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    return at != NULL ? strtoll(at + strlen(key), NULL, 10) / 1024 : 0;
}

void host_facts(struct host_facts *f)
{
    AUTO(mem) char *text = mem_alloc(TEXT_MAX);
    struct utsname u;
    memset(f, 0, sizeof(*f));
    gethostname(f->name, sizeof(f->name) - 1);
    if (uname(&u) == 0)
        snprintf(f->kernel, sizeof(f->kernel), "%s", u.release);
    snprintf(f->os, sizeof(f->os), "Linux");
    if (text_of("/etc/os-release", text)) {
        const char *at = strstr(text, "PRETTY_NAME=\"");
        size_t n = at != NULL ? strcspn(at + 13, "\"\n") : 0;
        if (n > 0 && n < sizeof(f->os)) {
            memcpy(f->os, at + 13, n);
            f->os[n] = '\0';
        }
    }
    f->cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (text_of("/proc/meminfo", text))
        f->memory_mib = meminfo(text, "MemTotal:");
}

static double cpu_percent(struct host_meter *m, const char *text)
{
    long long v[8] = {0};
    if (sscanf(text, "cpu %lld %lld %lld %lld %lld %lld %lld %lld", &v[0], &v[1], &v[2], &v[3],
               &v[4], &v[5], &v[6], &v[7]) < 5)
        return 0;
    long long all = 0, idle = v[3] + v[4];
    for (int i = 0; i < 8; i++)
        all += v[i];
    long long d_all = all - m->all, d_busy = all - idle - m->busy;
    bool first = m->all == 0;
    m->all = all;
    m->busy = all - idle;
    if (first || d_all <= 0 || d_busy < 0)
        return 0;
    return (double)(d_busy * 1000 / d_all) / 10;
}

static void net_bytes(char *text, long long *rx, long long *tx)
{
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        char *colon = strchr(line, ':');
        long long in, out;
        while (*line == ' ')
            line++;
        if (colon == NULL || strncmp(line, "lo:", 3) == 0 ||
            sscanf(colon + 1, "%lld %*d %*d %*d %*d %*d %*d %*d %lld", &in, &out) != 2)
            continue;
        *rx += in;
        *tx += out;
    }
}

void host_sample(struct host_meter *m, const char *disk, struct json *to)
{
    AUTO(mem) char *text = mem_alloc(TEXT_MAX);
    long long rx = 0, tx = 0, total = 0, free_mib = 0;
    double load = 0, cpu = 0;
    struct statvfs fs = {0};
    if (text_of("/proc/stat", text))
        cpu = cpu_percent(m, text);
    if (text_of("/proc/meminfo", text)) {
        total = meminfo(text, "MemTotal:");
        free_mib = meminfo(text, "MemAvailable:");
    }
    if (text_of("/proc/net/dev", text))
        net_bytes(text, &rx, &tx);
    if (text_of("/proc/loadavg", text))
        load = strtod(text, NULL);
    statvfs(disk, &fs);
    unsigned long long unit = fs.f_frsize > 0 ? fs.f_frsize : 1;
    json_open(to, '{');
    json_kreal(to, "cpu_percent", cpu);
    json_kint(to, "memory_total_mib", total);
    json_kint(to, "memory_used_mib", total - free_mib);
    json_kint(to, "disk_total_mib", (int64_t)((fs.f_blocks * unit) >> 20));
    json_kint(to, "disk_used_mib", (int64_t)(((fs.f_blocks - fs.f_bavail) * unit) >> 20));
    json_kint(to, "net_rx_bytes", rx);
    json_kint(to, "net_tx_bytes", tx);
    json_kreal(to, "load1", load);
    json_close(to, '}');
}
