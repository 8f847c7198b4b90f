import { describe, expect, it } from 'vitest'
import type { DroverEvent, Gpu, Job, Line } from '@/api/types'
import { jobIsNewer, jobMatches, LogWindow, mergeEvents, mergeGpus, mergeJob, mergePage, SequenceCheck } from '@/lib/merge'

const all = { state: '', q: '', owner: '' }
function job(n: number, change: Partial<Job> = {}): Job {
  return { id: `j-${n}`, name: `job${n}`, owner: 'a@b', owner_id: 'u-1', command: ['python3', 'x.py'], state: 'running', attempt: 1, created_at: `2026-11-23T12:00:${String(n).padStart(2, '0')}.000000Z`, ...change } as Job
}
function line(n: number, change: Partial<Line> = {}): Line {
  return { n, offset: n * 10, at: '2026-11-23T12:00:00.000000Z', stream: 'out', text: `line ${n}`, attempt: 1, partial: false, ...change }
}
const event = (id: string, at: number) => ({ id, at: `2026-11-23T12:00:0${at}.000000Z`, type: 't', data: {} }) as unknown as DroverEvent

describe('jobIsNewer', () => {
  it('never lets a late answer undo an end', () => {
    expect(jobIsNewer(job(1, { state: 'completed' }), job(1, { state: 'running' }))).toBe(false)
    expect(jobIsNewer(job(1, { state: 'running' }), job(1, { state: 'completed' }))).toBe(true)
    expect(jobIsNewer(job(1, { state: 'cancelling' }), job(1, { state: 'running' }))).toBe(false)
  })
  it('lets a retry begin anew', () => {
    expect(jobIsNewer(job(1, { state: 'failed' }), job(1, { state: 'queued', attempt: 2 }))).toBe(true)
    expect(jobIsNewer(job(1, { state: 'queued', attempt: 2 }), job(1, { state: 'failed', attempt: 1 }))).toBe(false)
  })
})

describe('filters', () => {
  it('know states, groups of states, owner and text', () => {
    expect(jobMatches(job(1), { ...all, state: 'active' }, null)).toBe(true)
    expect(jobMatches(job(1), { ...all, state: 'ended' }, null)).toBe(false)
    expect(jobMatches(job(1), { ...all, state: 'queued,running' }, null)).toBe(true)
    expect(jobMatches(job(1), { ...all, owner: 'me' }, 'u-2')).toBe(false)
    expect(jobMatches(job(1), { ...all, owner: 'u-1' }, 'u-2')).toBe(true)
    expect(jobMatches(job(1), { ...all, q: 'OB1' }, null)).toBe(true)
    expect(jobMatches(job(1), { ...all, q: 'j-1' }, null)).toBe(true)
    expect(jobMatches(job(1), { ...all, q: 'nothing' }, null)).toBe(false)
  })
})

describe('mergeJob', () => {
  const rows = [job(5), job(3), job(1)]
  it('replaces a row in its place', () => {
    const merged = mergeJob(rows, job(3, { state: 'completed' }), all, null, true)
    expect(merged.rows.map((r) => `${r.id} ${r.state}`)).toEqual(['j-5 running', 'j-3 completed', 'j-1 running'])
    expect(merged.change).toBeNull()
  })
  it('puts a new job where it belongs and says where', () => {
    expect(mergeJob(rows, job(6), all, null, true)).toMatchObject({ change: { index: 0, by: 1 } })
    expect(mergeJob(rows, job(4), all, null, true).rows.map((r) => r.id)).toEqual(['j-5', 'j-4', 'j-3', 'j-1'])
  })
  it('leaves a job below the loaded part to paging', () => {
    expect(mergeJob(rows, job(0), all, null, false).rows).toHaveLength(3)
    expect(mergeJob(rows, job(0), all, null, true).rows).toHaveLength(4)
  })
  it('takes a job out that no longer matches', () => {
    const merged = mergeJob(rows, job(3, { state: 'completed' }), { ...all, state: 'active' }, null, true)
    expect(merged).toMatchObject({ change: { index: 1, by: -1 } })
    expect(merged.rows.map((r) => r.id)).toEqual(['j-5', 'j-1'])
  })
  it('ends the same whatever the order of arrival', () => {
    const steps = [job(7, { state: 'queued' }), job(7, { state: 'starting' }), job(7), job(7, { state: 'completed' })]
    for (const order of [[0, 1, 2, 3], [0, 3, 1, 2], [3, 0, 1, 2]]) {
      let now = rows
      for (const i of order) now = mergeJob(now, steps[i] as Job, all, null, true).rows
      expect(now[0]).toMatchObject({ id: 'j-7', state: 'completed' })
      expect(now.filter((r) => r.id === 'j-7')).toHaveLength(1)
    }
  })
})

describe('pages, events, GPUs', () => {
  it('a page keeps newer live rows', () => {
    const merged = mergePage([job(2, { state: 'completed' })], [job(3), job(2), job(1)])
    expect(merged.map((r) => `${r.id} ${r.state}`)).toEqual(['j-3 running', 'j-2 completed', 'j-1 running'])
  })
  it('an event appears once, in order', () => {
    const merged = mergeEvents([event('b', 2)], [event('c', 3), event('b', 2), event('a', 1)])
    expect(merged.map((e) => e.id)).toEqual(['a', 'b', 'c'])
    expect(mergeEvents(merged, [event('a', 1)])).toBe(merged)
  })
  it('an older sample does not replace a newer one', () => {
    const gpu = (utilization: number, second: number) => ({ id: 'gpu-001', utilization, updated_at: `2026-11-23T12:00:0${second}.000000Z` }) as Gpu
    const map = mergeGpus(new Map([['gpu-001', gpu(50, 5)]]), [gpu(10, 4)])
    expect(map.get('gpu-001')?.utilization).toBe(50)
    expect(mergeGpus(map, [gpu(70, 6)]).get('gpu-001')?.utilization).toBe(70)
  })
})

describe('SequenceCheck', () => {
  it('sees a gap once and goes on from there', () => {
    const check = new SequenceCheck()
    expect([7, 8, 9, 11, 12].map((n) => check.lost(n))).toEqual([false, false, false, true, false])
    check.reset()
    expect(check.lost(1)).toBe(false)
    expect(check.lost(undefined)).toBe(false)
  })
})

describe('LogWindow', () => {
  it('takes overlapping pieces without doubling lines', () => {
    const log = new LogWindow(100)
    log.reset([line(1), line(2)])
    log.append([line(2), line(3)])
    log.append([line(3), line(4)])
    expect(log.lines.map((l) => l.n)).toEqual([1, 2, 3, 4])
  })
  it('never holds more than its limit, and counts what left', () => {
    const log = new LogWindow(3)
    expect(log.append([1, 2, 3, 4, 5].map((n) => line(n)))).toBe(2)
    expect(log.lines.map((l) => l.n)).toEqual([3, 4, 5])
    expect(log.trimmed).toBe(2)
  })
  it('finishes a line that came in pieces', () => {
    const log = new LogWindow(10)
    log.append([line(1, { text: 'load', partial: true })])
    log.append([line(1, { text: 'loading', partial: true })])
    expect(log.lines[0]?.text).toBe('loading')
    log.append([line(1, { text: ' done', offset: 17, partial: false }), line(2)])
    expect(log.lines.map((l) => l.text)).toEqual(['loading done', 'line 2'])
    log.append([line(1, { text: 'late' })])
    expect(log.lines).toHaveLength(2)
  })
  it('keeps the beginning of a line without end', () => {
    const log = new LogWindow(10)
    for (let i = 0; i < 9; i++) log.append([line(1, { text: 'x'.repeat(65536), offset: 10 + i, partial: i < 8 })])
    log.append([line(2, { offset: 100 })])
    expect(log.lines).toHaveLength(2)
    expect(log.lines[0]?.text.length).toBe(16384)
    expect(log.lines[0]?.partial).toBe(false)
  })
  it('sees a hole', () => {
    const log = new LogWindow(10)
    log.append([line(1)])
    expect(log.misses([line(1), line(2)])).toBe(false)
    expect(log.misses([line(3)])).toBe(true)
    expect(log.misses([line(1, { attempt: 2, offset: 0 })])).toBe(false)
  })
  it('puts an earlier part in front as far as there is room', () => {
    const log = new LogWindow(4)
    log.append([line(5), line(6)])
    expect(log.prepend([1, 2, 3, 4, 5, 6].map((n) => line(n)))).toBe(2)
    expect(log.lines.map((l) => l.n)).toEqual([3, 4, 5, 6])
  })
  it('keeps attempts apart whose offsets begin again', () => {
    const log = new LogWindow(10)
    log.append([line(1), line(2), line(1, { attempt: 2, offset: 0, text: 'again' })])
    expect(log.lines.map((l) => `${l.attempt}:${l.n}`)).toEqual(['1:1', '1:2', '2:1'])
  })
})
