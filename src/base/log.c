/* The program's own log. One write(2) a line, so that lines of several processes on one
 * standard error stay whole; a full disk or a closed pipe loses lines, never the program. */
#include "base/log.h"

#include "base/json.h"
#include "base/str.h"
#include "base/world.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOG_FILE_MAX = 10 << 20, LOG_FILES = 10, LOG_LINE_MAX = 8192 };

static const char *const level_names[] = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"};
static enum log_level least_level = LOG_INFO;
static bool json_form;
static int log_fd = 2;
static char log_path[4096];
static long long log_size;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

static void log_open(void)
{
    int fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0) {
        log_fd = 2;
        return;
    }
    log_fd = fd;
    struct stat st;
    log_size = fstat(fd, &st) == 0 ? (long long)st.st_size : 0;
}

static void log_rotate(void)
{
    char from[4200], to[4200];
    for (int i = LOG_FILES - 1; i >= 1; i--) {
        snprintf(from, sizeof(from), "%s.%d", log_path, i);
        snprintf(to, sizeof(to), "%s.%d", log_path, i + 1);
        rename(from, to);
    }
    snprintf(to, sizeof(to), "%s.1", log_path);
    rename(log_path, to);
    close(log_fd);
    log_open();
}

void log_setup(enum log_level least, bool as_json, const char *file)
{
    least_level = least;
    json_form = as_json;
    if (file != NULL && *file != '\0') {
        snprintf(log_path, sizeof(log_path), "%s", file);
        log_open();
    }
}

bool log_level_parse(const char *s, enum log_level *level)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++)
        if (str_eq_nocase(s, level_names[i])) {
            *level = (enum log_level)i;
            return true;
        }
    if (str_eq_nocase(s, "warn")) {
        *level = LOG_WARNING;
        return true;
    }
    return false;
}

void log_line(enum log_level level, const char *room, const char *fmt, ...)
{
    if (level < least_level)
        return;
    char text[LOG_LINE_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20)
            *p = ' '; /* an outside text cannot forge a second line */
    char when[TIME_TEXT_SIZE];
    time_format(now_us(), when);
    AUTO(buf) struct buf line = {0};
    if (json_form) {
        struct json j = json_to(&line);
        json_open(&j, '{');
        json_ktext(&j, "time", when);
        json_ktext(&j, "level", level_names[level]);
        json_ktext(&j, "room", room);
        json_ktext(&j, "text", text);
        json_close(&j, '}');
        buf_addc(&line, '\n');
    } else {
        buf_printf(&line, "%s %-7s %s: %s\n", when, level_names[level], room, text);
    }
    pthread_mutex_lock(&log_lock);
    if (log_path[0] != '\0' && log_size > LOG_FILE_MAX)
        log_rotate();
    ssize_t wrote = write(log_fd, line.data, line.len);
    if (wrote > 0)
        log_size += wrote;
    pthread_mutex_unlock(&log_lock);
}
