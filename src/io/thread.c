/* Named threads with every signal blocked; see thread.h. */
#include "io/thread.h"

#include <errno.h>
#include <stdio.h>

void thread_signals_block(sigset_t *old)
{
    sigset_t all;
    sigfillset(&all);
    /* A fault of the thread's own must still end the process with a core. */
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_BLOCK, &all, old);
}

void thread_signals_restore(const sigset_t *old)
{
    pthread_sigmask(SIG_SETMASK, old, NULL);
}

int thread_start(pthread_t *out, const char *name, void *(*fn)(void *), void *ctx, struct err *e)
{
    sigset_t old;
    thread_signals_block(&old);
    int rc = pthread_create(out, NULL, fn, ctx);
    thread_signals_restore(&old);
    if (rc != 0) {
        errno = rc;
        return err_sys(e, "starting thread %s", name);
    }
    char shown[16];
    snprintf(shown, sizeof(shown), "%s", name);
    pthread_setname_np(*out, shown);
    return OK;
}
