/* Starting threads the one way this program does it: named, and deaf to signals, so that only
 * the main thread is ever interrupted. Threads: any. */
#ifndef IO_THREAD_H
#define IO_THREAD_H

#include "base/err.h"

#include <pthread.h>
#include <signal.h>

/* name: at most 15 characters are shown by tools. */
int thread_start(pthread_t *out, const char *name, void *(*fn)(void *), void *ctx, struct err *e);
/* Around a library call that starts threads of its own: they inherit the blocked set. */
void thread_signals_block(sigset_t *old);
void thread_signals_restore(const sigset_t *old);

#endif
