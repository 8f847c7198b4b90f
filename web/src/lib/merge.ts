/* How live messages change what a page already shows. Pure, so that every order of arrival can be
 * tested: a slow HTTP answer must never undo a newer live message. */
import { activeStates, endedStates, isEnded, type DroverEvent, type Gpu, type Job, type Line } from '@/api/types'
import { idNumber } from './format'

export interface JobFilter {
  /** Comma separated states, or 'active' or 'ended'; '' is all. */
  state: string
  q: string
  owner: string
}

/** False when `next` is older than what is shown already. */
export function jobIsNewer(shown: Job, next: Job): boolean {
  if (next.attempt !== shown.attempt) return next.attempt > shown.attempt
  if (isEnded(shown.state) && !isEnded(next.state)) return false
  if (shown.state === 'cancelling' && (next.state === 'queued' || next.state === 'running')) return false
  return true
}

export function stateSet(filter: string): readonly string[] {
  if (filter === '') return []
  return filter
    .split(',')
    .flatMap((s): readonly string[] => (s === 'active' ? activeStates : s === 'ended' ? endedStates : [s.trim()]))
    .filter((s) => s !== '')
}

export function jobMatches(job: Job, filter: JobFilter, me: string | null): boolean {
  const states = stateSet(filter.state)
  if (states.length > 0 && !states.includes(job.state)) return false
  if (filter.owner === 'me' && me !== null && job.owner_id !== me) return false
  if (filter.owner !== '' && filter.owner !== 'me' && filter.owner !== 'all' && job.owner_id !== filter.owner) return false
  if (filter.q !== '') {
    const q = filter.q.toLowerCase()
    if (job.id !== q && job.uuid !== q && !job.name.toLowerCase().includes(q)) return false
  }
  return true
}

function newestFirst(a: Job, b: Job): number {
  return a.created_at === b.created_at ? idNumber(b.id) - idNumber(a.id) : a.created_at < b.created_at ? 1 : -1
}

export interface MergedRows {
  rows: Job[]
  /** Rows that came in (+1) or left (-1) at this index, so that the page can keep its place. */
  change: { index: number; by: 1 | -1 } | null
}

/** Puts one live job into a list that is newest first. A job older than the loaded part is left to paging. */
export function mergeJob(rows: Job[], job: Job, filter: JobFilter, me: string | null, complete: boolean): MergedRows {
  const at = rows.findIndex((r) => r.id === job.id)
  const wanted = jobMatches(job, filter, me)
  if (at >= 0) {
    const shown = rows[at] as Job
    if (!jobIsNewer(shown, job)) return { rows, change: null }
    if (!wanted) return { rows: rows.filter((r) => r.id !== job.id), change: { index: at, by: -1 } }
    const next = rows.slice()
    next[at] = job
    return { rows: next, change: null }
  }
  if (!wanted) return { rows, change: null }
  let index = rows.findIndex((r) => newestFirst(job, r) < 0)
  if (index < 0) {
    if (!complete && rows.length > 0) return { rows, change: null }
    index = rows.length
  }
  const next = rows.slice()
  next.splice(index, 0, job)
  return { rows: next, change: { index, by: 1 } }
}

/** A page read again by HTTP replaces what it covers; rows keep newer live versions. */
export function mergePage(rows: Job[], page: Job[]): Job[] {
  const known = new Map(rows.map((r) => [r.id, r]))
  for (const job of page) {
    const shown = known.get(job.id)
    if (!shown || jobIsNewer(shown, job)) known.set(job.id, job)
  }
  return [...known.values()].sort(newestFirst)
}

/** Events are ordered by the server; ids are opaque, so new ones go to the end and none twice. */
export function mergeEvents(shown: DroverEvent[], incoming: DroverEvent[]): DroverEvent[] {
  const known = new Set(shown.map((e) => e.id))
  const fresh = incoming.filter((e) => !known.has(e.id))
  if (fresh.length === 0) return shown
  return [...shown, ...fresh].sort((a, b) => (a.at === b.at ? 0 : a.at < b.at ? -1 : 1))
}

export function mergeGpus(shown: ReadonlyMap<string, Gpu>, incoming: readonly Gpu[]): Map<string, Gpu> {
  const next = new Map(shown)
  for (const gpu of incoming) {
    const old = next.get(gpu.id)
    if (old?.updated_at && gpu.updated_at && gpu.updated_at < old.updated_at) continue
    next.set(gpu.id, gpu)
  }
  return next
}

/** Says whether a topic message follows the one before it on this connection. */
export class SequenceCheck {
  private last: number | null = null
  /** True when messages were lost in between; the caller reads again by HTTP. */
  lost(seq: number | undefined): boolean {
    if (seq === undefined) return false
    const gap = this.last !== null && seq !== this.last + 1
    this.last = seq
    return gap
  }
  reset(): void {
    this.last = null
  }
}

function comesAfter(a: Line, b: Line): boolean {
  return a.attempt === b.attempt ? a.offset > b.offset : a.attempt > b.attempt
}

/* A line may be 100 MiB long; what is beyond this is only in the download. */
const lineCharsMax = 16_384

/** The lines of a log that are in memory: in order of attempt and offset, never more than `limit`. */
export class LogWindow {
  lines: Line[] = []
  /** Lines before the first one were dropped here to stay inside the limit. */
  trimmed = 0
  constructor(readonly limit: number) {}

  get lastOffset(): number {
    return this.lines[this.lines.length - 1]?.offset ?? -1
  }

  /** True when lines are missing between the last one here and these. */
  misses(incoming: readonly Line[]): boolean {
    const last = this.lines[this.lines.length - 1]
    const next = last ? incoming.find((l) => comesAfter(l, last)) : undefined
    return last !== undefined && next !== undefined && next.attempt === last.attempt && next.n > last.n + 1
  }

  /** Adds lines from the live channel or the next page. Returns how many lines left at the top. */
  append(incoming: readonly Line[]): number {
    for (const line of incoming) {
      const last = this.lines[this.lines.length - 1]
      if (last && last.n === line.n && last.attempt === line.attempt) {
        // The rest of a line that was shown unfinished: either the whole of it or its next piece.
        if (!last.partial) continue
        const text = line.offset === last.offset ? line.text : last.text + line.text
        this.lines[this.lines.length - 1] = { ...line, text: text.slice(0, lineCharsMax) }
      } else if (!last || comesAfter(line, last)) {
        this.lines.push(line.text.length > lineCharsMax ? { ...line, text: line.text.slice(0, lineCharsMax) } : line)
      }
    }
    const over = this.lines.length - this.limit
    if (over <= 0) return 0
    this.lines.splice(0, over)
    this.trimmed += over
    return over
  }

  /** Puts an earlier part in front. Returns how many lines came in. */
  prepend(earlier: readonly Line[]): number {
    const first = this.lines[0]
    const fresh = first ? earlier.filter((l) => comesAfter(first, l)) : earlier.slice()
    const room = Math.max(0, this.limit - this.lines.length)
    const taken = fresh.slice(Math.max(0, fresh.length - room))
    this.lines.unshift(...taken)
    return taken.length
  }

  reset(lines: readonly Line[]): void {
    this.lines = []
    this.trimmed = 0
    this.append(lines)
  }
}
