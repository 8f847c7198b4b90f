/* How long a job has waited and run, counting on while it does. */
import type { Job } from '@/api/types'
import { toMs } from './time'

export function waitedSeconds(job: Job, nowMs: number): number | null {
  const created = toMs(job.created_at)
  if (created === null) return job.waited_s
  if (job.state === 'queued' || job.state === 'starting') {
    // A retry waits again from its own beginning, which only the server knows.
    return job.attempt > 0 && job.state === 'queued' && job.waited_s !== null ? job.waited_s : Math.max(0, (nowMs - created) / 1000)
  }
  return job.waited_s
}

export function ranSeconds(job: Job, nowMs: number): number | null {
  const started = toMs(job.started_at)
  if (started === null) return null
  if (job.state === 'running' || job.state === 'cancelling') return Math.max(0, (nowMs - started) / 1000)
  const ended = toMs(job.ended_at)
  return job.ran_s ?? (ended === null ? null : (ended - started) / 1000)
}
