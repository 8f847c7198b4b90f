import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Live, type LiveMessage, type LiveState } from '@/api/live'

class FakeSocket {
  static all: FakeSocket[] = []
  readyState = 0
  sent: { type: string; topics?: string[] }[] = []
  onopen: (() => void) | null = null
  onmessage: ((e: { data: string }) => void) | null = null
  onclose: (() => void) | null = null
  constructor(readonly address: string) {
    FakeSocket.all.push(this)
  }
  send(text: string): void {
    this.sent.push(JSON.parse(text))
  }
  close(): void {
    this.readyState = 3
  }
  opens(): void {
    this.readyState = 1
    this.onopen?.()
  }
  says(message: LiveMessage): void {
    this.onmessage?.({ data: JSON.stringify(message) })
  }
  breaks(): void {
    this.readyState = 3
    this.onclose?.()
  }
}
const newest = () => FakeSocket.all[FakeSocket.all.length - 1] as FakeSocket

describe('Live', () => {
  let states: LiveState[]
  let live: Live
  let addresses: number
  beforeEach(() => {
    vi.useFakeTimers()
    FakeSocket.all = []
    states = []
    addresses = 0
    live = new Live({
      address: () => Promise.resolve(`ws://t/${++addresses}`),
      onState: (s) => states.push(s),
      open: (a) => new FakeSocket(a) as unknown as WebSocket,
      random: () => 0.5,
    })
  })
  afterEach(() => {
    live.stop()
    vi.useRealTimers()
  })
  const watcher = () => ({ onMessage: vi.fn(), onResync: vi.fn() })
  async function connect() {
    live.start()
    await vi.advanceTimersByTimeAsync(0)
    newest().opens()
  }

  it('shares a topic and leaves it with the last subscriber', async () => {
    await connect()
    const a = watcher()
    const b = watcher()
    const leaveA = live.subscribe('jobs', a)
    const leaveB = live.subscribe('jobs', b)
    expect(newest().sent).toEqual([{ type: 'subscribe', topics: ['jobs'] }])
    newest().says({ type: 'job_update', topic: 'jobs', seq: 1 })
    expect(a.onMessage).toHaveBeenCalledTimes(1)
    expect(b.onMessage).toHaveBeenCalledTimes(1)
    leaveA()
    expect(newest().sent).toHaveLength(1)
    leaveB()
    expect(newest().sent[1]).toEqual({ type: 'unsubscribe', topics: ['jobs'] })
  })

  it('reads again after a gap, whatever topic showed it', async () => {
    await connect()
    const jobs = watcher()
    const gpu = watcher()
    live.subscribe('jobs', jobs)
    live.subscribe('gpu', gpu)
    newest().says({ type: 'x', topic: 'jobs', seq: 1 })
    newest().says({ type: 'x', topic: 'gpu', seq: 2 })
    expect(jobs.onResync).not.toHaveBeenCalled()
    newest().says({ type: 'x', topic: 'gpu', seq: 4 })
    expect(jobs.onResync).toHaveBeenCalledTimes(1)
    expect(gpu.onResync).toHaveBeenCalledTimes(1)
  })

  it('comes back with a new ticket, subscribes again and reads again', async () => {
    await connect()
    const jobs = watcher()
    live.subscribe('jobs', jobs)
    newest().breaks()
    expect(states[states.length - 1]).toBe('waiting')
    await vi.advanceTimersByTimeAsync(600)
    expect(newest().address).toBe('ws://t/2')
    newest().opens()
    expect(newest().sent[0]).toEqual({ type: 'subscribe', topics: ['jobs'] })
    expect(jobs.onResync).toHaveBeenCalledTimes(1)
    newest().says({ type: 'x', topic: 'jobs', seq: 1 })
    expect(jobs.onResync).toHaveBeenCalledTimes(1)
  })

  it('polls while there is no connection, and backs off', async () => {
    await connect()
    const jobs = watcher()
    live.subscribe('jobs', jobs)
    const before = FakeSocket.all.length
    newest().breaks()
    for (let i = 0; i < 60; i++) {
      await vi.advanceTimersByTimeAsync(1000)
      if (newest().readyState === 0) newest().breaks()
    }
    expect(jobs.onResync.mock.calls.length).toBeGreaterThanOrEqual(10)
    const tries = FakeSocket.all.length - before
    expect(tries).toBeGreaterThanOrEqual(5)
    expect(tries).toBeLessThanOrEqual(8)
  })

  it('notices a connection that says nothing', async () => {
    await connect()
    const socket = newest()
    await vi.advanceTimersByTimeAsync(61_000)
    expect(socket.sent.some((m) => m.type === 'ping')).toBe(true)
    expect(FakeSocket.all.length).toBeGreaterThan(1)
  })

  it('stays quiet after stop', async () => {
    await connect()
    live.stop()
    await vi.advanceTimersByTimeAsync(60_000)
    expect(FakeSocket.all).toHaveLength(1)
    expect(states[states.length - 1]).toBe('idle')
  })
})
