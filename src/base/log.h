/* The program's own log: one line an event, text or JSON, to standard error or a rotated file.
 * Secrets never come here. Threads: any; log_setup() before threads start. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_CRITICAL };

/* file NULL: standard error. Rotated at 10 MiB, ten old files kept. */
void log_setup(enum log_level least, bool as_json, const char *file);
/* "debug" … "critical" in any case. */
bool log_level_parse(const char *s, enum log_level *level);
void log_line(enum log_level level, const char *room, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_debug(room, ...)   log_line(LOG_DEBUG, room, __VA_ARGS__)
#define log_info(room, ...)    log_line(LOG_INFO, room, __VA_ARGS__)
#define log_warning(room, ...) log_line(LOG_WARNING, room, __VA_ARGS__)
#define log_error(room, ...)   log_line(LOG_ERROR, room, __VA_ARGS__)

#endif
