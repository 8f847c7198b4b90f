/* The simulated provider: pending for a second, running for SIM_JOB_SECONDS, then completed; a
 * command that contains "exit 1" fails, an image ":missing" is refused at the hand-over and one
 * ":busy" is put off. It keeps nothing: what it reports follows from the time
 * of the submit, so that it survives any restart. */
#include "providers/providers.h"

#include "base/str.h"
#include "base/world.h"

#include <stdio.h>
#include <string.h>

static int sim_submit(const struct provider_job *job, char external_id[64], struct err *e)
{
    char uuid[UUID_TEXT_SIZE];
    if (job->image != NULL && str_ends(job->image, ":missing"))
        return err_set(e, ERR_NOT_FOUND, "there is no image %s", job->image);
    if (job->image != NULL && str_ends(job->image, ":busy"))
        return err_set(e, ERR_UNAVAILABLE, "no machine is free at the moment");
    snprintf(external_id, 64, "sim-%s", uuid_v4(uuid));
    return OK;
}

static bool will_fail(const struct provider_job *job)
{
    for (size_t i = 0; i < job->n_command; i++)
        if (strstr(job->command[i], "exit 1") != NULL)
            return true;
    return false;
}

static int sim_poll(const struct provider_job *job, struct provider_status *out, struct err *e)
{
    int64_t start = job->submitted_at + US_PER_S, end = start + job->seconds * US_PER_S;
    int64_t now = now_us();
    *out = (struct provider_status){.state = PROVIDER_PENDING};
    if (now >= start) {
        out->state = PROVIDER_RUNNING;
        out->started_at = start;
    }
    if (now >= end) {
        out->state = will_fail(job) ? PROVIDER_FAILED : PROVIDER_COMPLETED;
        out->exit_code = will_fail(job) ? 1 : 0;
        out->ended_at = end;
    }
    return OK;
}

static int sim_cancel(const struct provider_job *job, struct err *e)
{
    return OK;
}

const struct provider_ops provider_simulated = {true, sim_submit, sim_poll, sim_cancel};
