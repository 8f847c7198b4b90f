/* Foreign bytes as a segment file and a journal: opening, reading in every way and going on must
 * neither crash nor read beyond them. The first two bytes say where the one ends and the other
 * begins. Run: fuzz-segment -max_total_time=60 CORPUS (a file of tests/unit/logs_test.c is a good
 * start).
 */
#include "logs/logs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char dir[] = "/dev/shm/drover-fuzz-XXXXXX";

static void write_file(const char *ending, const uint8_t *p, size_t n)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/01/1.%s", dir, ending);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, p, n) != (ssize_t)n)
        abort();
    close(fd);
}

static int no_sync(int fd)
{
    return 0;
}

static long plain_pwrite(int fd, const void *p, size_t n, int64_t at)
{
    return pwrite(fd, p, n, (off_t)at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct logs_disk disk = {plain_pwrite, no_sync};
    static struct logs *l;
    if (l == NULL) {
        char sub[64];
        if (mkdtemp(dir) == NULL ||
            logs_open(dir, &(struct logs_settings){.disk = &disk, .open_max = 1}, &l, NULL) != OK)
            abort();
        snprintf(sub, sizeof(sub), "%s/01", dir);
        mkdir(sub, 0700);
    }
    if (n < 2)
        return 0;
    size_t cut = (size_t)(data[0] | data[1] << 8) % (n - 1);
    logs_delete(l, 1, NULL);
    write_file("seg", data + 2, cut);
    write_file("raw", data + 2 + cut, n - 2 - cut);
    static const struct logs_query queries[] = {
        {.from = LOGS_FROM_START},
        {.from = LOGS_FROM_OFFSET, .at = 1000},
        {.from = LOGS_FROM_LINE, .at = 7, .streams = LOGS_ERR},
        {.from = LOGS_FROM_TIME, .at = 1000000},
        {.from = LOGS_FROM_TAIL, .at = 10},
    };
    for (size_t i = 0; i < ARRAY_LEN(queries); i++) {
        AUTO(arena) struct arena a = {0};
        struct logs_page page;
        logs_read(l, 1, &queries[i], &a, &page, NULL);
    }
    struct logs_stat st;
    if (logs_stat(l, 1, &st, NULL) == OK) {
        logs_append(l, 1, st.have, data, n > 100 ? 100 : n, NULL, NULL);
        logs_end(l, 1, NULL);
    }
    return 0;
}
