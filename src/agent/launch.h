/* The agent's side of the launcher process (agent/shim/launcher.c): starts it, asks it for shims,
 * hears of their pids and ends. It is a small process of the static drover-shim program, so a
 * launch is a fork of a few hundred KiB whatever this process has grown to. Threads: one. */
#ifndef AGENT_LAUNCH_H
#define AGENT_LAUNCH_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct launcher {
    const char *program;     /* path of drover-shim */
    const char *jobs;        /* absolute path of the attempts' folders */
    const char *const *hide; /* paths that no job sees, NULL-terminated; NULL: no isolation */
    int fd;                  /* -1: not running */
    pid_t pid;
};
/* Waits until it is ready and tells what isolation is in force (enum cell_fact bits). */
int launcher_start(struct launcher *l, int *facts, struct err *e);
/* 1 asked, 0 its queue is full (wait for the fd to take more), -1 it is gone. */
int launcher_ask(struct launcher *l, int64_t id);

struct launch_news {
    enum { SHIM_LAUNCHED, SHIM_NOT_LAUNCHED, SHIM_ENDED } what;
    int64_t id; /* not with SHIM_ENDED */
    pid_t pid;
    int why; /* errno of a shim or launcher that could not begin; 0: none */
};
/* 1 and *out, 0 nothing there, -1 it is gone. */
int launcher_hear(struct launcher *l, struct launch_news *out);
void launcher_close(struct launcher *l); /* it goes on until its last shim has ended */

#endif
