/* The live connection: one WebSocket for the whole page, topics shared by whoever shows them.
 *
 * What must stay true: a subscriber that has missed anything (a gap in seq, a new connection,
 * polling while there is none) is told to read again by HTTP; a dead connection is noticed
 * within 40 s; retries back off up to 30 s and start at once when the network comes back. */
import { SequenceCheck } from '@/lib/merge'

export interface LiveMessage {
  type: string
  topic?: string
  seq?: number
  timestamp?: string
  data?: unknown
}

export interface Subscriber {
  onMessage(message: LiveMessage): void
  /** Something may have been missed: read again by HTTP. */
  onResync(): void
}

export type LiveState = 'idle' | 'connecting' | 'open' | 'waiting'

export interface LiveOptions {
  /** Address of the socket with a fresh one-time ticket. */
  address(): Promise<string>
  onState(state: LiveState, retryAtMs: number | null): void
  open?: (address: string) => WebSocket
  pollMs?: number
  pingMs?: number
  random?: () => number
}

const firstRetryMs = 500
const longestRetryMs = 30_000

export class Live {
  private socket: WebSocket | null = null
  private topics = new Map<string, Set<Subscriber>>()
  private sequence = new SequenceCheck()
  private failures = 0
  private wanted = false
  private connecting = false
  private everOpen = false
  private retryTimer: ReturnType<typeof setTimeout> | null = null
  private pingTimer: ReturnType<typeof setInterval> | null = null
  private pollTimer: ReturnType<typeof setInterval> | null = null
  private lastHeardMs = 0

  constructor(private readonly options: LiveOptions) {}

  start(): void {
    if (this.wanted) return
    this.wanted = true
    this.failures = 0
    this.everOpen = false
    void this.connect()
  }

  stop(): void {
    this.wanted = false
    this.clearTimers()
    const socket = this.socket
    this.socket = null
    socket?.close(1000)
    this.options.onState('idle', null)
  }

  /** Tries at once: the person asked, or the network says that it is back. */
  retryNow(): void {
    if (!this.wanted || this.socket || this.connecting) return
    if (this.retryTimer) clearTimeout(this.retryTimer)
    this.retryTimer = null
    void this.connect()
  }

  /** A new connection with a new address (the reader's language changed), then everything is read again. */
  again(): void {
    const socket = this.socket
    if (!socket) return
    this.socket = null
    socket.onclose = null
    socket.close(1000)
    if (this.pingTimer) clearInterval(this.pingTimer)
    this.pingTimer = null
    void this.connect()
  }

  subscribe(topic: string, subscriber: Subscriber): () => void {
    let set = this.topics.get(topic)
    if (!set) {
      set = new Set()
      this.topics.set(topic, set)
      this.send({ type: 'subscribe', topics: [topic] })
    }
    set.add(subscriber)
    return () => {
      const current = this.topics.get(topic)
      if (!current?.delete(subscriber) || current.size > 0) return
      this.topics.delete(topic)
      this.send({ type: 'unsubscribe', topics: [topic] })
    }
  }

  private send(message: object): void {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(message))
  }

  private async connect(): Promise<void> {
    this.connecting = true
    this.options.onState('connecting', null)
    let address: string
    try {
      address = await this.options.address()
    } catch {
      this.connecting = false
      if (this.wanted) this.retryLater()
      return
    }
    this.connecting = false
    if (!this.wanted) return
    const socket = this.options.open ? this.options.open(address) : new WebSocket(address)
    this.socket = socket
    // A browser may wait minutes for a host that does not answer.
    const limit = setTimeout(() => this.lost(socket), 10_000)
    socket.onopen = () => {
      clearTimeout(limit)
      if (this.socket === socket) this.opened()
    }
    socket.onmessage = (event: MessageEvent) => {
      if (this.socket === socket) this.heard(String(event.data))
    }
    socket.onclose = () => {
      clearTimeout(limit)
      this.lost(socket)
    }
  }

  private opened(): void {
    this.sequence.reset()
    this.lastHeardMs = Date.now()
    if (this.pollTimer) clearInterval(this.pollTimer)
    this.pollTimer = null
    if (this.topics.size > 0) this.send({ type: 'subscribe', topics: [...this.topics.keys()] })
    const every = this.options.pingMs ?? 20_000
    this.pingTimer = setInterval(() => {
      if (Date.now() - this.lastHeardMs > 2 * every) {
        if (this.socket) this.lost(this.socket)
      } else {
        this.send({ type: 'ping' })
      }
    }, every)
    this.options.onState('open', null)
    if (this.everOpen || this.failures > 0) this.resync()
    this.everOpen = true
  }

  private heard(text: string): void {
    this.lastHeardMs = Date.now()
    // Only an answered connection ends the back-off: one that is closed at once keeps growing it.
    this.failures = 0
    let message: LiveMessage
    try {
      message = JSON.parse(text) as LiveMessage
    } catch {
      return
    }
    if (!message.topic) return
    const lost = this.sequence.lost(message.seq)
    for (const subscriber of [...(this.topics.get(message.topic) ?? [])]) subscriber.onMessage(message)
    if (lost) this.resync()
  }

  private resync(): void {
    const everyone = new Set<Subscriber>()
    for (const set of this.topics.values()) for (const s of set) everyone.add(s)
    for (const s of everyone) s.onResync()
  }

  private lost(socket: WebSocket): void {
    if (this.socket !== socket) return
    this.socket = null
    socket.onclose = null
    try {
      socket.close()
    } catch {
      // Closing a socket that never opened may throw in old browsers.
    }
    if (this.pingTimer) clearInterval(this.pingTimer)
    this.pingTimer = null
    if (this.wanted) this.retryLater()
  }

  private retryLater(): void {
    const random = this.options.random ?? Math.random
    const wait = Math.min(longestRetryMs, firstRetryMs * 2 ** this.failures) * (0.75 + 0.5 * random())
    this.failures++
    this.retryTimer = setTimeout(() => {
      this.retryTimer = null
      void this.connect()
    }, wait)
    this.pollTimer ??= setInterval(() => this.resync(), this.options.pollMs ?? 5_000)
    this.options.onState('waiting', Date.now() + wait)
  }

  private clearTimers(): void {
    if (this.retryTimer) clearTimeout(this.retryTimer)
    if (this.pingTimer) clearInterval(this.pingTimer)
    if (this.pollTimer) clearInterval(this.pollTimer)
    this.retryTimer = this.pingTimer = this.pollTimer = null
  }
}
